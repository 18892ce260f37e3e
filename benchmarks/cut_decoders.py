"""Decoders trained on cut latents: what they make of the beginnings of layered files.

::

    python -m benchmarks.cut_decoders --bundle cut=CUT.zip --bundle control=CONTROL.zip --images DIR

Each bundle has a decoder of its own name, beside those of `photo`. A progressive file of each photo
is cut to lengths of the ordinary file of quality 75. `quality` and the others make a picture of the
same cut, and of ordinary files.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks._machine import describe, made_on
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels, spread
from benchmarks.progressive import LENGTHS, QUALITY, scores
from benchmarks.runs import lines
from benchmarks.speed_tables import table
from trellic import bitstream
from trellic.codec import Codec
from trellic.errors import BadParameter

RESULT = Path(__file__).resolve().parent / "results" / "cut-decoders.json"
ORDINARY = (30, 53, 75)  # qualities of the layers, too
BASE = "quality"
TRELLIS = 8
Row = dict[str, Any]


def files_of(codec: Codec, pixels: Pixels) -> dict[str, bytes]:
    """Return what all decoders are given: cuts of one layered file by length, ordinary files."""
    made = {q: codec.encode(pixels, quality=q, trellis=TRELLIS) for q in ORDINARY}
    layered = codec.encode(pixels, quality=QUALITY, trellis=TRELLIS, progressive=True)
    files = {}
    for share in LENGTHS:
        length = round(share * len(made[ORDINARY[-1]]))
        try:
            files[f"{share:.0%}"] = bitstream.cut(layered, max_bytes=length).data
        except BadParameter:  # the header and the first pass are longer
            continue
    files["all layers"] = layered
    return files | {f"quality {q}": data for q, data in made.items()}


def rows_of(path: Path, decoders: Mapping[str, Codec]) -> list[Row]:
    """Measure what each decoder makes of each file of a photo."""
    pixels, rows = read_pixels(path), []
    for file, data in files_of(decoders[BASE], pixels).items():
        for name, codec in decoders.items():
            psnr, ssimulacra2 = scores(pixels, codec.decode(data, decoder=name))
            row = {"image": path.name, "file": file, "decoder": name, "bytes": len(data)}
            rows.append(row | {"psnr": round(psnr, 4), "ssimulacra2": round(ssimulacra2, 4)})
    return rows


def markdown(record: Mapping[str, Any]) -> str:
    """Draw what each decoder gains over `quality`, on the same files."""
    rows, cells = record["rows"], []
    others = [name for name in dict.fromkeys(row["decoder"] for row in rows) if name != BASE]
    for file in dict.fromkeys(row["file"] for row in rows):
        own = {
            name: [r for r in rows if (r["file"], r["decoder"]) == (file, name)] for name in others
        }
        base = [r for r in rows if (r["file"], r["decoder"]) == (file, BASE)]
        line = [file, f"{len(base)}"]
        for score, digits in (("psnr", 2), ("ssimulacra2", 1)):
            line.append(f"{np.mean([r[score] for r in base]):.{digits}f}")
            for found in own.values():
                gains = [a[score] - b[score] for a, b in zip(found, base, strict=True)]
                line.append(f"{np.mean(gains):+.2f}")
        cells.append(line)
    head = ["file", "photos"]
    for title in ("PSNR", "SSIMULACRA 2"):
        head += [f"`{BASE}`, {title}", *(f"`{name}`" for name in others)]
    return f"{table(head, cells)}\n\n*{made_on(record['machine'])}.*"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cut_decoders", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--bundle", action="append", required=True, metavar="DECODER=ZIP", help="may be repeated")
    add("--images", type=Path, action="append", required=True, metavar="DIR")
    add("--limit", type=int, help="photos of each folder, evenly over their names")
    add("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    decoders = {BASE: Codec.load("photo", device="cpu", threads=1)}
    for named in options.bundle:
        name, _, path = named.partition("=")
        decoders[name] = Codec.load(path, device="cpu", threads=1)
    paths: list[Path] = []
    for folder in options.images:
        found = find_images(folder)
        paths += spread(found, options.limit or len(found))
    rows = [row for path in track(paths, "decoding") for row in rows_of(path, decoders)]
    record = {
        "benchmark": "cut_decoders",
        "machine": describe(("numpy", "onnxruntime")),
        "images": [describe_image(path) for path in paths],
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(lines(record) + "\n", encoding="utf-8")
    print(markdown(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
