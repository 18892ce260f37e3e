"""Progressive coding: what the beginning of a file is worth, against files made for that length.

::

    python -m benchmarks.progressive --images DIR [--count N] [--trellis 8]

Each coding makes one file of a photo. It is cut to lengths of 20 to 100 % of a reference file: of
Trellic's ordinary file at quality 75, of JPEG's progressive file at quality 85, of JPEG XL's at
distance 2. The picture of the beginning is scored, and the record says how many more bits the
length is than a file that was made for that score, by the same codec without layers. The record is
written after every photo, and photos that it holds are left out when the command is run again.

JPEG XL is measured where its programs are installed (`benchmarks.progressive_jxl`). A photo that a
record holds without JPEG XL gets it when the command is run again.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFile
from rich.progress import Progress

from benchmarks import progressive_jxl
from benchmarks._machine import describe
from benchmarks.bdrate import Curve, frontier, log_rate
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.metrics import psnr
from benchmarks.runs import lines
from trellic import bitstream
from trellic.bitstream import Layering
from trellic.codec import Codec
from trellic.errors import BadParameter
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.layers import layering_for
from trellic.scored import ssimulacra2

ROOT = Path(__file__).resolve().parent
LENGTHS: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
QUALITY: Final = 75.0
MADE: Final = (10, 20, 30, 40, 50, 60, 68, 75, 82)  # qualities of files made for a length
JPEG_QUALITY: Final = 85
JPEG_MADE: Final = (5, 10, 20, 35, 50, 65, 75, 85)
ORDERED_PARTS: Final = 8
WEIGHED_PARTS: Final = 4
RIVALS: Final = ("jpeg", "jxl")
Decode = Callable[[bytes, int], Pixels | None]
Scores = tuple[float, float]


def ordered(_: int, steps: int, __: int) -> Layering:
    """One layer whose context steps come in eight parts, those of large scale first."""
    return Layering((), ORDERED_PARTS, steps * ORDERED_PARTS)


def weighed(quality16: int, steps: int, _: int) -> Layering:
    """Layers of the same qualities that do not narrow intervals: the format's first kind."""
    below = layering_for(quality16, steps).below
    return Layering(below, WEIGHED_PARTS, (1 + len(below)) * steps * WEIGHED_PARTS)


def by_steps(_: int, steps: int, __: int) -> Layering:
    """The ordinary file, cut at its context steps."""
    return Layering((), 1, steps)


CODINGS: Final = {
    "layers": layering_for,
    "weighed": weighed,
    "ordered": ordered,
    "steps": by_steps,
}


class Ours:
    """Trellic: ordinary files, and progressive ones of each coding."""

    def __init__(self, trellis: int) -> None:
        self.codec, self.trellis = Codec.load("photo", device="cpu"), trellis

    def made(self, pixels: Pixels, quality: float) -> bytes:
        """Encode an ordinary file."""
        return self.codec.encode(pixels, quality=quality, trellis=self.trellis)  # type: ignore[arg-type]

    def coded(self, pixels: Pixels, coding: str) -> bytes:
        """Encode a progressive file."""
        codec = self.codec
        codec._encoding = StreamEncoder(codec.bundle, codec._pool, layering=CODINGS[coding])
        return codec.encode(
            pixels,
            quality=QUALITY,
            trellis=self.trellis,  # type: ignore[arg-type]
            progressive=True,
        )

    def decode(self, data: bytes, length: int) -> Pixels | None:
        """Decode the beginning of a file, None where it is no picture yet."""
        try:
            return self.codec.decode(bitstream.cut(data, max_bytes=length).data)
        except BadParameter:
            return None


def jpeg(pixels: Pixels, quality: float, *, progressive: bool) -> bytes:
    """Encode with libjpeg-turbo at 4:4:4, with optimized Huffman tables."""
    out = io.BytesIO()
    options = {"quality": int(quality), "subsampling": 0, "optimize": True}
    Image.fromarray(pixels).save(out, "JPEG", progressive=progressive, **options)
    return out.getvalue()


def jpeg_decode(data: bytes, length: int) -> Pixels | None:
    """Decode the beginning of a file, as browsers do."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        return np.asarray(Image.open(io.BytesIO(data[:length])).convert("RGB"))
    except OSError:
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def scores(original: Pixels, decoded: Pixels) -> Scores:
    """Return PSNR and SSIMULACRA 2."""
    return psnr(original, decoded), ssimulacra2(original, decoded)


def photo(path: Path, ours: Ours) -> dict[str, Any]:
    """Measure one photo: [bytes, PSNR, SSIMULACRA 2] of files made for a length, and of cuts.

    ``full`` is the length of the ordinary file, ``whole`` are the progressive ones uncut.
    """
    pixels = read_pixels(path)
    made = {quality: ours.made(pixels, quality) for quality in MADE}
    files = {coding: ours.coded(pixels, coding) for coding in CODINGS}
    jpegs = {quality: jpeg(pixels, quality, progressive=True) for quality in JPEG_MADE}
    full, full_jpeg = len(made[int(QUALITY)]), len(jpegs[JPEG_QUALITY])
    whole = _whole(pixels, files.values(), ours.decode)
    return {
        "image": describe_image(path),
        "made": _whole(pixels, made.values(), ours.decode),
        "full": full,
        "whole": dict(zip(files, whole, strict=True)),
        "cuts": {coding: _cuts(pixels, data, full, ours.decode) for coding, data in files.items()},
        "jpeg_made": _whole(pixels, jpegs.values(), jpeg_decode),
        "jpeg_cuts": _cuts(pixels, jpegs[JPEG_QUALITY], full_jpeg, jpeg_decode),
    }


def jpeg_xl(path: Path) -> dict[str, Any]:
    """Measure one photo in JPEG XL: files made for a length, ordinary ones, and cuts."""
    pixels, jxl = read_pixels(path), progressive_jxl
    made = [jxl.encode(pixels, distance, progressive=False) for distance in jxl.MADE]
    whole = jxl.encode(pixels, jxl.DISTANCE, progressive=True)
    return {
        "jxl_made": _whole(pixels, made, jxl.decode),
        "jxl_size": len(whole),
        "jxl_cuts": _cuts(pixels, whole, len(whole), jxl.decode),
    }


def _whole(pixels: Pixels, files: Any, decode: Decode) -> list[list[float]]:
    rows = []
    for data in files:
        decoded = decode(data, len(data))
        if decoded is None:
            raise ValueError("a whole file did not decode")
        rows.append([len(data), *np.round(scores(pixels, decoded), 4).tolist()])
    return rows


def _cuts(pixels: Pixels, data: bytes, full: int, decode: Decode) -> list[list[float] | None]:
    rows: list[list[float] | None] = []
    for share in LENGTHS:
        length = round(share * full)
        decoded = decode(data, length)
        found = None if decoded is None else np.round(scores(pixels, decoded), 4).tolist()
        rows.append(None if found is None else [length, *found])
    return rows


def more_bits(
    made: Sequence[Sequence[float]], cut: Sequence[float] | None, score: int
) -> float | None:
    """Return how many percent more bits a cut has than a file made for its score.

    Parameters
    ----------
    made, cut : [bytes, PSNR, SSIMULACRA 2]
    score : 1 for PSNR, 2 for SSIMULACRA 2

    Returns
    -------
    None where there is no picture, or its score is below those of all files that were made
    """
    if cut is None:
        return None
    points = np.array(made)
    curve = frontier(Curve(points[:, 0], points[:, score]))
    if cut[score] < curve.quality[0]:
        return None
    at = min(cut[score], float(curve.quality[-1]))
    return float(100 * (cut[0] / np.exp(log_rate(curve)(at)) - 1))


def summary(photos: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[list[float | int]]]]:
    """Return for each coding and score, at each length, [mean percent, photos that have one]."""
    found: dict[str, dict[str, list[list[float | int]]]] = {}
    for name in (*CODINGS, *RIVALS):
        found[name] = {}
        for score, column in (("psnr", 1), ("ssimulacra2", 2)):
            rows = []
            for i in range(len(LENGTHS)):
                values = []
                for one in photos:
                    cuts = one.get(f"{name}_cuts") if name in RIVALS else one["cuts"][name]
                    if cuts is None:  # JPEG XL was not installed
                        continue
                    made = one[f"{name}_made" if name in RIVALS else "made"]
                    value = more_bits(made, cuts[i], column)
                    values += [] if value is None else [value]
                mean = float(np.mean(values)) if values else float("nan")
                rows.append([round(mean, 1) if values else None, len(values)])
            found[name][score] = rows
    return found


def record(paths: Sequence[Path], out: Path, trellis: int) -> list[dict[str, Any]]:
    """Measure what a record does not hold yet of some photos; it is written after each."""
    photos = json.loads(out.read_text(encoding="utf-8"))["photos"] if out.is_file() else []
    known = {one["image"]["name"]: one for one in photos}
    absent = progressive_jxl.missing()
    if absent:
        print(absent, file=sys.stderr)
    ours: Ours | None = None  # loaded where a photo needs it
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("progressive", total=len(paths))
        for path in paths:
            one = known.get(path.name)
            new = one is None
            if one is None:
                ours = ours or Ours(trellis)
                one = photo(path, ours)
                photos.append(one)
            if not absent and "jxl_cuts" not in one:
                one |= jpeg_xl(path)
                new = True
            if new:
                _write(photos, out, trellis)
            progress.advance(task)
    return photos


def _write(photos: Sequence[dict[str, Any]], out: Path, trellis: int) -> None:
    settings = {"trellis": trellis, "quality": QUALITY, "lengths": LENGTHS}
    if any("jxl_cuts" in one for one in photos):
        settings |= {"jxl": progressive_jxl.version(), "jxl_distance": progressive_jxl.DISTANCE}
    whole = {
        "machine": describe(("numpy", "numba", "onnxruntime", "pillow")),
        "settings": settings,
        "summary": summary(photos),
        "photos": photos,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(lines(whole) + "\n", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, help="photos to use, evenly over the names")
    parser.add_argument("--trellis", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        paths = find_images(options.images)
    except FileNotFoundError as error:
        parser.error(str(error))
    if options.count:
        paths = paths[:: max(1, len(paths) // options.count)][: options.count]
    out = options.out or ROOT / "results" / f"progressive-{options.images.name}.json"
    for name, rows in summary(record(paths, out, options.trellis)).items():
        for score, cells in rows.items():
            print(f"{name:<8} {score:<12}", *(f"{mean}% ({n})" for mean, n in cells))


if __name__ == "__main__":
    main()
