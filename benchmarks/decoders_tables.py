"""Tables of docs/decoders.md: what decoders make of one file, and what `perceptual` gains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.family import BASE
from benchmarks.speed_tables import table

PHOTO, QUALITY = "kodim05.png", 40  # the one file
SETS = {"kodak": "Kodak", "aerial_mixed": "aerial_mixed"}
GAINS = ("ssimulacra2", "sliced_wasserstein", "psnr")
EYE = "perceptual"


def photo(results: Path) -> str:
    """Draw what every decoder makes of one photo's file."""
    run = _run(results, "kodak")
    rows = [row for row in run["rows"] if (row["image"], row["quality"]) == (PHOTO, QUALITY)]
    head = ["decoder", "size", "kMAC/pixel", "PSNR, dB", "SSIMULACRA2", "sliced Wasserstein"]
    head += ["time, ms", "bytes read"]
    lines = []
    for row in rows:
        scores = row["scores"]
        lines.append(
            [
                f"`{row['decoder']}`",
                f"1/{row['scale']}" if row["scale"] > 1 else "1",
                f"{run['kmac_per_pixel'][row['decoder']]:.1f}",
                f"{scores['psnr']:.2f}",
                # with a side under 225 pixels the package mixes up the scales' weights
                f"{scores['ssimulacra2']:.2f}" if row["scale"] == 1 else "",
                f"{scores['sliced_wasserstein']:.1f}" if row["scale"] == 1 else "",
                f"{1000 * row['seconds']:.0f}",
                f"{row['bytes_needed']:,}",
            ]
        )
    threads = run["threads"] or "all"
    machine = run.get("times_machine", run["machine"])
    return (
        f"{table(head, lines)}\n\n{PHOTO} at quality {QUALITY}: one file of "
        f"{rows[0]['bytes']:,} bytes. Times: {threads} thread(s) of {machine['processor']}. "
        "A smaller picture is compared with the photo's means over squares."
    )


def gains(results: Path) -> str:
    """Draw by how much `perceptual` is better than `quality`, on each set at each quality."""
    head = ["set", "quality", "SSIMULACRA2", "sliced Wasserstein", "of quality's", "PSNR, dB"]
    lines = []
    for name, shown in SETS.items():
        run = _run(results, name)
        found = {
            (one["quality"], one["score"]): one
            for one in run["differences"]
            if one["decoder"] == EYE
        }
        for quality in dict.fromkeys(quality for quality, _ in found):
            better = {score: found[quality, score] for score in GAINS}
            patches = [
                row["scores"]["sliced_wasserstein"]
                for row in run["rows"]
                if (row["quality"], row["decoder"]) == (quality, BASE)
            ]
            share = -better["sliced_wasserstein"]["mean"] / (sum(patches) / len(patches))
            cells = [
                _interval(better[score], digits)
                for score, digits in zip(GAINS, (2, 1, 2), strict=True)
            ]
            lines.append([shown, f"{quality:g}", cells[0], cells[1], f"{share:+.0%}", cells[2]])
    return table(head, lines)


def _run(results: Path, name: str) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((results / f"decoders-{name}.json").read_text("utf-8"))
    return run


def _interval(one: dict[str, Any], digits: int) -> str:
    low, high = one["ci95"]
    return f"{one['mean']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def small(results: Path) -> str:
    """Draw how close small pictures come to the photo at the same size."""
    run = json.loads((results / "small.json").read_text(encoding="utf-8"))
    lines = []
    for quality, means in run["means"].items():
        for size in max(means.values(), key=len):
            cells = [f"{row[size]['psnr']:.1f}" if size in row else "" for row in means.values()]
            lines.append([quality, f"1/{size}", *cells])
    means = run["means"]["60"]
    head = ["quality", "size", *(f"`{name}`, dB" for name in means)]
    halves = [
        f"{row['2']['ssimulacra2']:.1f} with `{name}`" for name, row in means.items() if "2" in row
    ]
    return (
        f"{table(head, lines)}\n\nMeans of PSNR over {len(run['photos'])} Kodak photos. "
        f"SSIMULACRA 2 at quality 60 and 1/2: {', '.join(halves)}."
    )


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "decoders-photo": photo,
    "decoders-gains": gains,
    "small-pictures": small,
}
