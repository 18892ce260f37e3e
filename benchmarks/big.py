"""Time and peak memory of large pictures and of regions, through the command line.

::

    python -m benchmarks.big --megapixels 1,10,100 --out benchmarks/results/big.json

Each picture is a sample photo, mirrored side by side until it is large enough, with noise of its
own in every place, as a JPEG of quality 95. Every run is a process of its own, whose peak memory is
what the system reports (``ru_maxrss``); the bound is what `trellic.memory` says it needs at most,
and what ``--max-memory`` is set to. Seconds are those of ``--json``, without loading engines;
processor time is that of the whole process.
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
from trellic import bitstream, bundle, images, memory
from trellic.region import to_rectangle

ROOT = Path(__file__).resolve().parents[1]
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


def measure(photo: Path, megapixels: float, folder: Path, model: str) -> dict[str, Any]:
    """Encode, decode and decode a region of one picture."""
    source, stream, target = (folder / name for name in ("big.jpg", "big.tlc", "big.png"))
    make(photo, megapixels, source)
    manifest = bundle.Bundle(bundle.find(model)).manifest
    bounds = bound_of_encoding(source, manifest)
    encoded = run("encode", source, stream, "--model", model, "--max-memory", bounds)
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
        bounds = bound_of_decoding(data, manifest, region)
        options = ["--region", ",".join(map(str, region))] if region else []
        done = run("decode", stream, target, "--max-memory", bounds, *options)
        result[name] = _figures(done, bounds) | {"region": region}
    result["region_of_full"] = result["region"]["seconds"] / result["decode"]["seconds"]
    return result


def bound_of_encoding(source: Path, manifest: bundle.Manifest) -> int:
    """Bytes that encoding a picture file takes at most."""
    width, height, deep = images.size_of(source.read_bytes())
    blank = images.Picture(np.broadcast_to(np.uint8(0), (height, width, 3)))
    need = memory.encoding(
        blank,
        manifest.layout.latents,
        halo=-(-manifest.encoder.halo // manifest.layout.stride),
        tiled_h_a=manifest.hyper_encoder.halo > 0,
        stride=manifest.layout.stride,
    )
    reading = memory.reading(width * height, source.stat().st_size, deep=deep)
    return max(need(memory.SIDES[0]), reading)


def bound_of_decoding(
    data: bytes, manifest: bundle.Manifest, region: tuple[int, int, int, int] | None
) -> int:
    """Bytes that decoding a stream, or a region of it, to a file takes at most."""
    header = bitstream.read_header(data)
    part = to_rectangle(region, header.width, header.height)
    halo = manifest.decoders["quality"].graph.halo
    layout = manifest.layout
    need = memory.decoding(
        header, part, layout.latents, halo=halo, alpha=False, stride=layout.stride
    )
    return max(need(memory.SIDES[0]), memory.writing(part.area, ".png", alpha=False))


def _figures(done: dict[str, Any], bound: int) -> dict[str, Any]:
    kept = ("seconds", "cpu_seconds", "peak_bytes")
    return {name: done[name] for name in kept} | {"bound": bound}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; return the exit code: 1 where a bound did not hold."""
    options = _parser().parse_args(arguments)
    results, held = [], True
    print("  Mpixel          encode                 decode                 region      region/full")
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels:
            result = measure(options.photo, megapixels, Path(folder), options.model)
            results.append(result)
            print(_line(result), flush=True)
            held &= all(
                result[name]["peak_bytes"] <= result[name]["bound"]
                for name in ("encode", "decode", "region")
            )
    report = {
        "machine": _machine.describe(("numpy", "onnxruntime", "numba", "pillow")),
        "command": "python -m benchmarks.big --megapixels "
        + ",".join(f"{size:g}" for size in options.megapixels),
        "photo": options.photo.name,
        "model": options.model,
        "region_side": REGION,
        "results": results,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not held:
        print("error: a process took more memory than trellic.memory allows it", file=sys.stderr)
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
    add("--megapixels", type=_sizes, default="1,10,100", metavar="M,M,...", help="of the pictures")
    add("--photo", type=Path, default=ROOT / "samples" / "osprey.png")
    add("--model", default="photo")
    add("--out", type=Path, metavar="FILE.json")
    return parser


def _sizes(text: str) -> list[float]:
    sizes = [float(part) for part in text.split(",")]
    if not all(0 < size <= images.MAX_PIXELS / 1e6 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: expected sizes up to 268")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
