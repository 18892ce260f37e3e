"""Measured points of an out folder, and what re-using an encoder costs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trellic_training.universal.settings import Latent, Target


@dataclass(frozen=True)
class Point:
    """One decoder, measured on the test digits.

    Attributes
    ----------
    name, latent, encoder : of its job
    joint : how many decoders the job trained at once
    target : what its decoder was trained on
    bits : a picture
    mse : mean squared error of pixels in [0, 1]
    accuracy, cross_entropy : of the classifier on decoded pictures; the latter in nats
    sliced : sliced 2-Wasserstein distance to the originals
    wasserstein : 1-Wasserstein distance as a critic estimates it, where it was measured
    """

    name: str
    latent: Latent
    encoder: str | None
    joint: int
    target: Target
    bits: float
    mse: float
    accuracy: float
    cross_entropy: float
    sliced: float
    wasserstein: float | None

    @property
    def loss(self) -> float:
        """What a decoder for classification minimises."""
        return self.mse + self.target.classification * self.cross_entropy


def read_points(out: Path) -> list[Point]:
    """Read every finished job's points, in the order of names."""
    return [
        point
        for path in sorted((out / "results").glob("*.json"))
        for point in _points(json.loads(path.read_text()))
    ]


def _points(job: dict[str, Any]) -> list[Point]:
    measured: list[dict[str, Any]] = job["points"]
    return [
        Point(
            **{name: job[name] for name in ("name", "encoder", "bits")},
            latent=tuple(job["latent"]),
            joint=len(measured),
            target=Target(perception=m["perception"], classification=m["classification"]),
            **{k: m[k] for k in ("mse", "accuracy", "cross_entropy", "sliced")},
            wasserstein=m.get("wasserstein"),
        )
        for m in measured
    ]


def end_to_end_of(points: Iterable[Point], latent: Latent, axis: str) -> list[Point]:
    """Return end-to-end points of one rate along "perception" or "classification", by weight."""
    other = {"perception": "classification", "classification": "perception"}[axis]
    chosen = [
        p
        for p in points
        if p.encoder is None
        and p.joint == 1
        and p.latent == latent
        and not getattr(p.target, other)
    ]
    return sorted(chosen, key=lambda p: float(getattr(p.target, axis)))


def on_encoder_of(points: Iterable[Point], encoder: str, axis: str) -> list[Point]:
    """Return an encoder's points by weight: its own decoders, and those trained for it later."""
    found = [p for p in points if encoder in (p.encoder, p.name)]
    return sorted(found, key=lambda p: float(getattr(p.target, axis)))


def penalty_at(point: Point, alone: list[Point], measure: str) -> float | None:
    """Return the extra squared error of a point over end-to-end models that are as good otherwise.

    ``alone`` are end-to-end points, and ``measure`` (lower is better) is where they must be as
    good. Their squared error is interpolated at the point's value, along the lower convex hull,
    since two models can share the time. A point that is worse there than every end-to-end model is
    compared with the one of least squared error; None where it is better than all.
    """
    hull = lower_hull([(float(getattr(p, measure)), p.mse) for p in alone])
    if not hull or getattr(point, measure) < hull[0][0]:
        return None
    x, y = np.array(hull).T
    return float(point.mse - np.interp(getattr(point, measure), x, y))


def lower_hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the falling part of the lower convex hull of (x, y), by x (Andrew 1979)."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if hull and y >= hull[-1][1]:
            continue
        while len(hull) > 1 and _above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
