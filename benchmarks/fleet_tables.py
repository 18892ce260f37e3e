"""Tables of docs/scale.md, data-tools.md and deploy.md, from their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks._machine import made_on

BILLION = 1_000_000_000
SENT = {"tlc": "Trellic", "avif": "AVIF, speed 6", "webp": "WebP"}
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
        "| SSIMULACRA 2 of a scaled view | bytes a photo |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, label in LOADERS.items():
        cells = [
            f"{run[figure][how][name]:.1f}"
            for figure in ("pictures_per_s", "processor_ms")
            for how in ("random", "scale")
        ]
        cells.append(f"{run['view_ssimulacra2'][name]:.1f}")
        size = run["bytes"][name] // len(run["photos"])
        lines.append(f"| {label} | {' | '.join(cells)} | {size:,} |")
    return "\n".join([*lines, "", _made(run)])


def service_load(results: Path) -> str:
    """Draw throughput and latencies of the service, by direction."""
    part = _read(results / "serve.json")["throughput"]
    lines = [
        "| | of the library's throughput | pictures/s | p50, random, ms | p99, random, ms "
        "| p99 / p50 | p50, even, ms | p99, even, ms | p99 / p50 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("encode", "decode"):
        row = part[name]
        cells = [f"{row['share']:.1%}".replace("%", " %"), f"{row['service_per_s']:.1f}"]
        for arrivals in ("at_80_percent", "at_80_percent_evenly"):
            p50, p99 = row[arrivals]["p50_ms"], row[arrivals]["p99_ms"]
            cells += [f"{p50:,.0f}", f"{p99:,.0f}", f"{p99 / p50:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _made(part)])


def triton_load(results: Path) -> str:
    """Draw throughput and latencies of a Triton server, by direction."""
    run = _read(results / "triton.json")
    lines = [
        "| | of the library's throughput | pictures/s | p50, ms | p99, ms | p99 / p50 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in ("encode", "decode"):
        row = run[name]
        p50, p99 = (row["at_80_percent_evenly"][one] for one in ("p50_ms", "p99_ms"))
        cells = [f"{row['share']:.1%}".replace("%", " %"), f"{row['server_per_s']:.1f}"]
        cells += [f"{p50:,.0f}", f"{p99:,.0f}", f"{p99 / p50:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _made(run)])


def service_formats(results: Path) -> str:
    """Draw what the same service sends in other formats, at equal score."""
    part = _read(results / "serve.json")["formats"]
    lines = [
        "| | quality | SSIMULACRA 2 | bytes | pictures/s |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {label} | {row['quality']} | {row['ssimulacra2']:.1f} | {row['bytes']:,} "
        f"| {row['per_s']:.1f} |"
        for name, label in SENT.items()
        for row in [part[name]]
    ]
    return "\n".join([*lines, "", _made(part)])


def _rate(row: dict[str, Any]) -> str:
    return f"{row['files_per_s']:.1f}"


def _made(run: dict[str, Any]) -> str:
    busy = f"{run['cores']} cores, load average {run['load']:.1f} at the start"
    return f"*{made_on(run['machine'])}, {busy}.*"


def _read(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


TABLES = {
    "scale-rates": rates,
    "scale-billion": billion,
    "data-loaders": loaders,
    "service-load": service_load,
    "service-formats": service_formats,
    "triton-load": triton_load,
}
