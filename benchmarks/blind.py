"""Crops of two codecs at equal bytes, to vote on without knowing which is which.

::

    python -m benchmarks.blind make --images DIR --out blind.html --sheets DIR
    python -m benchmarks.blind count votes-1.json votes-2.json

``make`` writes one HTML page that needs no network: it shows original, A and B of each crop in an
order and on sides drawn anew for each voter, counts choices by mouse or keyboard, and gives them
back as JSON. Each photo is encoded whole by the rival at each of ``--qualities``, and by Trellic at
the quality that gives the same bytes within one percent; crops are drawn from a grid, evenly over
photos and qualities. ``--sheets`` also writes contact sheets of ten crops each, which are not
blind. ``count`` adds up what voters saved.
"""

import argparse
import base64
import hashlib
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.codecs import Codec, CodecUnavailableError, Pixels, Spec, SpecError, make
from benchmarks.compare_picture import Panel, draw
from benchmarks.decoders_page import stacked
from benchmarks.labels import label
from benchmarks.match import match_size
from benchmarks.measure import find_images, read_pixels
from benchmarks.plan import UsageError

TEMPLATE = Path(__file__).with_name("blind.html")
EQUAL = 0.01  # largest difference of bytes
SEED = 7
A_SHEET = 10  # crops
CHOICES = ("ours", "theirs", "same")


@dataclass(frozen=True)
class Trial:
    """One crop of a photo, and what two files of equally many bytes make of it."""

    photo: str
    left: int
    top: int
    sizes: tuple[int, int]
    """Bytes of the whole photo: ours, theirs."""
    original: Pixels
    ours: Pixels
    theirs: Pixels


def trials(
    photos: Sequence[Path],
    ours: Codec,
    theirs: Codec,
    qualities: Sequence[float],
    count: int,
    side: int,
) -> Iterator[Trial]:
    """Yield crops at equal bytes, evenly over photos and qualities; the same ones every time.

    Parameters
    ----------
    photos
        Files of pictures, both sides at least ``side``.
    ours
        Its qualities must be fine enough to meet any size within one percent.
    theirs
        The codec that sets the bytes.
    qualities
        Its qualities.
    count
        Crops in all, fewer if the photos have no more room.
    side
        Pixels a side of a crop.
    """
    rng = np.random.default_rng(SEED)
    jobs = [(photo, quality) for photo in photos for quality in qualities]
    jobs = [jobs[i] for i in rng.permutation(len(jobs))]
    each = math.ceil(count / len(jobs))
    left = count
    for photo, quality in jobs:
        if left <= 0:
            return
        original = read_pixels(photo)
        places = _places(original, side)
        chosen = [places[i] for i in rng.permutation(len(places))[: min(each, left)]]
        if not chosen:
            continue
        rival = theirs.encode(original, quality)
        data = match_size(ours, original, len(rival), EQUAL)
        if data is None:
            continue
        pictures = original, ours.decode(data), theirs.decode(rival)
        for x, y in chosen:
            parts = (np.ascontiguousarray(p[y : y + side, x : x + side]) for p in pictures)
            yield Trial(photo.name, x, y, (len(data), len(rival)), *parts)
        left -= len(chosen)


def page(shown: Sequence[Trial], ours: str, theirs: str) -> str:
    """Return the HTML page, the pictures inside it without loss."""
    found = [
        {
            "photo": one.photo,
            "left": one.left,
            "top": one.top,
            "width": one.original.shape[1],
            "bytes": dict(zip(("ours", "theirs"), one.sizes, strict=True)),
            "original": _source(one.original),
            "ours": _source(one.ours),
            "theirs": _source(one.theirs),
        }
        for one in shown
    ]
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]
    data = json.dumps({"page": digest, "ours": ours, "theirs": theirs, "trials": found})
    return TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", data.replace("<", "\\u003c"))


def sheets(shown: Sequence[Trial], ours: str, theirs: str, scale: int) -> Iterator[Image.Image]:
    """Yield contact sheets: rows of original, ours, theirs."""
    for start in range(0, len(shown), A_SHEET):
        rows = []
        for one in shown[start : start + A_SHEET]:
            size = [f"{size:,} bytes of the photo" for size in one.sizes]
            panels = [
                Panel("Original", f"{one.photo} at {one.left}, {one.top}", one.original),
                Panel(ours, size[0], one.ours),
                Panel(theirs, size[1], one.theirs),
            ]
            rows.append(draw(panels, (0, 0, *one.original.shape[1::-1]), scale))
        yield stacked(rows)


def total(files: Iterable[Mapping[str, object]]) -> dict[str, int]:
    """Add up what voters saved.

    Raises
    ------
    UsageError
        The files are of different pages, or not of one.
    """
    found, pages = dict.fromkeys(CHOICES, 0), set()
    for one in files:
        try:
            pages.add(one["page"])
            for vote in one["votes"]:  # type: ignore[attr-defined]
                found[vote["choice"]] += 1
        except (KeyError, TypeError):
            raise UsageError("expected files that a page of benchmarks.blind saved") from None
    if len(pages) != 1:
        raise UsageError(f"votes of different pages ({', '.join(sorted(map(str, pages)))})")
    return found


def interval(wins: int, votes: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share.

    Examples
    --------
    >>> low, high = interval(60, 100)
    >>> round(low, 3), round(high, 3)
    (0.502, 0.691)
    """
    z = 1.959964
    share, extra = wins / votes, z**2 / votes
    middle = (share + extra / 2) / (1 + extra)
    half = z * math.sqrt(share * (1 - share) / votes + extra / votes / 4) / (1 + extra)
    return middle - half, middle + half


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a page or count votes; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (CodecUnavailableError, SpecError, UsageError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _make(options: argparse.Namespace) -> None:
    ours = Spec("trellic", (("model", options.model), ("decoder", options.decoder)))
    theirs = Spec.parse(options.rival)
    photos = find_images(options.images)
    found = trials(photos, make(ours), make(theirs), options.qualities, options.count, options.side)
    shown = list(track(found, "encode and match", total=options.count))
    if not shown:
        raise UsageError(f"no photo of {options.images} has room for a crop of {options.side}")
    names = label("trellic"), label(str(theirs))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(shown, *names), encoding="utf-8")
    print(f"wrote {options.out}: {len(shown)} crops")
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
        for number, sheet in enumerate(sheets(shown, *names, options.scale), 1):
            sheet.save(options.sheets / f"sheet-{number:02d}.png", optimize=True)
        print(f"wrote {number} sheets to {options.sheets}")


def _count(options: argparse.Namespace) -> None:
    files = [json.loads(path.read_text(encoding="utf-8")) for path in options.votes]
    found = total(files)
    ours, theirs = str(files[0].get("ours", "ours")), str(files[0].get("theirs", "theirs"))
    print(f"{ours} {found['ours']}, {theirs} {found['theirs']}, cannot tell {found['same']}")
    if decided := found["ours"] + found["theirs"]:
        low, high = interval(found["ours"], decided)
        share = 100 * found["ours"] / decided
        print(
            f"{ours} in {share:.1f} % of those decided (95 %: {100 * low:.1f} to {100 * high:.1f})"
        )


def _places(pixels: Pixels, side: int) -> list[tuple[int, int]]:
    """Return the corners (left, top) of a grid of crops, in the middle of the photo."""
    height, width = pixels.shape[:2]
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    return [(left + x * side, top + y * side) for y in range(rows) for x in range(columns)]


def _source(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=80, exact=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.blind",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    maker = commands.add_parser("make", help="encode, crop and write the page")
    maker.set_defaults(run=_make)
    add = maker.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add("--model", default="photo", metavar="NAME|PATH", help="Trellic's model (default photo)")
    add("--decoder", default="quality", help="Trellic's decoder (default quality)")
    add("--rival", default="avif", metavar="CODEC", help="sets the bytes (default avif, speed 6)")
    add("--qualities", type=_numbers, default=(25.0, 40.0, 55.0), help="the rival's: 25,40,55")
    add("--count", type=int, default=200, help="crops (default 200)")
    add("--side", type=int, default=256, help="pixels a side of a crop (default 256)")
    add("--out", type=Path, default=Path("blind.html"), metavar="HTML")
    add("--sheets", type=Path, metavar="DIR", help="also write contact sheets there")
    add("--scale", type=int, default=2, help="magnification on the sheets (default 2)")
    counter = commands.add_parser("count", help="add up the votes that voters saved")
    counter.set_defaults(run=_count)
    counter.add_argument("votes", type=Path, nargs="+", metavar="JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
