"""Tables of docs/scale.md and docs/data-tools.md, from scale.json and data-tools.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BILLION = 1_000_000_000
LOADERS = {"tlc": "Trellic", "avif": "AVIF, speed 6", "jpeg": "JPEG, 4:2:0"}


def rates(results: Path) -> str:
    """Draw files a second by the number of actors."""
    run = _read(results / "scale.json")
    lines = ["| actors | encoding, files/s | decoding, files/s |", "|---:|---:|---:|"]
    lines += [
        f"| {row['actors']} | {_rate(row['encode'])} | {_rate(row['decode'])} |"
        for row in run["rates"]
    ]
    return "\n".join([*lines, "", _made(run)])


def billion(results: Path) -> str:
    """Draw what a billion photos of the size measured take, by one actor's rates."""
    run = _read(results / "scale.json")
    one = next(row for row in run["rates"] if row["actors"] == 1)
    lines = ["| | files/s of a core | core hours | hours of 1,000 cores | TB written |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name in ("encode", "decode"):
        row = one[name]
        hours = BILLION / row["files_per_s"] / 3600
        cells = (_rate(row), f"{hours:,.0f}", f"{hours / 1000:,.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {BILLION * row['bytes_out'] / 1e12:,.1f} |")
    return "\n".join([*lines, "", _made(run)])


def loaders(results: Path) -> str:
    """Draw pictures a second of a DataLoader, and processor time of a picture."""
    run = _read(results / "data-tools.json")
    lines = [
        "| | cut, pictures/s | scaled, pictures/s | cut, ms of a core | scaled, ms of a core "
        "| bytes a photo |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, label in LOADERS.items():
        cells = [
            f"{run[figure][how][name]:.1f}"
            for figure in ("pictures_per_s", "processor_ms")
            for how in ("random", "scale")
        ]
        size = run["bytes"][name] // len(run["photos"])
        lines.append(f"| {label} | {' | '.join(cells)} | {size:,} |")
    return "\n".join([*lines, "", _made(run)])


def _rate(row: dict[str, Any]) -> str:
    return f"{row['files_per_s']:.1f}"


def _made(run: dict[str, Any]) -> str:
    machine = run["machine"]
    return (
        f"*Made on {machine['date'][:10]} from commit {machine['commit']}, {machine['processor']}, "
        f"{run['cores']} cores, load average {run['load']:.1f} at the start.*"
    )


def _read(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


TABLES = {"scale-rates": rates, "scale-billion": billion, "data-loaders": loaders}
