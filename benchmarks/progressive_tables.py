"""Tables and the plot of docs/progressive.md, from records of `benchmarks.progressive`.

``python -m benchmarks.progressive_tables`` draws the plot.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.progressive import CODINGS, more_bits
from benchmarks.speed_tables import table

ROOT = Path(__file__).resolve().parent
SETS: Final = ("kodak", "gb82")
NAMES: Final = {
    "layers": "layers (`--progressive`)",
    "weighed": "layers of the first kind",
    "ordered": "one layer, steps in 8 parts by scale",
    "steps": "ordinary file, cut at its steps",
    "jpeg": "progressive JPEG (libjpeg-turbo)",
    "jxl": "progressive JPEG XL (libjxl)",
}
SCORES: Final = {"psnr": "PSNR", "ssimulacra2": "SSIMULACRA 2"}


def _load(results: Path, name: str) -> dict[str, Any] | None:
    path = results / f"progressive-{name}.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _measured(record: dict[str, Any]) -> dict[str, str]:
    """Return the codings of a record with their labels; JPEG XL only where it was installed."""
    found = record["summary"]
    return {
        name: label
        for name, label in NAMES.items()
        if name in found and any(count for _, count in found[name]["psnr"])
    }


def lengths(score: str) -> Callable[[Path], str]:
    """Return what draws the bits more than a file made for the length, at each length."""

    def draw(results: Path) -> str:
        rows, head, notes = [], ["photos", "coding"], []
        for name in SETS:
            record = _load(results, name)
            if record is None:
                continue
            count = len(record["photos"])
            shares = record["settings"]["lengths"]
            head = ["photos", "coding", *(f"{share:.0%}".replace("%", " %") for share in shares)]
            for coding, label in _measured(record).items():
                cells = [_cell(*cell, count) for cell in record["summary"][coding][score]]
                rows.append([f"{name} ({count})", label, *cells])
            settings = record["settings"]
            notes.append(f"{name}: {settings['trellis']} states, {record['machine']['date'][:10]}")
        return table(tuple(head), rows) + "\n\n" + "; ".join(notes) + "."

    return draw


def whole(results: Path) -> str:
    """Draw what whole files cost: bytes at the same quality, and at equal scores."""
    rows = []
    for name in SETS:
        record = _load(results, name)
        if record is None:
            continue
        photos = record["photos"]
        for coding in CODINGS:
            files = [one["whole"][coding] for one in photos]
            sizes = [
                100 * (data[0] / one["full"] - 1) for one, data in zip(photos, files, strict=True)
            ]
            cells = [f"{sum(sizes) / len(sizes):+.1f} %"]
            for column in (1, 2):
                costs = [
                    more_bits(one["made"], data, column)
                    for one, data in zip(photos, files, strict=True)
                ]
                found = [cost for cost in costs if cost is not None]
                cells.append(_cell(sum(found) / len(found), len(found), len(photos)))
            rows.append([f"{name} ({len(photos)})", NAMES[coding], *cells])
    head = "bytes, same quality", "bits, equal PSNR", "bits, equal SSIMULACRA 2"
    return table(("photos", "coding", *head), rows)


def _cell(mean: float | None, photos: int, of: int) -> str:
    if mean is None:
        return "-"
    return f"{mean:+.0f} %" if photos == of else f"{mean:+.0f} % ({photos})"


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "progressive-psnr": lengths("psnr"),
    "progressive-ssimulacra2": lengths("ssimulacra2"),
    "progressive-whole": whole,
}


def plot(results: Path, path: Path, name: str = "kodak") -> None:
    """Draw the bits more than a file made for the length, over the length."""
    from matplotlib.figure import Figure

    from benchmarks import svg

    record = _load(results, name)
    if record is None:
        raise FileNotFoundError(f"no record of {name}")
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("psnr", "ssimulacra2"), strict=True):
        for coding, label in _measured(record).items():
            shares = [100 * share for share in record["settings"]["lengths"]]
            means = [mean for mean, _ in record["summary"][coding][score]]
            axes.plot(shares, means, marker="o", label=label.replace("`", ""))
        axes.set(xlabel="length, % of the file", ylabel="more bits, %", title=score, ylim=(-5, 200))
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    svg.save(figure, path)


if __name__ == "__main__":
    plot(ROOT / "results", ROOT.parent / "docs" / "plots" / "progressive.svg")
