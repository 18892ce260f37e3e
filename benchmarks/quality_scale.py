"""What a Trellic quality means: its mean SSIMULACRA 2, and the settings of other codecs that match.

::

    python -m benchmarks.rd --images DIR --name NAME --codecs trellic,jpeg,webp,avif,jxl \\
        --metrics ssimulacra2 --quality trellic=10,15,20,...,95 --quality jpeg=30,40,50,...
    python -m benchmarks.quality_scale rd-ONE.json rd-TWO.json --out quality-scale.json

Reads runs of `benchmarks.rd`, one for each set of photos, and prints Markdown for docs/quality.md:
the mean score at each quality on each set, and for every setting of the other codecs the quality at
which Trellic has the same mean score. All means over sets weigh each set alike.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bdrate import Curve, frontier
from benchmarks.labels import full_label
from benchmarks.pchip import Pchip
from benchmarks.plan import UsageError
from benchmarks.runs import Measured, lines, load

SCORE = "ssimulacra2"
MEANT = (30, 90)
"""Qualities at which the score is meant to be the quality."""
OURS = "trellic"


@dataclass(frozen=True)
class Step:
    """One quality, and the mean score on each set and over them."""

    quality: float
    sets: dict[str, float]
    mean: float


@dataclass(frozen=True)
class Equal:
    """One setting of another codec, and our quality of the same mean score."""

    codec: str
    setting: float
    score: float
    quality: float | None
    """None where no quality that was measured has this score."""


def scale(runs: dict[str, Measured]) -> list[Step]:
    """Return the mean scores at every quality that all sets were measured at.

    Parameters
    ----------
    runs
        One codec on each set, by the set's name.

    Raises
    ------
    UsageError
        The sets have no quality in common.
    """
    found = {name: _scores(run) for name, run in runs.items()}
    common = sorted(set.intersection(*(set(scores) for scores in found.values())))
    if not common:
        raise UsageError(f"the sets have no quality in common that has a {SCORE}")
    return [
        Step(q, {name: scores[q] for name, scores in found.items()}, _mean(found, q))
        for q in common
    ]


def equals(codec: str, steps: Sequence[Step], ours: Sequence[Step]) -> list[Equal]:
    """Return our quality for each of another codec's steps."""
    better = frontier(Curve(np.array([s.quality for s in ours]), np.array([s.mean for s in ours])))
    if len(better.bpp) < 2:
        raise UsageError(f"{OURS} has fewer than two qualities whose {SCORE} grows")
    at = Pchip(better.quality, better.bpp)
    low, high = better.quality[0], better.quality[-1]
    return [
        Equal(codec, s.quality, s.mean, float(at(s.mean)) if low <= s.mean <= high else None)
        for s in steps
    ]


def off(steps: Sequence[Step]) -> tuple[float, float, str]:
    """Return the largest difference of score and quality where they should agree, and where it is.

    Raises
    ------
    UsageError
        No quality in `MEANT` was measured.
    """
    found = [
        (abs(score - step.quality), step.quality, name)
        for step in steps
        for name, score in step.sets.items()
        if MEANT[0] <= step.quality <= MEANT[1]
    ]
    if not found:
        raise UsageError(f"no quality from {MEANT[0]} to {MEANT[1]} was measured on all sets")
    return max(found)


def scale_table(steps: Sequence[Step]) -> str:
    """Return the first table as Markdown, and the largest difference below it."""
    names = list(steps[0].sets)
    text = [
        "| quality | " + " | ".join(names) + " | mean |",
        "|---:" * (len(names) + 2) + "|",
    ]
    for step in steps:
        cells = [f"{step.sets[name]:.1f}" for name in names] + [f"{step.mean:.1f}"]
        text.append(f"| {step.quality:g} | " + " | ".join(cells) + " |")
    largest, quality, name = off(steps)
    text.append(
        f"\nFrom quality {MEANT[0]} to {MEANT[1]} the mean score differs from the quality by "
        f"{largest:.1f} at most ({name}, quality {quality:g})."
    )
    return "\n".join(text)


def equals_table(rows: Sequence[Equal]) -> str:
    """Return the second table as Markdown, a part for each codec."""
    parts = []
    for codec in dict.fromkeys(row.codec for row in rows):
        text = [f"| {codec} | SSIMULACRA 2 | Trellic quality |", "|---:|---:|---:|"]
        for row in (row for row in rows if row.codec == codec):
            quality = "-" if row.quality is None else f"{row.quality:.0f}"
            text.append(f"| {row.setting:g} | {row.score:.1f} | {quality} |")
        parts.append("\n".join(text))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        runs = {path.stem.removeprefix("rd-"): load(path) for path in options.runs}
        codecs = {name: {one.spec: one for one in found} for name, (_, found) in runs.items()}
        specs = [s for s in next(iter(codecs.values())) if all(s in one for one in codecs.values())]
        ours = options.ours or _only_ours(specs)
        steps = {spec: scale({name: one[spec] for name, one in codecs.items()}) for spec in specs}
        if ours not in steps:
            raise UsageError(f"no codec {ours} in all runs; they have {', '.join(specs)}")
        first = next(iter(codecs.values()))
        rows = [
            row
            for spec in specs
            if not spec.startswith(OURS)
            for row in equals(full_label(spec, first[spec].settings), steps[spec], steps[ours])
        ]
        print(scale_table(steps[ours]), equals_table(rows), sep="\n\n")
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out:
        result = {
            "benchmark": "quality_scale",
            "score": SCORE,
            "codec": ours,
            "versions": first[ours].versions,
            "machines": {name: head["machine"] for name, (head, _) in runs.items()},
            "scale": [asdict(step) for step in steps[ours]],
            "equals": [asdict(row) for row in rows],
        }
        options.out.write_text(lines(result) + "\n", encoding="utf-8")
    return 0


def _scores(run: Measured) -> dict[float, float]:
    """Return the mean score at each quality where every picture has one."""
    found = {row["quality"]: row.get(SCORE) for row in run.mean_points()}
    return {q: score for q, score in found.items() if q is not None and score is not None}


def _mean(found: dict[str, dict[float, float]], quality: float) -> float:
    return sum(scores[quality] for scores in found.values()) / len(found)


def _only_ours(specs: Sequence[str]) -> str:
    found = [spec for spec in specs if spec.partition(":")[0] == OURS]
    if len(found) != 1:
        raise UsageError(f"choose one by --ours: the runs have {', '.join(found) or 'no Trellic'}")
    return found[0]


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality_scale",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "runs", type=Path, nargs="+", metavar="JSON", help="runs of benchmarks.rd, one for each set"
    )
    add("--ours", metavar="CODEC", help="as the runs name it; needed where there are several")
    add("--out", type=Path, metavar="JSON", help="write the numbers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
