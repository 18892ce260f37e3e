"""Plots of the report, as SVG (light, with a background: readable on any page)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trellic_training.universal.jobs import end_to_end, mixture_of
from trellic_training.universal.results import Point, end_to_end_of, on_encoder_of
from trellic_training.universal.settings import Target, UniversalRecipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which also colour-blind people can tell apart.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
AXES = {
    "wasserstein": "Wasserstein-1, critic's estimate",
    "sliced": "sliced Wasserstein distance",
    "cross_entropy": "cross entropy of the classifier (nats)",
    "accuracy": "accuracy of the classifier",
}


def draw_all(recipe: UniversalRecipe, points: list[Point], out: Path) -> list[Path]:
    """Draw perception, rates and re-use into a folder; returns the files."""
    figures = {
        "perception": _perception(recipe, points),
        "rates": _rates(recipe, points),
        "reuse": _reuse(recipe, points),
    }
    return [_save(figure, out / f"{name}.svg") for name, figure in figures.items()]


def _perception(recipe: UniversalRecipe, points: list[Point]) -> Figure:
    grid = recipe.perception
    encoder = end_to_end(grid.latent, Target(perception=grid.encoder)).name
    curves = {
        "end to end": end_to_end_of(points, grid.latent, "perception"),
        f"decoders on the encoder of lambda_p = {grid.encoder:g}": on_encoder_of(
            points, encoder, "perception"
        ),
    }
    return _two_panels("Distortion and perception", curves, ("wasserstein", "sliced"))


def _rates(recipe: UniversalRecipe, points: list[Point]) -> Figure:
    curves = {}
    for latent in sorted({recipe.classification.latent, *recipe.rates.latents}):
        own = end_to_end_of(points, latent, "classification")
        if own:
            curves[f"{own[0].bits:.2f} bit ({latent[0]} x {latent[1]})"] = own
    title = "Distortion and classification, end to end"
    return _two_panels(title, curves, ("cross_entropy", "accuracy"), outlined=len(curves))


def _reuse(recipe: UniversalRecipe, points: list[Point]) -> Figure:
    grid = recipe.classification
    curves = {"end to end": end_to_end_of(points, grid.latent, "classification")}
    for c in grid.encoders:
        name = end_to_end(grid.latent, Target(classification=c)).name
        label = f"decoders on the encoder of lambda_c = {c:g}"
        curves[label] = on_encoder_of(points, name, "classification")
    name = mixture_of(recipe).name
    curves["decoders on the mixture's encoder"] = on_encoder_of(points, name, "classification")
    title = "Distortion and classification, encoders re-used"
    return _two_panels(title, curves, ("cross_entropy", "accuracy"))


def _two_panels(
    title: str, curves: dict[str, list[Point]], measures: tuple[str, str], outlined: int = 1
) -> Figure:
    """Draw squared error over two measures; the first ``outlined`` curves are end to end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, measure in zip(panels, measures, strict=True):
        for i, (label, points) in enumerate(curves.items()):
            _curve(axes, label, points, measure, COLOURS[i % len(COLOURS)], i < outlined)
        axes.set_xlabel(AXES[measure])
        axes.set_ylabel("mean squared error")
        axes.grid(alpha=0.3)
    if any(curves.values()):
        panels[1].legend(fontsize=8, frameon=False)  # what is there is measured for all
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _curve(
    axes: Axes, label: str, points: Sequence[Point], measure: str, colour: str, alone: bool
) -> None:
    """Draw points by weight; those of end-to-end models have black outlines, as in the paper."""
    pairs = [(getattr(p, measure), p.mse) for p in points if getattr(p, measure) is not None]
    if pairs:
        x, y = zip(*pairs, strict=True)
        edge = "black" if alone else colour
        line = "-o" if alone else "--s"
        axes.plot(x, y, line, lw=1.4, ms=6, color=colour, markeredgecolor=edge, label=label)


def _save(figure: Figure, path: Path) -> Path:
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "trellic"}):  # equal input gives equal files
        figure.savefig(path, metadata={"Date": None})
    return path
