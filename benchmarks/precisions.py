"""What other precisions than float32 gain and cost on a CPU: bfloat16, and a part in 8 bits.

::

    python -m benchmarks.precisions --images DIR [--model NAME|PATH.zip]

All that this machine and the bundle have take turns on each picture in one process, at each number
of threads; times are wall times of single runs, ratios are medians of float32 over the other of
neighbouring runs. PSNR and bits come from real files. bf16 needs OpenVINO and a processor that
multiplies it; a bundle gets 8-bit variants by ``trellic export --int8``.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from trellic.errors import EngineError, MissingExtra
from trellic.images import Picture, to_array

QUALITIES = (10.0, 40.0, 60.0, 80.0, 95.0)
REFERENCE, OTHERS = "fp32", ("bf16", "int8")
STAGES = {"encode": ("g_a", "total"), "decode": ("g_s", "total")}
TIMED_QUALITY = 60.0
Codecs = Mapping[str, Codec]
Row = dict[str, Any]


def load(model: str, threads: int) -> dict[str, Codec]:
    """Load a model for the CPU in float32 and in all else that it and this machine have."""
    found = {REFERENCE: Codec.load(model, "cpu", threads, REFERENCE)}
    for precision in OTHERS:
        try:
            found[precision] = Codec.load(model, "cpu", threads, precision)
        except (EngineError, MissingExtra) as error:
            Console(stderr=True).print(f"without {precision}: {error}", markup=False)
    return found


def distortion(codecs: Codecs, pictures: Sequence[Pixels], decoder: str) -> list[Row]:
    """Bits and PSNR at each quality, means over pictures.

    Returns
    -------
    list of dict
        For each quality ``bpp`` and ``psnr`` of float32, and by precision ``lost_decoding`` (dB,
        the same files decoded in it), ``bpp`` and ``psnr`` (encoded and decoded in it).
    """
    rows = []
    for quality in track(QUALITIES, "PSNR", transient=True):
        points = [_point(codecs, pixels, quality, decoder) for pixels in pictures]
        means = {
            name: {key: float(np.mean([point[name][key] for point in points])) for key in values}
            for name, values in points[0].items()
        }
        rows.append({"quality": quality, **means.pop(REFERENCE), **means})
    return rows


def _point(codecs: Codecs, pixels: Pixels, quality: float, decoder: str) -> dict[str, Row]:
    def coded(data: bytes, codec: Codec) -> Row:
        bpp = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        return {"bpp": bpp, "psnr": psnr(pixels, codec.decode(data, decoder=decoder))}

    plain = codecs[REFERENCE].encode(pixels, quality=quality)
    found = {REFERENCE: coded(plain, codecs[REFERENCE])}
    for name in codecs:
        if name != REFERENCE:
            lost = found[REFERENCE]["psnr"] - coded(plain, codecs[name])["psnr"]
            own = coded(codecs[name].encode(pixels, quality=quality), codecs[name])
            found[name] = {"lost_decoding": lost, **own}
    return found


def bd_rates(rows: Sequence[Row], precision: str) -> dict[str, float]:
    """BD-rates in percent against float32: of decoding in a precision, and of encoding as well."""
    bpp, reference = (np.array([row[name] for row in rows]) for name in ("bpp", "psnr"))
    lost, own_bpp, own = (
        np.array([row[precision][name] for row in rows])
        for name in ("lost_decoding", "bpp", "psnr")
    )
    anchor = Curve(bpp, reference)
    curves = {"decode": Curve(bpp, reference - lost), "both": Curve(own_bpp, own)}
    found = {name: bd_rate(curve, anchor) for name, curve in curves.items()}
    return {name: result.percent for name, result in found.items() if result is not None}


def times(codecs: Codecs, pictures: Sequence[Pixels], decoder: str, repeat: int) -> list[Row]:
    """Wall times in seconds of a mean picture, and how many times as fast as float32 they are.

    Returns
    -------
    list of dict
        For each ``stage``, such as "encode g_a", medians by precision, and ratios by
        "float32 / " and the precision.
    """
    runs: dict[str, dict[str, list[float]]] = {
        f"{step} {stage}": {name: [] for name in codecs}
        for step, stages in STAGES.items()
        for stage in stages
    }
    for pixels in track(pictures, "times", transient=True):
        for turn in range(repeat + 1):
            for name, codec in codecs.items():
                seen = _timed(codec, pixels, decoder)
                for stage, seconds in seen.items() if turn else ():  # the first run warms up
                    runs[stage][name].append(seconds)
    return [{"stage": stage, **_summary(seconds)} for stage, seconds in runs.items()]


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


def _summary(runs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    found = {name: statistics.median(values) for name, values in runs.items()}
    for name, values in runs.items():
        if name != REFERENCE:
            ratios = [a / b for a, b in zip(runs[REFERENCE], values, strict=True)]
            found[f"float32 / {name}"] = statistics.median(ratios)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    paths = find_images(options.images)[: options.limit]
    pictures = [read_pixels(path) for path in paths]
    codecs = load(options.model, 1)
    rows = distortion(codecs, pictures, options.decoder)
    plain = codecs[REFERENCE]
    result = {
        "machine": _machine.describe(("numpy", "onnxruntime", "openvino")),
        "images": [path.name for path in paths],
        "model": plain.model,
        "stream_id": plain.bundle.manifest.stream_id,
        "decoder": options.decoder,
        "distortion": rows,
        "bd_rate_percent": {name: bd_rates(rows, name) for name in codecs if name != REFERENCE},
        "times": {
            str(threads): times(
                load(options.model, threads), pictures, options.decoder, options.repeat
            )
            for threads in options.threads
        },
    }
    _print(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _print(result: Row) -> None:
    console = Console(highlight=False)
    _table(console, "distortion", [_flat(row) for row in result["distortion"]])
    for threads, rows in result["times"].items():
        _table(console, f"seconds on {threads} threads", rows)
    console.print("BD-rate in percent:", result["bd_rate_percent"])


def _flat(row: Row) -> Row:
    flat: Row = {}
    for name, value in row.items():
        parts = {f"{name} {key}": v for key, v in value.items()} if isinstance(value, dict) else {}
        flat |= parts or {name: value}
    return flat


def _table(console: Console, title: str, rows: Sequence[Row]) -> None:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(v if isinstance(v, str) else f"{v:.3f}" for v in row.values()))
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="benchmarks.precisions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, help="only so many of them")
    parser.add_argument("--model", default="photo", help="name or path (default photo)")
    parser.add_argument("--decoder", default="quality")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs of each picture")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write everything here")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
