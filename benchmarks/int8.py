"""What int8 on a CPU gains and costs: a bundle's float32 graphs against their 8-bit variants.

::

    python -m benchmarks.int8 --images DIR [--model NAME|PATH.zip]

Both precisions take turns on each picture in one process, at each number of threads; times are
wall times of single runs, ratios are medians of float32 over int8 of neighbouring runs. PSNR and
bits come from real files. A bundle gets 8-bit variants by ``trellic export --int8``.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import _machine
from benchmarks.bdrate import Curve, bd_rate
from benchmarks.codecs import Pixels
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from trellic.codec import Codec
from trellic.images import Picture, to_array

QUALITIES = (10.0, 40.0, 60.0, 80.0, 95.0)
PRECISIONS = ("fp32", "int8")
STAGES = {"encode": ("g_a", "total"), "decode": ("g_s", "total")}
TIMED_QUALITY = 60.0


@dataclass(frozen=True)
class Pair:
    """The same model in both precisions."""

    fp32: Codec
    int8: Codec

    @classmethod
    def load(cls, model: str, threads: int) -> "Pair":
        """Load both for the CPU."""
        return cls(*(Codec.load(model, "cpu", threads, precision) for precision in PRECISIONS))


def distortion(pair: Pair, pictures: Sequence[Pixels], decoder: str) -> list[dict[str, float]]:
    """Bits and PSNR at each quality, means over pictures.

    Returns
    -------
    list of dict
        For each quality ``bpp`` and ``psnr`` of float32, ``lost_decoding`` (dB, the same files
        decoded in int8), ``int8_bpp`` and ``int8_psnr`` (encoded and decoded in int8).
    """
    rows = []
    for quality in track(QUALITIES, "PSNR", transient=True):
        points = [_point(pair, pixels, quality, decoder) for pixels in pictures]
        means = {name: float(np.mean([p[name] for p in points])) for name in points[0]}
        rows.append({"quality": quality, **means})
    return rows


def _point(pair: Pair, pixels: Pixels, quality: float, decoder: str) -> dict[str, float]:
    floating = pair.fp32.encode(pixels, quality=quality)
    eight = pair.int8.encode(pixels, quality=quality)
    reference = psnr(pixels, pair.fp32.decode(floating, decoder=decoder))
    count = pixels.shape[0] * pixels.shape[1]
    return {
        "bpp": 8 * len(floating) / count,
        "psnr": reference,
        "lost_decoding": reference - psnr(pixels, pair.int8.decode(floating, decoder=decoder)),
        "int8_bpp": 8 * len(eight) / count,
        "int8_psnr": psnr(pixels, pair.int8.decode(eight, decoder=decoder)),
    }


def bd_rates(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """BD-rates in percent against float32: of decoding in int8, and of encoding so as well."""
    bpp, reference = (np.array([row[name] for row in rows]) for name in ("bpp", "psnr"))
    lost, eight_bpp, eight = (
        np.array([row[name] for row in rows]) for name in ("lost_decoding", "int8_bpp", "int8_psnr")
    )
    anchor = Curve(bpp, reference)
    curves = {"decode": Curve(bpp, reference - lost), "both": Curve(eight_bpp, eight)}
    found = {name: bd_rate(curve, anchor) for name, curve in curves.items()}
    return {name: result.percent for name, result in found.items() if result is not None}


def times(
    pair: Pair, pictures: Sequence[Pixels], decoder: str, repeat: int
) -> dict[str, dict[str, float]]:
    """Wall times in seconds of a mean picture, and how many times as fast int8 is.

    Returns
    -------
    dict of dict
        By ``"encode g_a"`` and so on: medians ``fp32`` and ``int8``, and ``ratio``.
    """
    runs: dict[str, dict[str, list[float]]] = {
        f"{step} {stage}": {p: [] for p in PRECISIONS}
        for step, ss in STAGES.items()
        for stage in ss
    }
    for pixels in track(pictures, "times", transient=True):
        for turn in range(repeat + 1):
            for precision in PRECISIONS:
                seen = _timed(getattr(pair, precision), pixels, decoder)
                for name, seconds in seen.items() if turn else ():  # the first run warms up
                    runs[name][precision].append(seconds)
    return {name: _summary(both) for name, both in runs.items()}


def _timed(codec: Codec, pixels: Pixels, decoder: str) -> dict[str, float]:
    encoded = codec.encode_picture(Picture(pixels), quality=TIMED_QUALITY)
    decoded = codec.decode_timed(encoded.data, decoder=decoder)
    to_array(decoded.picture)
    stages = {"encode": encoded.stages, "decode": decoded.stages}
    seconds = {"encode": encoded.seconds, "decode": decoded.seconds}
    return {
        f"{step} {stage}": seconds[step] if stage == "total" else stages[step][stage]
        for step, wanted in STAGES.items()
        for stage in wanted
    }


def _summary(both: dict[str, list[float]]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(both["fp32"], both["int8"], strict=True)]
    medians = {name: statistics.median(values) for name, values in both.items()}
    return medians | {"ratio": statistics.median(ratios)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    paths = find_images(options.images)[: options.limit]
    pictures = [read_pixels(path) for path in paths]
    pair = Pair.load(options.model, 1)
    rows = distortion(pair, pictures, options.decoder)
    result = {
        "machine": _machine.describe(("numpy", "onnxruntime")),
        "images": [path.name for path in paths],
        "model": pair.fp32.model,
        "stream_id": pair.fp32.bundle.manifest.stream_id,
        "decoder": options.decoder,
        "distortion": rows,
        "bd_rate_percent": bd_rates(rows),
        "times": {
            str(threads): times(
                Pair.load(options.model, threads), pictures, options.decoder, options.repeat
            )
            for threads in options.threads
        },
    }
    _print(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _print(result: dict[str, object]) -> None:
    console = Console(highlight=False)
    for name in ("distortion", "times"):
        part = result[name]
        tables = {"": part} if isinstance(part, list) else part
        assert isinstance(tables, dict)
        for threads, rows in tables.items():
            if isinstance(rows, dict):
                rows = [{"": stage, **values} for stage, values in rows.items()]
            table = Table(*rows[0], title=f"{name} {threads and f'on {threads} threads'}")
            for row in rows:
                table.add_row(*(v if isinstance(v, str) else f"{v:.3f}" for v in row.values()))
            console.print(table)
    console.print("BD-rate in percent:", result["bd_rate_percent"])


def _parser() -> argparse.ArgumentParser:
    assert __doc__
    parser = argparse.ArgumentParser(prog="benchmarks.int8", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, help="only so many of them")
    parser.add_argument("--model", default="photo", help="with int8 variants: a name or a path")
    parser.add_argument("--decoder", default="quality")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs of each picture")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write everything here")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
