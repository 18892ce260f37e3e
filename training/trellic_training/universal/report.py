"""The report of a run: tables in Markdown and JSON, plots beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trellic_training.universal.jobs import all_jobs, end_to_end, mixture_of
from trellic_training.universal.plots import draw_all
from trellic_training.universal.results import (
    Point,
    end_to_end_of,
    on_encoder_of,
    penalty_at,
    read_points,
)
from trellic_training.universal.settings import Target, UniversalRecipe

Cell = str | float | None


def write_report(recipe: UniversalRecipe, out: Path) -> Path:
    """Write ``report.md``, ``report.json`` and the plots from what is finished so far."""
    points = read_points(out)
    jobs = all_jobs(recipe)
    done = {p.name for p in points}
    plan = json.loads((out / "plan.json").read_text())
    tables = {
        "End to end: distortion and perception": perception_table(recipe, points),
        "Decoders on one encoder: distortion and perception": universal_perception(recipe, points),
        "End to end: distortion and classification, by rate": rates_table(recipe, points),
        "Re-used encoders: distortion and classification": reuse_table(recipe, points),
        "Penalty of re-using an encoder": penalty_table(recipe, points),
    }
    plots = draw_all(recipe, points, out)
    head = [f"# {recipe.name}: report", "", *_facts(plan, out), ""]
    missing = [job.name for job in jobs if job.name not in done]
    if missing:
        head += [f"**Partial: {len(missing)} models are missing:** {', '.join(missing)}", ""]
    body = [line for title, rows in tables.items() for line in _section(title, rows)]
    shown = [*plots, *out.glob("digits.png")]
    images = [line for path in shown for line in (f"![{path.stem}]({path.name})", "")]
    path = out / "report.md"
    path.write_text("\n".join(head + images + body))
    (out / "report.json").write_text(json.dumps({**plan, "tables": tables}, indent=1))
    return path


def encoder_names(recipe: UniversalRecipe) -> dict[str, str]:
    """Return a label for each re-used encoder of the classification grid, by job name."""
    grid = recipe.classification
    jobs = [end_to_end(grid.latent, Target(classification=c)) for c in grid.encoders]
    labels = [f"lambda_c = {c:g}" for c in grid.encoders]
    mixture = "mixture " + " + ".join(f"{c:g}" for c in grid.mixture)
    names = {job.name: label for job, label in zip(jobs, labels, strict=True)}
    names[mixture_of(recipe).name] = mixture
    for latent in recipe.rates.latents if recipe.rates.mixture else ():
        names[mixture_of(recipe, latent).name] = f"{mixture}, {latent[0]} x {latent[1]}"
    return names


def perception_table(recipe: UniversalRecipe, points: list[Point]) -> list[dict[str, Cell]]:
    """Rows of the end-to-end models by lambda_p."""
    alone = end_to_end_of(points, recipe.perception.latent, "perception")
    return [_perception_row(p) for p in alone]


def universal_perception(recipe: UniversalRecipe, points: list[Point]) -> list[dict[str, Cell]]:
    """Rows of decoders on the perceptual encoder, with what they lose to end-to-end models."""
    grid = recipe.perception
    alone = end_to_end_of(points, grid.latent, "perception")
    encoder = end_to_end(grid.latent, Target(perception=grid.encoder)).name
    measured = [p for p in alone if p.wasserstein is not None]
    return [
        {
            **_perception_row(p),
            "extra MSE at equal W1": penalty_at(p, measured, "wasserstein"),
            "extra MSE at equal sliced W": penalty_at(p, alone, "sliced"),
        }
        for p in on_encoder_of(points, encoder, "perception")
    ]


def rates_table(recipe: UniversalRecipe, points: list[Point]) -> list[dict[str, Cell]]:
    """Rows of the end-to-end models of every rate by lambda_c."""
    latents = sorted({recipe.classification.latent, *recipe.rates.latents})
    return [
        {"bits": p.bits, "latent": f"{p.latent[0]} x {p.latent[1]}", **_class_row(p)}
        for latent in latents
        for p in end_to_end_of(points, latent, "classification")
    ]


def reuse_table(recipe: UniversalRecipe, points: list[Point]) -> list[dict[str, Cell]]:
    """Rows of every encoder and decoder, with the losses to end-to-end models.

    "extra loss" compares with the end-to-end model of the same target, in the loss both minimise;
    "extra MSE" with end-to-end models of the same cross entropy.
    """
    rows: list[dict[str, Cell]] = []
    for name, label in encoder_names(recipe).items():
        for p in on_encoder_of(points, name, "classification"):
            alone = end_to_end_of(points, p.latent, "classification")
            own = {other.target: other.loss for other in alone}
            extra = p.loss - own[p.target] if p.target in own else None
            at_equal = penalty_at(p, alone, "cross_entropy")
            row = {"encoder": label, **_class_row(p), "extra loss": extra}
            rows.append({**row, "extra MSE at equal cross entropy": at_equal})
    return rows


def penalty_table(recipe: UniversalRecipe, points: list[Point]) -> list[dict[str, Cell]]:
    """One row an encoder: mean and largest loss over the targets that have end-to-end models."""
    rows: list[dict[str, Cell]] = []
    for label in encoder_names(recipe).values():
        own = [r for r in reuse_table(recipe, points) if r["encoder"] == label]
        extra = [float(r["extra loss"]) for r in own if r["extra loss"] is not None]
        if extra:
            mean = sum(extra) / len(extra)
            row: dict[str, Cell] = {"encoder": label, "targets": str(len(extra))}
            rows.append({**row, "mean extra loss": mean, "largest": max(extra)})
    return rows


def _perception_row(p: Point) -> dict[str, Cell]:
    row = {"lambda_p": p.target.perception, "MSE": p.mse, "W1 (critic)": p.wasserstein}
    return {**row, "sliced W": p.sliced, "accuracy": p.accuracy}


def _class_row(p: Point) -> dict[str, Cell]:
    row = {"lambda_c": p.target.classification, "MSE": p.mse, "accuracy": p.accuracy}
    return {**row, "cross entropy": p.cross_entropy}


def _facts(plan: dict[str, Any], out: Path) -> list[str]:
    recipe, limits = plan["recipe"], plan["limits"]
    classifier = limits["classifier"]
    spent = [json.loads(p.read_text()) for p in sorted((out / "results").glob("*.json"))]
    minutes, busy = (sum(job[k] for job in spent) / 60 for k in ("seconds", "cpu_seconds"))
    return [
        f"- {plan['epochs']:.2f} epochs a model (papers: 30), batches of {recipe['batch']}, widths "
        f"times {recipe['width']:g}, seed {recipe['seed']}: one run a model, no error bars",
        f"- training of {len(spent)} models: {minutes:.1f} min, {busy:.1f} min of one core",
        f"- classifier on originals: accuracy {classifier['accuracy']:.4f}, cross entropy "
        f"{classifier['cross_entropy']:.4f}",
        f"- sliced W between the test digits and as many training digits: "
        f"{limits['sliced_floor']:.4f}",
    ]


def _section(title: str, rows: Sequence[dict[str, Cell]]) -> list[str]:
    if not rows:
        return [f"## {title}", "", "Nothing measured yet.", ""]
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_text(row[name]) for name in head)} |" for row in rows]
    return [f"## {title}", "", *lines, ""]


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:.4g}"
