"""How many photos give the same file again when they are decoded and encoded with ``--steady``.

::

    python -m benchmarks.standing --images DIR [--images DIR] [--quality 60,75] [--limit N]
    python -m benchmarks.standing --images DIR --crop 5,3 --out standing-cropped.json

Each photo is encoded, decoded to 8 bits, and encoded again with the same options: steady, and as an
ordinary file for comparison. ``--crop`` leaves out the first rows and columns. Seconds are those of
one thread (processor time), of the first and the second encode.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks._machine import describe, made_on
from benchmarks.codecs import Pixels
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from benchmarks.speed_tables import table
from trellic.codec import Codec

RESULT = Path(__file__).resolve().parent / "results" / "standing.json"
Row = dict[str, Any]


def twice(codec: Codec, pixels: Pixels, quality: float, *, steady: bool) -> Row:
    """Encode, decode and encode again."""
    seconds, files = [], []
    for picture in (pixels, None):
        shown = codec.decode(files[0]) if picture is None else picture
        start = time.process_time()
        files.append(codec.encode(shown, quality=quality, steady=steady))
        seconds.append(round(time.process_time() - start, 3))
    pictures = [codec.decode(data) for data in files]
    return {
        "steady": steady,
        "same": files[0] == files[1],
        "bytes": [len(data) for data in files],
        "seconds": seconds,
        "psnr": [round(psnr(pixels, shown), 4) for shown in pictures],
    }


def drawn(results: Path, name: str = "standing") -> str:
    """Draw a table of docs/saving-again.md."""
    return markdown(json.loads((results / f"{name}.json").read_text(encoding="utf-8")))


def cropped(results: Path) -> str:
    """Draw the table of photos whose sides are odd."""
    return drawn(results, "standing-cropped")


def markdown(record: Mapping[str, Any]) -> str:
    """Draw a table, a line for each set, quality and kind of file."""
    head = "photos", "quality", "file", "same bytes again", "PSNR lost", "seconds", "and again"
    lines = []
    for name, quality, steady in dict.fromkeys(
        (row["set"], row["quality"], row["steady"]) for row in record["rows"]
    ):
        wanted = name, quality, steady
        rows = [r for r in record["rows"] if (r["set"], r["quality"], r["steady"]) == wanted]
        lost = np.mean([row["psnr"][0] - row["psnr"][1] for row in rows])
        first, second = np.mean([row["seconds"] for row in rows], 0)
        same = sum(row["same"] for row in rows)
        kind = "`--steady`" if steady else "ordinary"
        cells = [f"{same} of {len(rows)}", f"{abs(lost):.3f} dB", f"{first:.1f}", f"{second:.1f}"]
        lines.append([name, f"{quality:g}", kind, *cells])
    made = f"{made_on(record['machine'])}, one thread, while other programs ran."
    return f"{table(head, lines)}\n\n*{made}*"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, action="append", required=True)
    parser.add_argument("--quality", default="60,75")
    parser.add_argument("--limit", type=int, help="photos of each folder")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--crop", default="0,0", metavar="ROWS,COLUMNS")
    asked = parser.parse_args()
    top, left = map(int, asked.crop.split(","))
    codec, rows = Codec.load("photo", "cpu", 1), []
    for folder in asked.images:
        for path in track(find_images(folder)[: asked.limit], folder.name):
            pixels = np.ascontiguousarray(read_pixels(path)[top:, left:])
            for quality in map(float, asked.quality.split(",")):
                for steady in (False, True):
                    of = {"set": folder.name, "photo": path.name, "quality": quality}
                    rows.append(of | twice(codec, pixels, quality, steady=steady))
    record = {"benchmark": "standing", "machine": describe(), "rows": rows}
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))


if __name__ == "__main__":
    main()
