"""Time and peak memory of large pictures and of regions, through the command line.

::

    python -m benchmarks.big --repeat 3

Each picture is a sample photo, mirrored side by side until it is large enough, with noise of its
own in every place, as a JPEG of quality 95. Every run is a process of its own, whose peak memory
is what the system reports (``ru_maxrss``); the bound is what `trellic.pipeline.memory` says it
needs at most, and what ``--max-memory`` is set to. Seconds are those of ``--json``, without
loading engines; processor time is that of the whole process. Of several runs (``--repeat``) the
shortest time and the largest memory count. A line ``fixed + each * megapixels`` is fitted to times
and to memory, by least squares of the relative error, and the JSON says how far the points lie from
it. Writes JSON and a plot.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import _machine
from trellic import bitstream, images
from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL, MAX_PIXELS
from trellic.model import bundle
from trellic.model.choice import choose
from trellic.pipeline import memory
from trellic.pipeline.region import to_rectangle

ROOT = Path(__file__).resolve().parents[1]
SIZES = "0.1,0.4,1.6,6,25,100"  # megapixels
RESULT = Path("benchmarks/results/big.json")
NOISE = 3.0  # standard deviation, in 8-bit steps
REGION = 1024  # pixels a side, from the middle
Pixels = npt.NDArray[np.uint8]


def make(photo: Path, megapixels: float, target: Path) -> None:
    """Write a picture file, in a process of its own.

    A child's ``ru_maxrss`` begins at what its parent held when it was started, so the parent of
    what is measured must stay small.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_make, photo, megapixels, target).result()


def _make(photo: Path, megapixels: float, target: Path) -> None:
    pixels = synthetic(images.read(photo).pixels, megapixels)
    Image.fromarray(pixels).save(target, quality=95, subsampling=0)


def synthetic(photo: Pixels, megapixels: float) -> Pixels:
    """Make a picture of about 4:3 from mirrored copies of a photo, with noise.

    Returns
    -------
    uint8 (height, width, 3), the same every time
    """
    height = max(1, round((megapixels * 1e6 * 3 / 4) ** 0.5))
    width = max(1, round(megapixels * 1e6 / height))
    rows, columns = _mirrored(height, photo.shape[0]), _mirrored(width, photo.shape[1])
    out = np.empty((height, width, 3), np.uint8)
    rng = np.random.default_rng(0)
    for top in range(0, height, 256):
        part = photo[rows[top : top + 256]][:, columns]
        noise = rng.standard_normal(part.shape, np.float32) * NOISE
        out[top : top + 256] = np.clip(part + noise + 0.5, 0, 255)
    return out


def _mirrored(size: int, side: int) -> npt.NDArray[np.int64]:
    place = np.arange(size) % (2 * side)
    return np.minimum(place, 2 * side - 1 - place)


def run(*arguments: object) -> dict[str, Any]:
    """Run ``trellic`` and return what it prints, its peak memory in bytes and its processor time.

    Raises
    ------
    RuntimeError
        When it fails.
    """
    command = [sys.executable, "-m", "trellic", *map(str, arguments), "--json"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {said.strip()}")
    result: dict[str, Any] = json.loads(printed)
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime
    return result | {"peak_bytes": usage.ru_maxrss * unit, "cpu_seconds": cpu}


def run_often(repeat: int, *arguments: object) -> dict[str, Any]:
    """Run several times; keep the shortest times and the largest peak."""
    runs = [run(*arguments) for _ in range(repeat)]
    least = {name: min(one[name] for one in runs) for name in ("seconds", "cpu_seconds")}
    return runs[0] | least | {"peak_bytes": max(one["peak_bytes"] for one in runs)}


def measure(
    photo: Path, megapixels: float, folder: Path, model: str, decoder: str, repeat: int = 1
) -> dict[str, Any]:
    """Encode, decode and decode a region of one picture."""
    source, stream, target = (folder / name for name in ("big.jpg", "big.tlc", "big.png"))
    make(photo, megapixels, source)
    manifest = bundle.Bundle(bundle.find(model)).manifest
    bounds = bound_of_encoding(source, manifest)
    limit = "--model", model, "--max-memory", bounds
    encoded = run_often(repeat, "encode", source, stream, *limit)
    data = stream.read_bytes()
    width, height = encoded["width"], encoded["height"]
    side = min(REGION, width, height)
    box = ((width - side) // 2, (height - side) // 2, side, side)
    result = {
        "megapixels": width * height / 1e6,
        "width": width,
        "height": height,
        "source_bytes": source.stat().st_size,
        "bytes": encoded["bytes"],
        "encode": _figures(encoded, bounds),
    }
    for name, region in (("decode", None), ("region", box)):
        bounds = bound_of_decoding(data, manifest, decoder, region)
        options = ["--region", ",".join(map(str, region))] if region else []
        limit = "--decoder", decoder, "--max-memory", bounds
        done = run_often(repeat, "decode", stream, target, *limit, *options)
        result[name] = _figures(done, bounds) | {"region": region}
    result["region_of_full"] = result["region"]["seconds"] / result["decode"]["seconds"]
    return result


def bound_of_encoding(source: Path, manifest: bundle.Manifest) -> int:
    """Bytes that encoding a picture file takes at most."""
    width, height, deep = images.size_of(source.read_bytes())
    blank = images.Picture(np.broadcast_to(np.uint8(0), (height, width, 3)))
    need = memory.encoding(
        blank,
        manifest.layout,
        halo=-(-manifest.encoder.halo // manifest.layout.stride),
        tiled_h_a=manifest.hyper_encoder.halo > 0,
    )
    reading = memory.reading(width * height, source.stat().st_size, deep=deep)
    return max(need(memory.SIDES[0]), reading)


def bound_of_decoding(
    data: bytes,
    manifest: bundle.Manifest,
    decoder: str,
    region: tuple[int, int, int, int] | None,
) -> int:
    """Bytes that decoding a stream, or a region of it, to a file takes at most."""
    header = bitstream.read_header(data)
    part = to_rectangle(region, header.width, header.height)
    layout, choice = manifest.layout, choose(manifest.decoders, decoder, manifest.name)
    networks = len(choice.parts)
    need = memory.decoding(
        header,
        part,
        choice.channels(layout),
        halo=choice.halo,
        alpha=False,
        layout=layout,
        scale=choice.scale,
        networks=networks,
    )
    area = part.coarser(choice.scale).area
    written = memory.writing(area, ".png", alpha=False, networks=networks)
    return max(need(memory.SIDES[0]), written)


def _figures(done: dict[str, Any], bound: int) -> dict[str, Any]:
    kept = ("seconds", "cpu_seconds", "peak_bytes")
    return {name: done[name] for name in kept} | {"bound": bound}


def fit(megapixels: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Fit ``fixed + each * megapixels`` by least squares of the relative error.

    Returns
    -------
    dict with ``fixed`` and ``each`` in the unit of the values, and ``off``, the largest relative
    error of a point
    """
    sizes, measured = np.asarray(megapixels, float), np.asarray(values, float)
    columns = np.stack([np.ones_like(sizes), sizes], axis=1) / measured[:, None]
    (fixed, each), *_ = np.linalg.lstsq(columns, np.ones_like(sizes))
    off = np.abs((fixed + each * sizes) / measured - 1).max()
    return {"fixed": float(fixed), "each": float(each), "off": float(off)}


def fits(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Fit times in seconds and memory in bytes of encoding and of decoding."""
    sizes = [result["megapixels"] for result in results]
    return {
        part: {
            name: fit(sizes, [result[part][name] for result in results])
            for name in ("seconds", "peak_bytes")
        }
        for part in ("encode", "decode")
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; return the exit code: 1 where a bound did not hold."""
    options = _parser().parse_args(arguments)
    results, held = [], True
    print("  Mpixel          encode                 decode                 region      region/full")
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels:
            sizes = options.photo, megapixels, Path(folder)
            result = measure(*sizes, options.model, options.decoder, options.repeat)
            results.append(result)
            print(_line(result), flush=True)
            held &= all(
                result[name]["peak_bytes"] <= result[name]["bound"]
                for name in ("encode", "decode", "region")
            )
    report = {
        "machine": _machine.describe(("numpy", "onnxruntime", "numba", "pillow")),
        "command": "python -m benchmarks.big --megapixels "
        + ",".join(f"{size:g}" for size in options.megapixels)
        + f" --repeat {options.repeat}",
        "photo": options.photo.name,
        "model": Path(options.model).name,
        "decoder": options.decoder,
        "region_side": REGION,
        "fits": fits(results),
        "results": results,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")
    if not options.no_plot:
        from benchmarks.plots import growth_plots  # matplotlib takes a second to import

        for path in growth_plots(results, options.plots, "big"):
            print(f"wrote {path}")
    if not held:
        print(
            "error: a process took more memory than trellic.pipeline.memory allows",
            file=sys.stderr,
        )
    return 0 if held else 1


def _line(result: dict[str, Any]) -> str:
    parts = (result[name] for name in ("encode", "decode", "region"))
    cells = [
        f"{part['seconds']:7.2f} s {part['peak_bytes'] / 1e6:5.0f}/{part['bound'] / 1e6:5.0f} MB"
        for part in parts
    ]
    return f"{result['megapixels']:8.1f}  " + " ".join(cells) + f"  {result['region_of_full']:.1%}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.big", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--megapixels", type=_sizes, default=SIZES, metavar="M,M,...", help=f"default {SIZES}")
    add("--repeat", type=int, default=1, metavar="N", help="runs of each (default 1)")
    add("--photo", type=Path, default=ROOT / "samples" / "osprey.png")
    add("--model", default=DEFAULT_MODEL)
    add("--decoder", default=DEFAULT_DECODER, metavar="NAME[:x]", help="default %(default)s")
    add(
        "--out",
        type=Path,
        default=RESULT,
        metavar="JSON",
        help="default benchmarks/results/big.json",
    )
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    add("--no-plot", action="store_true", help="draw nothing")
    return parser


def _sizes(text: str) -> list[float]:
    sizes = [float(part) for part in text.split(",")]
    if not all(0 < size <= MAX_PIXELS / 1e6 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: expected sizes up to 268")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
