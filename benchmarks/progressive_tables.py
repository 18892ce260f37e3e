"""Tables and the plot of docs/progressive.md, from records.

The records are those of `benchmarks.progressive` and `benchmarks.embedded`.

``python -m benchmarks.progressive_tables`` draws the plot.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.speed_tables import table

ROOT = Path(__file__).resolve().parent
SETS: Final = ("kodak", "gb82")
NAMES: Final = {
    "layers": "layers (`--progressive`)",
    "ordered": "one layer, steps in 8 parts by scale",
    "steps": "ordinary file, cut at its steps",
    "jpeg": "progressive JPEG (libjpeg-turbo)",
    "jxl": "progressive JPEG XL (libjxl)",
}
EMBEDDED: Final = {
    "layers": "layers (`--progressive`)",
    "steps": "intervals, by context steps (estimate)",
    "free": "intervals, free order (estimate)",
}
SCORES: Final = {"psnr": "PSNR", "ssimulacra2": "SSIMULACRA 2"}


def _load(results: Path, name: str, kind: str = "progressive") -> dict[str, Any] | None:
    path = results / f"{kind}-{name}.json"
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


def embedded(results: Path) -> str:
    """Draw what intervals need more than a file made for the length, beside the layers of today."""
    rows, head = [], ["photos", "score", "coding"]
    for name in SETS:
        record = _load(results, name, "embedded")
        if record is None:
            continue
        count, shares = len(record["photos"]), record["settings"]["lengths"]
        head = [*head[:3], *(f"{share:.0%}".replace("%", " %") for share in shares)]
        for score, title in SCORES.items():
            for coding, label in EMBEDDED.items():
                cells = [_cell(*cell, count) for cell in record["summary"][coding][score]]
                rows.append([f"{name} ({count})", title, label, *cells])
    return table(tuple(head), rows)


def sizes(results: Path) -> str:
    """Draw how large whole files are, of an ordinary one at the same quality."""
    rows = []
    for name in SETS:
        record = _load(results, name)
        if record is None:
            continue
        for coding in ("layers", "ordered", "steps"):
            ratios = [
                100 * (one["sizes"][coding] / one["made"][-1][0] - 1) for one in record["photos"]
            ]
            mean = sum(ratios) / len(ratios)
            rows.append([f"{name} ({len(ratios)})", NAMES[coding], f"{mean:+.1f} %"])
    return table(("photos", "coding", "bytes of the whole file"), rows)


def _cell(mean: float | None, photos: int, of: int) -> str:
    if mean is None:
        return "-"
    return f"{mean:+.0f} %" if photos == of else f"{mean:+.0f} % ({photos})"


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "progressive-psnr": lengths("psnr"),
    "progressive-ssimulacra2": lengths("ssimulacra2"),
    "progressive-sizes": sizes,
    "progressive-embedded": embedded,
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
