"""What a rate-distortion run leaves behind: points, means and BD-rates, as JSON and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bdrate import BdRate, Curve, bd_rate
from benchmarks.bootstrap import mean_interval
from benchmarks.scores import SCORES


@dataclass(frozen=True)
class Point:
    """One picture at one quality."""

    image: str
    quality: float
    """In the codec's own scale."""
    bytes: int
    """Of the whole file."""
    bpp: float
    encode_seconds: float
    decode_seconds: float
    """Wall times, for planning only: the machine may have been busy."""
    psnr: float
    """RGB, in dB, on 8-bit samples."""
    ms_ssim: float | None = None
    ssimulacra2: float | None = None
    cvvdp: float | None = None
    butteraugli: float | None = None
    flip: float | None = None
    haarpsi: float | None = None
    fsim: float | None = None
    vsi: float | None = None
    sliced_wasserstein: float | None = None
    """Scores beside PSNR: None where the run did not ask for them."""

    def score(self, name: str) -> float | None:
        """Return one of `benchmarks.scores.SCORES`, as computed."""
        value: float | None = getattr(self, name)
        return value


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

    def scores(self) -> list[str]:
        """Return the names of the scores that some point has."""
        return [name for name in SCORES if any(p.score(name) is not None for p in self.points)]

    def curve(self, image: str, score: str = "psnr") -> Curve:
        """Return the curve of one picture, in the score's scale for curves."""
        points = [p for p in self.points if p.image == image]
        return _curve([(p.bpp, p.score(score)) for p in points], score)

    def mean_points(self) -> list[dict[str, float | None]]:
        """Return the mean over the pictures at each quality, from few bits to many."""
        names = self.scores()
        rows = []
        for quality in sorted({point.quality for point in self.points}):
            chosen = [point for point in self.points if point.quality == quality]
            row = {"quality": quality, "bpp": float(np.mean([p.bpp for p in chosen]))}
            rows.append(row | {name: _mean([p.score(name) for p in chosen]) for name in names})
        return sorted(rows, key=lambda row: row["bpp"] or 0.0)

    def mean_curve(self, score: str = "psnr") -> Curve:
        """Return the curve of means over the pictures, in the score's scale for curves."""
        return _curve([(row["bpp"] or 0.0, row.get(score)) for row in self.mean_points()], score)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if a picture has no value, for it would be one over other pictures."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _curve(points: Sequence[tuple[float, float | None]], score: str) -> Curve:
    known = [(bpp, SCORES[score].scale(value)) for bpp, value in points if value is not None]
    return Curve(np.array([bpp for bpp, _ in known]), np.array([value for _, value in known]))


@dataclass(frozen=True)
class Comparison:
    """BD-rates of one codec against one anchor."""

    codec: str
    anchor: str
    score: str
    """At equal what: one of `benchmarks.scores.SCORES`."""
    mean_curve: BdRate | None
    """On the curves of means."""
    per_image: float | None
    """Mean of the pictures' own BD-rates, in percent; None for published anchors."""
    ci95: tuple[float, float] | None
    """The 95 % confidence interval of that mean over pictures, by `mean_interval`."""
    images: int
    """How many pictures have a BD-rate (their curves overlap)."""
    complete_images: int
    """On how many of those the whole wanted rate range is covered."""


def compare(
    test: Measured,
    anchor: Measured,
    bpp_range: tuple[float, float] | None,
    score: str = "psnr",
) -> Comparison:
    """Compare two measured codecs on each picture and on the mean curve."""
    common = sorted(set(test.images()) & set(anchor.images()))
    pairs = [(test.curve(name, score), anchor.curve(name, score)) for name in common]
    all_rates = [bd_rate(one, other, bpp_range) for one, other in pairs]
    rates = [rate for rate in all_rates if rate is not None]
    percents = [rate.percent for rate in rates]
    return Comparison(
        test.spec,
        anchor.spec,
        score,
        bd_rate(test.mean_curve(score), anchor.mean_curve(score), bpp_range),
        float(np.mean(percents)) if percents else None,
        mean_interval(percents),
        len(rates),
        sum(rate.complete for rate in rates),
    )


def compare_curves(
    codec: str, test: Curve, anchor: str, against: Curve, bpp_range: tuple[float, float] | None
) -> Comparison:
    """Compare where only mean curves of PSNR are known."""
    return Comparison(codec, anchor, "psnr", bd_rate(test, against, bpp_range), None, None, 0, 0)


def save(path: Path, head: dict[str, object], codecs: Sequence[Measured], bd: object) -> None:
    """Write a run as JSON, one point a line: the values of the columns that are named once."""
    rows = [
        {
            "spec": codec.spec,
            "settings": codec.settings,
            "versions": codec.versions,
            "mean": [_rounded(row) for row in codec.mean_points()],
            **_table(codec.points),
        }
        for codec in codecs
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = lines({**head, "bd_rates": bd, "codecs": rows})
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> tuple[dict[str, Any], list[Measured]]:
    """Read the head and the codecs of a run that `save` wrote."""
    head = json.loads(path.read_text(encoding="utf-8"))
    codecs = [
        Measured(
            row["spec"],
            row["settings"],
            row["versions"],
            [Point(**dict(zip(row["columns"], point, strict=True))) for point in row["points"]],
        )
        for row in head.pop("codecs")
    ]
    return head, codecs


def _table(points: Sequence[Point]) -> dict[str, object]:
    """Points as rows of numbers under columns, without the columns that none of them has."""
    names = [column.name for column in fields(Point)]
    names = [name for name in names if any(getattr(p, name) is not None for p in points)]
    rows = [_rounded({name: getattr(p, name) for name in names}) for p in points]
    return {"columns": names, "points": [list(row.values()) for row in rows]}


def _rounded(row: Mapping[str, object]) -> dict[str, object]:
    return {key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()}


def lines(value: object, indent: str = "") -> str:
    """Format as JSON with objects and lists of plain values on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and any(isinstance(v, dict | list) and v for v in value.values()):
        inner = (f"{deeper}{json.dumps(k)}: {lines(v, deeper)}" for k, v in value.items())
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        inner = (deeper + lines(v, deeper) for v in value)
        return "[\n" + ",\n".join(inner) + f"\n{indent}]"
    return json.dumps(value)
