"""What a rate-distortion run leaves behind: points, means and BD-rates, as JSON and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bdrate import BdRate, Curve, bd_rate


@dataclass(frozen=True)
class Point:
    """One picture at one quality."""

    image: str
    quality: float
    """In the codec's own scale."""
    bytes: int
    """Of the whole file."""
    bpp: float
    psnr: float
    """RGB, in dB, on 8-bit samples."""
    ms_ssim: float | None
    encode_seconds: float
    decode_seconds: float
    """Wall times, for planning only: the machine may have been busy."""


@dataclass(frozen=True)
class Measured:
    """A codec over all pictures and qualities."""

    spec: str
    settings: dict[str, str | int | float]
    versions: dict[str, str]
    points: list[Point] = field(default_factory=list)

    def images(self) -> list[str]:
        """Return the pictures' names, sorted."""
        return sorted({point.image for point in self.points})

    def curve(self, image: str) -> Curve:
        """Return the curve of one picture."""
        points = [point for point in self.points if point.image == image]
        return Curve(np.array([p.bpp for p in points]), np.array([p.psnr for p in points]))

    def mean_points(self) -> list[dict[str, float | None]]:
        """Return the mean over the pictures at each quality, from few bits to many."""
        rows = []
        for quality in sorted({point.quality for point in self.points}):
            chosen = [point for point in self.points if point.quality == quality]
            similarities = [p.ms_ssim for p in chosen if p.ms_ssim is not None]
            rows.append(
                {
                    "quality": quality,
                    "bpp": float(np.mean([p.bpp for p in chosen])),
                    "psnr": float(np.mean([p.psnr for p in chosen])),
                    "ms_ssim": float(np.mean(similarities)) if similarities else None,
                }
            )
        return sorted(rows, key=lambda row: row["bpp"] or 0.0)

    def mean_curve(self) -> Curve:
        """Return the curve of means over the pictures."""
        rows = self.mean_points()
        return Curve(np.array([r["bpp"] for r in rows]), np.array([r["psnr"] for r in rows]))


@dataclass(frozen=True)
class Comparison:
    """BD-rates of one codec against one anchor."""

    codec: str
    anchor: str
    mean_curve: BdRate | None
    """On the curves of means."""
    per_image: float | None
    """Mean of the pictures' own BD-rates, in percent; None for published anchors."""
    ci95: float | None
    """Half the width of the 95 % confidence interval of that mean (normal approximation)."""
    images: int
    """How many pictures have a BD-rate (their curves overlap)."""
    complete_images: int
    """On how many of those the whole wanted rate range is covered."""


def compare(test: Measured, anchor: Measured, bpp_range: tuple[float, float] | None) -> Comparison:
    """Compare two measured codecs on each picture and on the mean curve."""
    common = sorted(set(test.images()) & set(anchor.images()))
    all_rates = [bd_rate(test.curve(name), anchor.curve(name), bpp_range) for name in common]
    rates = [rate for rate in all_rates if rate is not None]
    percents = [rate.percent for rate in rates]
    spread = float(np.std(percents, ddof=1)) if len(percents) > 1 else None
    return Comparison(
        test.spec,
        anchor.spec,
        bd_rate(test.mean_curve(), anchor.mean_curve(), bpp_range),
        float(np.mean(percents)) if percents else None,
        None if spread is None else 1.96 * spread / len(percents) ** 0.5,
        len(rates),
        sum(rate.complete for rate in rates),
    )


def compare_curves(
    codec: str, test: Curve, anchor: str, against: Curve, bpp_range: tuple[float, float] | None
) -> Comparison:
    """Compare where only mean curves are known."""
    return Comparison(codec, anchor, bd_rate(test, against, bpp_range), None, None, 0, 0)


def save(path: Path, head: dict[str, object], codecs: Sequence[Measured], bd: object) -> None:
    """Write a run as JSON, one point a line."""
    rows = [
        {
            "spec": codec.spec,
            "settings": codec.settings,
            "versions": codec.versions,
            "mean": [_rounded(row) for row in codec.mean_points()],
            "points": [_rounded(asdict(point)) for point in codec.points],
        }
        for codec in codecs
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _lines({**head, "bd_rates": bd, "codecs": rows})
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> tuple[dict[str, Any], list[Measured]]:
    """Read the head and the codecs of a run that `save` wrote."""
    head = json.loads(path.read_text(encoding="utf-8"))
    codecs = [
        Measured(
            row["spec"],
            row["settings"],
            row["versions"],
            [Point(**point) for point in row["points"]],
        )
        for row in head.pop("codecs")
    ]
    return head, codecs


def _rounded(row: Mapping[str, object]) -> dict[str, object]:
    return {key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()}


def _lines(value: object, indent: str = "") -> str:
    """Format as JSON with objects of plain values on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and any(isinstance(v, dict | list) and v for v in value.values()):
        inner = (f"{deeper}{json.dumps(k)}: {_lines(v, deeper)}" for k, v in value.items())
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        inner = (deeper + _lines(v, deeper) for v in value)
        return "[\n" + ",\n".join(inner) + f"\n{indent}]"
    return json.dumps(value)
