"""One bitstream, many decoders: what each makes of the same files, how good, how fast.

::

    python -m benchmarks.decoders --images DIR --decoders quality,perceptual:0.5,perceptual,preview

Every picture is encoded once at each quality; every decoder gets that file. The table has the means
over the pictures, and by how much each decoder is better than ``quality``, with 95 % intervals by
bootstrap over the pictures. A decoder of smaller pictures (``preview``) is compared with the
original's means over squares of that size, and shows only the scores that are defined there. Times
are medians of decoding in this process, the decoders taking turns.

With ``--critic TRAIN`` a critic is trained for each decoder on crops of the photos in that folder
and of what the decoder makes of them; its distance on the pictures in DIR, which it has not seen,
is shown and not counted (see `benchmarks.critic`).

Scores do not mind a busy machine, times do: `benchmarks.decoders_times` measures those of a run
again.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import _machine, family, scores
from benchmarks.codecs import Pixels, SpecError
from benchmarks.family import BASE, Difference, Row
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.plan import UsageError
from benchmarks.runs import lines
from benchmarks.scores import SCORES, ScoreUnavailableError
from trellic.codec import Codec
from trellic.constants import DEFAULT_TRELLIS
from trellic.errors import TrellicError

ERRORS = (ScoreUnavailableError, SpecError, FileNotFoundError, UsageError, TrellicError)
METRICS = "psnr,ssimulacra2,ms_ssim,haarpsi,vsi,sliced_wasserstein"
PACKAGES = ("numpy", "onnxruntime", "ssimulacra2", "piq", "torch")
MAX_LOSS = 1.5  # dB of PSNR that `perceptual` may lose
PREVIEW_SHARE = 0.1  # of the time of `quality` that `preview` may take
FORMATS = {"psnr": ".2f", "ssimulacra2": ".2f", "sliced_wasserstein": ".1f", "butteraugli": ".3f"}
EMPTY = "-"
Cells = list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        run(options, console)
    except ERRORS as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    return 0


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, compare, print and write."""
    names, qualities = decoder_names(options.decoders), _numbers(options.quality)
    chosen = scores.parse(options.metrics)
    images = find_images(options.images)[: options.limit]
    train = _photos_of_critic(options.critic, images)
    codec = Codec.load(options.model, threads=options.threads)
    for name in names:
        codec.warm_up(trellis=options.trellis, decoder=name)
    rows: list[Row] = []
    jobs = [(path, quality) for path in images for quality in qualities]
    for path, quality in track(jobs, "decode and compare", console=console):
        original = read_pixels(path)
        data = codec.encode(original, quality=quality, trellis=options.trellis)
        rows += family.measure(
            codec, path.name, original, data, quality, names, chosen, options.repeats
        )
    found = family.differences(rows)
    result = {
        "benchmark": "decoders",
        "machine": _machine.describe(PACKAGES),
        "model": codec.model,
        "stream_id": codec.bundle.manifest.stream_id,
        "trellis": options.trellis,
        "repeats": options.repeats,
        "threads": options.threads,
        "images": [describe_image(path) for path in images],
        "kmac_per_pixel": {name: family.kmac_per_pixel(codec, name) for name in names},
        "goals": goals(found),
        "critic": _critic(options, codec, names, images, train, console),
        "differences": [asdict(one) for one in found],
        "rows": [asdict(row) for row in rows],
    }
    out = options.out or Path("benchmarks/results") / (
        f"decoders-{options.name or options.images.resolve().name}.json"
    )
    _print(result, rows, found, console)
    write(result, rows, found, out, None if options.no_plot else options.plots, console)


def goals(found: Iterable[Difference]) -> dict[str, bool]:
    """Return which goals of the decoders are met, at every quality; those that apply.

    `perceptual` has to be better than `quality` by SSIMULACRA2 and by the sliced Wasserstein
    distance and to lose at most 1.5 dB; `preview` to take at most a tenth of the time.
    """
    rules = {
        "perceptual: SSIMULACRA2": ("perceptual", "ssimulacra2", lambda x: x > 0),
        "perceptual: sliced Wasserstein": ("perceptual", "sliced_wasserstein", lambda x: x > 0),
        "perceptual: at most 1.5 dB lost": ("perceptual", "psnr", lambda x: x >= -MAX_LOSS),
        "preview: at most a tenth of the time": ("preview", "time", lambda x: x <= PREVIEW_SHARE),
    }
    found = list(found)
    met = {}
    for goal, (decoder, score, holds) in rules.items():
        means = [one.mean for one in found if (one.decoder, one.score) == (decoder, score)]
        if means:
            met[goal] = all(map(holds, means))
    return met


def mean_table(result: dict[str, Any], rows: Sequence[Row]) -> tuple[Cells, list[Cells]]:
    """Return head and cells: the mean over the pictures, at each quality, of each decoder."""
    shown = [name for name in SCORES if any(name in row.scores for row in rows)]
    head = ["quality", "decoder", "bpp", *(SCORES[name].label for name in shown)]
    head += ["decode, ms", "kMAC/pixel", "bytes needed"]
    body = []
    for quality, decoder in dict.fromkeys((row.quality, row.decoder) for row in rows):
        some = [row for row in rows if (row.quality, row.decoder) == (quality, decoder)]
        name = decoder if some[0].scale == 1 else f"{decoder} (1/{some[0].scale})"
        cells = [f"{quality:g}", name, f"{_mean(row.bpp for row in some):.3f}"]
        for score in shown:
            values = [row.scores[score] for row in some if score in row.scores]
            full = len(values) == len(some)
            cells.append(format(_mean(values), FORMATS.get(score, ".4f")) if full else EMPTY)
        cells.append(f"{1000 * _mean(row.seconds for row in some):.1f}")
        cells.append(f"{result['kmac_per_pixel'][decoder]:.2f}")
        cells.append(f"{_mean(row.bytes_needed / row.bytes for row in some):.0%}")
        body.append(cells)
    return head, body


def difference_table(found: Sequence[Difference]) -> tuple[Cells, list[Cells]]:
    """Return head and cells: by how much each decoder is better than `quality`."""
    shown = [name for name in SCORES if any(one.score == name for one in found)]
    head = ["quality", "decoder", *(SCORES[name].label for name in shown), "time, ratio"]
    cells = {(one.quality, one.decoder, one.score): _cell(one) for one in found}
    body = [
        [f"{quality:g}", decoder]
        + [cells.get((quality, decoder, score), EMPTY) for score in [*shown, "time"]]
        for quality, decoder in dict.fromkeys((one.quality, one.decoder) for one in found)
    ]
    return head, body


def markdown(table: tuple[Cells, list[Cells]]) -> str:
    """Draw head and cells as Markdown."""
    head, body = table
    rule = ["---:" if name not in ("decoder",) else "---" for name in head]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body])


def decoder_names(text: str) -> list[str]:
    """Read names separated by commas; `quality`, which the others are compared with, is first."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return list(dict.fromkeys([BASE, *names]))


def _photos_of_critic(folder: Path | None, images: Sequence[Path]) -> list[Path]:
    """Return the photos that critics learn from, none of which may be judged."""
    if folder is None:
        return []
    train = find_images(folder)
    seen, judged = ({describe_image(path)["sha256"] for path in some} for some in (train, images))
    if seen & judged:
        raise UsageError(f"--critic {folder} holds pictures that are to be judged")
    return train


def _critic(
    options: argparse.Namespace,
    codec: Codec,
    names: Sequence[str],
    images: Sequence[Path],
    train: Sequence[Path],
    console: Console,
) -> list[dict[str, Any]]:
    if not train:
        return []
    from benchmarks import critic  # torch takes seconds to import

    found = []
    for quality in _numbers(options.quality):

        def pictures(original: Pixels, quality: float = quality) -> dict[str, Pixels]:
            data = codec.encode(original, quality=quality, trellis=options.trellis)
            made = {name: codec.decode(data, decoder=name) for name in names}
            return {name: one for name, one in made.items() if one.shape == original.shape}

        judged = critic.distances(pictures, train, images)
        for name, value in track(
            judged, f"critics, quality {quality:g}", len(names), console=console
        ):
            found.append({"quality": quality, "decoder": name, "distance": value})
    return found


def critic_table(result: dict[str, Any]) -> tuple[Cells, list[Cells]]:
    """Return head and cells: the critic's distance of each decoder at each quality."""
    body = [
        [f"{one['quality']:g}", one["decoder"], f"{one['distance']:.4f}"]
        for one in result["critic"]
    ]
    return ["quality", "decoder", "critic's distance"], body


def page(result: dict[str, Any], rows: Sequence[Row], found: Sequence[Difference]) -> str:
    """Return the Markdown page of a run."""
    parts = ["# One file, many decoders", markdown(mean_table(result, rows))]
    if found:
        better = "Better than `quality` (positive), with 95 % intervals over the pictures:"
        parts += [better, markdown(difference_table(found))]
    if result["critic"]:
        parts += ["A held-out critic, not counted:", markdown(critic_table(result))]
    parts += [
        f"- {goal}: {'met' if met else '**missed**'}" for goal, met in result["goals"].items()
    ]
    return "\n\n".join(parts) + "\n"


def _print(
    result: dict[str, Any], rows: Sequence[Row], found: Sequence[Difference], console: Console
) -> None:
    tables = {"Means over the pictures": mean_table(result, rows)}
    if found:
        tables["Better than quality by (positive is better)"] = difference_table(found)
    if result["critic"]:
        tables["Held-out critic, not counted"] = critic_table(result)
    for title, (head, body) in tables.items():
        table = Table(*head, title=title)
        for cells in body:
            table.add_row(*cells)
        console.print(table)
    for goal, met in result["goals"].items():
        console.print(f"{goal}: {'met' if met else 'missed'}", highlight=False)


def write(
    result: dict[str, Any],
    rows: Sequence[Row],
    found: Sequence[Difference],
    out: Path,
    plots: Path | None,
    console: Console,
) -> None:
    """Write a run as JSON, its page beside it, and, into the folder `plots`, its plots."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(lines(result) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(result, rows, found), encoding="utf-8")
    console.print(f"wrote {out} and {out.with_suffix('.md').name}")
    if plots:
        from benchmarks.decoders_plot import plot  # matplotlib takes a second to import

        for path in plot(rows, plots, out.stem):
            console.print(f"wrote {path}")


def _cell(one: Difference) -> str:
    form = ".3f" if one.score == "time" else "+" + FORMATS.get(one.score, ".4f")
    if one.ci95 is None:
        return format(one.mean, form)
    return "{} ({} to {})".format(*(format(x, form) for x in (one.mean, *one.ci95)))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--quality {text!r}: expected NUMBER,NUMBER,...") from None


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoders",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add("--model", default="photo", metavar="NAME|PATH", help="default photo")
    add("--quality", default="15,40,65", metavar="Q,Q", help="default 15,40,65")
    add("--decoders", default="quality,perceptual:0.5,perceptual,fast,preview", metavar="NAME,NAME")
    add("--trellis", type=int, default=DEFAULT_TRELLIS, help="states (default %(default)s)")
    add("--metrics", default=METRICS, help=f"of {', '.join(SCORES)}")
    add("--repeats", type=int, default=5, help="of each decoding (default 5)")
    add("--threads", type=int, help="of the engines (default: their own choice)")
    add("--limit", type=int, metavar="N", help="only the first N photos")
    add("--critic", type=Path, metavar="TRAIN", help="train critics on the photos of this folder")
    add("--name", help="name of the data set (default: the folder's)")
    add("--out", type=Path, metavar="JSON", help="default benchmarks/results/decoders-NAME.json")
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    add("--no-plot", action="store_true", help="draw nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
