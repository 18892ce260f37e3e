"""Tables of docs/universal.md, from the report that `trellic train mnist_universal` left."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import universal_photo
from benchmarks._machine import made_on
from benchmarks.speed_tables import table
from benchmarks.universal_colour import report as colour_report

Row = Mapping[str, Any]


def report_beside(results: Path) -> dict[str, Any]:
    """Read the report that is committed under docs/, beside the results of the benchmarks."""
    path = results.parents[1] / "docs" / "universal" / "report.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def rates(results: Path) -> str:
    """Draw end-to-end models by rate and lambda_c."""
    rows = report_beside(results)["tables"]["End to end: distortion and classification, by rate"]
    head = ("bits", "lambda_c", "MSE", "accuracy", "cross entropy")
    return table(head, [(f"{row['bits']:.2f}", *_classified(row)) for row in rows])


def reuse(results: Path) -> str:
    """Draw decoders on encoders that were trained for other targets, with what that costs."""
    rows = report_beside(results)["tables"]["Re-used encoders: distortion and classification"]
    head = ("encoder trained with", "decoder's lambda_c", "MSE", "accuracy", "cross entropy")
    cells = [
        (
            row["encoder"],
            *_classified(row),
            f"{row['extra loss']:.4f} ({share(row):.1%})",
            at_equal_entropy(row),
        )
        for row in rows
        if row["extra loss"]  # 0: the encoder's own decoder
    ]
    return table((*head, "extra loss", "extra MSE at equal cross entropy"), cells)


def perception(results: Path) -> str:
    """Draw end-to-end models for perception, and decoders on the encoder of one of them."""
    tables = report_beside(results)["tables"]
    alone = tables["End to end: distortion and perception"]
    reused = tables["Decoders on one encoder: distortion and perception"]
    head = ("encoder", "decoder's lambda_p", "MSE", "W1 (critic)", "sliced W", "extra MSE")
    cells = [("end to end", *_perceived(row), "") for row in alone]
    own = max(row["lambda_p"] for row in reused)
    for row in reused:
        if row["lambda_p"] != own:
            extra = f"{extra_mse(row, alone):+.1%}"
            cells.append((f"re-used, lambda_p = {own:g}", *_perceived(row), extra))
    return table(head, cells)


def share(row: Row) -> float:
    """Return the extra loss of a re-used encoder's decoder, relative to training end to end."""
    loss = row["MSE"] + row["lambda_c"] * row["cross entropy"]
    return float(row["extra loss"] / (loss - row["extra loss"]))


def at_equal_entropy(row: Row) -> str:
    """Return the extra squared error over end-to-end models of the same cross entropy, relative."""
    extra = row["extra MSE at equal cross entropy"]
    return "better than all" if extra is None else f"{extra / (row['MSE'] - extra):+.1%}"


def extra_mse(row: Row, alone: list[dict[str, float]]) -> float:
    """Return the extra squared error over the end-to-end model of the same lambda_p, relative."""
    twin = next(other for other in alone if other["lambda_p"] == row["lambda_p"])
    return float(row["MSE"] / twin["MSE"] - 1)


def _classified(row: Row) -> tuple[str, ...]:
    accuracy, entropy = f"{row['accuracy']:.1%}", f"{row['cross entropy']:.3f}"
    return f"{row['lambda_c']:g}", f"{row['MSE']:.5f}", accuracy, entropy


def _perceived(row: Row) -> tuple[str, ...]:
    distances = f"{row['W1 (critic)']:.2f}", f"{row['sliced W']:.4f}"
    return f"{row['lambda_p']:g}", f"{row['MSE']:.5f}", *distances


def spread(run: Mapping[str, Any]) -> str:
    """Draw the means of several seeds, with the least and the greatest value in brackets."""
    head = ("encoder", "decoder", "seeds", "MSE", "accuracy", "sliced W", "extra")
    cells = [
        (
            row["encoder"],
            f"{row['axis']} = {row['weight']:g}",
            f"{len(row['seeds'])}",
            between(row["MSE"], ".5f"),
            between(row.get("accuracy", ()), ".1%"),
            between(row.get("sliced W", ()), ".4f"),
            between(row.get("extra", ()), "+.1%"),
        )
        for row in run["rows"]
    ]
    return table(head, cells)


def between(values: Sequence[float], form: str) -> str:
    """Return a mean and the range of values; nothing of none."""
    if not values:
        return ""
    low, high = (format(end(values), form) for end in (min, max))
    return f"{sum(values) / len(values):{form}} ({low} to {high})"


def seeds(results: Path) -> str:
    """Draw the committed comparison of seeds."""
    return spread(json.loads((results / "universal.json").read_text(encoding="utf-8")))


def cost(results: Path) -> str:
    """Draw what the whole recipe takes on the machine that it was timed on."""
    run = json.loads((results / "universal-cost.json").read_text(encoding="utf-8"))
    head = ("kind of work", "models", "steps", "ms a step", "hours")
    cells = [
        (
            row["kind"],
            f"{row['models']}",
            f"{row['steps']:,}",
            f"{1000 * row['seconds_a_step']:.0f}",
            f"{row['hours']:.1f}",
        )
        for row in run["rows"]
    ]
    cells.append(("all", "", "", "", f"{run['hours']:.0f}"))
    machine = run["machine"]
    where = f"`{run['recipe']}`, one seed; processor time of one core of {machine['processor']}."
    return f"{table(head, cells)}\n\n{where} *Made on {machine['date'][:10]}.*"


def colour(draw: Callable[[Mapping[str, Any]], str]) -> Callable[[Path], str]:
    """Return what draws a table of the colour pictures' experiment, and says how it was made."""

    def drawn(results: Path) -> str:
        run = json.loads((results / "universal-colour.json").read_text(encoding="utf-8"))
        machine = run["machine"]
        told = f"{run['test_pictures']:,} test pictures; {run['steps']} steps of each model."
        return f"{draw(run)}\n\n{told} *{made_on(machine)}, {machine['cores']} cores.*"

    return drawn


def photo(results: Path) -> str:
    """Draw what re-using the encoder of `photo` costs a decoder for perception."""
    run = json.loads((results / "universal-photo.json").read_text(encoding="utf-8"))
    steps = f"{run['steps']:,} steps of each model"
    told = f"{len(run['images'])} photos; {steps}, lambda_p {run['lambda_p']}."
    return f"{universal_photo.markdown(run)}\n\n{told} *{made_on(run['machine'])}.*"


TABLES = {
    "universal-rates": rates,
    "universal-reuse": reuse,
    "universal-perception": perception,
    "universal-cost": cost,
    "universal-seeds": seeds,
    "universal-photo": photo,
    "universal-colour": colour(colour_report.alone_table),
    "universal-colour-reuse": colour(colour_report.reuse_table),
    "universal-colour-files": colour(colour_report.files_table),
}
