"""BD-rates by every measure: a table for each set of photos, and the mean over the sets.

::

    python -m benchmarks.rd_tables kodak.json gb82.json own.json --anchor avif

Reads what `benchmarks.rd` wrote and prints Markdown: bits that each codec needs more (positive) or
fewer (negative) than the anchor at equal measure, in percent. The last table compares every Trellic
with the rival of the anchor's kind that is best by that measure, so that a lead over a default is
not taken for one over a codec tuned for that very measure.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bdrate import bd_rate
from benchmarks.labels import full_label
from benchmarks.plan import UsageError
from benchmarks.runs import Measured, compare, load
from benchmarks.scores import SCORES

EMPTY = "-"
OURS = "trellic"
Rates = Mapping[str, Mapping[str, float | None]]
"""BD-rates in percent, by codec and score."""


@dataclass(frozen=True)
class PhotoSet:
    """One set of photos, measured."""

    name: str
    photos: int
    machine: Mapping[str, Any]
    codecs: Mapping[str, Measured]
    """By spec."""


@dataclass(frozen=True)
class How:
    """How curves are compared."""

    anchor: str
    bpp_range: tuple[float, float] | None = None
    """Of the tested codec."""
    per_photo: bool = False
    """Take the mean of the photos' own BD-rates, not the BD-rate of the mean curves."""


def read(path: Path, anchor: str) -> PhotoSet:
    """Read a run of `benchmarks.rd`.

    Raises
    ------
    UsageError
        It has no such anchor.
    """
    head, codecs = load(path)
    by_spec = {codec.spec: codec for codec in codecs}
    if anchor not in by_spec:
        raise UsageError(f"{path} has no codec {anchor}; it has {', '.join(by_spec)}")
    return PhotoSet(path.stem.removeprefix("rd-"), len(head["images"]), head["machine"], by_spec)


def percent(test: Measured, anchor: Measured, score: str, how: How) -> float | None:
    """Return one BD-rate; None where the curves do not meet or not every photo has the score."""
    if score not in test.scores() or score not in anchor.scores():
        return None
    if how.per_photo:
        found = compare(test, anchor, how.bpp_range, score)
        return found.per_image if found.images == len(test.images()) else None
    rate = bd_rate(test.mean_curve(score), anchor.mean_curve(score), how.bpp_range)
    return None if rate is None else rate.percent


def rates(one: PhotoSet, how: How) -> Rates:
    """Return the BD-rates of a set's codecs against the anchor, by every score that it has."""
    anchor = one.codecs[how.anchor]
    return {
        spec: {score: percent(codec, anchor, score, how) for score in anchor.scores()}
        for spec, codec in one.codecs.items()
        if spec != how.anchor
    }


def mean(sets: Sequence[Rates]) -> Rates:
    """Return the mean over sets, where every set has a value."""
    specs = [spec for spec in sets[0] if all(spec in one for one in sets)]
    scores = [
        score for score in SCORES if all(score in row for one in sets for row in one.values())
    ]
    return {
        spec: {score: _mean([one[spec][score] for one in sets]) for score in scores}
        for spec in specs
    }


def best_rivals(sets: Sequence[PhotoSet], how: How) -> list[tuple[str, dict[str, str]]]:
    """Return our codecs' mean BD-rates against the best codec of the anchor's kind by each score.

    The best is that of the lowest mean BD-rate over the sets; the anchor itself is among them.
    """
    against_anchor = mean([rates(one, how) for one in sets])
    kind = how.anchor.partition(":")[0]
    rivals = [spec for spec in against_anchor if spec.partition(":")[0] == kind]
    rows: list[tuple[str, dict[str, str]]] = []
    if not rivals:  # the anchor is the only one of its kind
        return rows
    for spec in (spec for spec in against_anchor if spec.partition(":")[0] == OURS):
        cells = {}
        for score in against_anchor[spec]:
            values = {how.anchor: 0.0} | {
                rival: value
                for rival in rivals
                if (value := against_anchor[rival][score]) is not None
            }
            best = min(values, key=lambda rival: values[rival])
            found = _mean([percent(one.codecs[spec], one.codecs[best], score, how) for one in sets])
            cells[score] = f"{_cell(found)} ({best.partition(':')[2] or 'default'})"
        rows.append((spec, cells))
    return rows


def markdown(rows: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Return a table: a row for each codec, a column for each score, ours in bold."""
    scores = [score for score in SCORES if any(score in cells for _, cells in rows)]
    lines = [
        "| codec | " + " | ".join(SCORES[score].label for score in scores) + " |",
        "|---" + "|---:" * len(scores) + "|",
    ]
    for name, cells in rows:
        shown = f"**{name}**" if name.startswith("Trellic") else name
        lines.append(f"| {shown} | " + " | ".join(cells.get(s, EMPTY) for s in scores) + " |")
    return "\n".join(lines)


def means(sets: Sequence[PhotoSet], how: How) -> str:
    """Return one table, of the codecs that all sets have: means over the sets."""
    found = mean([rates(one, how) for one in sets])
    return markdown(_named(found, _labels(sets)))


def page(sets: Sequence[PhotoSet], how: How, level: str = "##") -> str:
    """Return all tables as Markdown, under headings of a level."""
    labels = _labels(sets)
    each = [rates(one, how) for one in sets]
    parts = [f"BD-rate in % against {labels[how.anchor]}; negative: fewer bits at equal measure."]
    for one, found in zip(sets, each, strict=True):
        date, commit, processor = (one.machine.get(k) for k in ("date", "commit", "processor"))
        title = f"{level} {one.name}, {one.photos} photos"
        made = f"*{date}, commit {commit}, {processor}*"
        parts += [title, markdown(_named(found, labels)), made]
    if len(sets) > 1:
        parts += [f"{level} Mean over {len(sets)} sets", means(sets, how)]
    if rivals := best_rivals(sets, how):
        kind = labels[how.anchor].partition(",")[0]
        parts += [
            f"{level} Against the best {kind} by each measure",
            markdown([(labels[spec], cells) for spec, cells in rivals]),
        ]
    return "\n\n".join(parts) + "\n"


def _labels(sets: Sequence[PhotoSet]) -> dict[str, str]:
    return {
        spec: full_label(spec, codec.settings)
        for one in reversed(sets)
        for spec, codec in one.codecs.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    options = _parser().parse_args(arguments)
    bpp_range = None if options.bpp is None else tuple(options.bpp)
    how = How(options.anchor, bpp_range, options.per_photo)
    try:
        text = page([read(path, options.anchor) for path in options.runs], how)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0


def _named(found: Rates, labels: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    return [
        (labels[spec], {score: _cell(value) for score, value in row.items()})
        for spec, row in found.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _cell(value: float | None) -> str:
    return EMPTY if value is None else f"{value:+.1f}"


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rd_tables",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="JSON", help="one for each set of photos")
    add("--anchor", default="avif", help="what the others are measured against (default avif)")
    add("--bpp", type=float, nargs=2, metavar=("FROM", "TO"), help="bit/pixel of the codec tested")
    add("--per-photo", action="store_true", help="mean of the photos' own BD-rates")
    add("--out", type=Path, metavar="MD", help="write the tables there, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
