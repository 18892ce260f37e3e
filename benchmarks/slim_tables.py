"""The tables of docs/slim.md, from the record of `benchmarks.slim`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._machine import made_on
from benchmarks.adapter_tables import cell, curve
from benchmarks.bdrate import bd_rate
from benchmarks.speed_tables import table

LARGE = "photo"
Row = Mapping[str, Any]


def slim(results: Path) -> str:
    """Draw bits at equal score, and speeds."""
    return drawn(json.loads((results / "slim.json").read_text(encoding="utf-8")))


def drawn(result: Row) -> str:
    """Draw the table of a record."""
    head = (
        "codec",
        "known tracks, SSIMULACRA 2",
        "PSNR",
        "new tracks, SSIMULACRA 2",
        "PSNR",
        "encode, frames/s",
        "decode, frames/s",
    )
    lines = []
    own = result["milliseconds"][LARGE]
    for name, times in result["milliseconds"].items():
        cells = [
            "+0 %" if name == LARGE else cell(rates(result["sets"][kind], name, measure))
            for kind in ("known", "new")
            for measure in ("ssimulacra2", "psnr")
        ]
        for way in ("encode", "decode"):
            faster = own[way] / times[way]
            cells.append(f"{1000 / times[way]:.1f} ({faster:.1f}x)")
        lines.append([name if name.startswith(("AVIF", "H.264")) else _code(name), *cells])
    machine, count = result["machine"], [len(rows) for rows in result["sets"].values()]
    return (
        f"{table(head, lines)}\n\n*{count[0]} frames of known tracks, {count[1]} of new ones."
        f" {made_on(machine)}, one thread.*"
    )


def rates(frames: Sequence[Row], name: str, measure: str) -> list[float]:
    """BD-rates against the large model, in percent, of each frame."""
    found = []
    for frame in frames:
        test, anchor = (curve(frame["points"][one], measure) for one in (name, LARGE))
        if (rate := bd_rate(test, anchor)) is not None:
            found.append(rate.percent)
    return found


def _code(name: str) -> str:
    model, comma, rest = name.partition(",")
    return f"`{model}`{comma}{rest}"
