"""Measure the times of a run of `benchmarks.decoders` again, on a quiet machine.

::

    python -m benchmarks.decoders_times benchmarks/results/decoders-NAME.json --images DIR

Every picture is encoded again; files of other lengths than the run's are refused, as its scores
would not be theirs. Scores stay; times and what follows from them are written anew.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks import _machine, decoders, family
from benchmarks.family import Row
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.plan import UsageError
from trellic.codec import Codec


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        result = json.loads(options.result.read_text(encoding="utf-8"))
        rows = timed_again(result, options.images, options.model, options.repeats, console)
    except (*decoders.ERRORS, OSError, ValueError, KeyError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    found = family.differences(rows)
    result |= {
        "times_machine": _machine.describe(decoders.PACKAGES),
        "repeats": options.repeats,
        "goals": decoders.goals(found),
        "differences": [asdict(one) for one in found],
        "rows": [asdict(row) for row in rows],
    }
    decoders.write(result, rows, found, options.result, options.plots, console)
    return 0


def timed_again(
    result: dict[str, Any], images: Path, model: str, repeats: int, console: Console
) -> list[Row]:
    """Return a run's rows with times measured now.

    Parameters
    ----------
    result : of `benchmarks.decoders`
    images : folder of its pictures
    model : name or path of its model
    repeats : times that each decoder decodes
    console : for the progress bar

    Raises
    ------
    UsageError
        The model, a picture or the length of a file is not the run's.
    """
    rows = [Row(**row) for row in result["rows"]]
    codec = Codec.load(model, threads=result["threads"])
    if codec.bundle.manifest.stream_id != result["stream_id"]:
        raise UsageError(f"the run is of stream id {result['stream_id']}, {model} has another")
    paths = {path.name: path for path in find_images(images)}
    for known in result["images"]:
        path = paths.get(known["name"])
        if path is None or describe_image(path)["sha256"] != known["sha256"]:
            raise UsageError(f"{images} does not hold the run's {known['name']}")
    names = list(dict.fromkeys(row.decoder for row in rows))
    for name in names:
        codec.warm_up(trellis=result["trellis"], decoder=name)
    jobs = list(dict.fromkeys((row.image, row.quality) for row in rows))
    times = {}
    for image, quality in track(jobs, "decode", console=console):
        data = codec.encode(read_pixels(paths[image]), quality=quality, trellis=result["trellis"])
        if any(len(data) != r.bytes for r in rows if (r.image, r.quality) == (image, quality)):
            raise UsageError(f"{image} at quality {quality:g} has {len(data)} bytes, not the run's")
        seconds, _ = family.timed(family.decodes(codec, names), data, repeats)
        times |= {(image, quality, name): value for name, value in seconds.items()}
    return [replace(row, seconds=times[row.image, row.quality, row.decoder]) for row in rows]


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoders_times",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("result", type=Path, metavar="JSON", help="of benchmarks.decoders; written anew")
    add("--images", type=Path, required=True, metavar="DIR", help="folder of its photos")
    add("--model", default="photo", metavar="NAME|PATH", help="default photo")
    add("--repeats", type=int, default=5, help="of each decoding (default 5)")
    add("--plots", type=Path, metavar="DIR", help="also draw the plots")
    return parser


if __name__ == "__main__":
    sys.exit(main())
