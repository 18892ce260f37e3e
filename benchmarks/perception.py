"""Perception against distortion at a fixed rate: every decoder gets as many bits.

::

    python -m benchmarks.perception --rate 0.25,0.75 --images DIR

Each photo is encoded once for each model and rate, by ``bpp``, which is met from below within 3 %.
All decoders of that model make a picture of that one file; PSNR is the distortion, the other scores
are perception. Kirmemis and Tekalp ("A practical approach for rate-distortion-perception analysis
in learned image compression", 2021) fix the rate to look at the other two alone. The result is
written after each photo.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks import _machine, scores
from benchmarks.codecs import Pixels, SpecError
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.scores import SCORES, ScoreUnavailableError
from benchmarks.speed_tables import table
from trellic.codec import Codec as Trellic
from trellic.errors import TrellicError

ROOT = Path(__file__).resolve().parent
DECODERS = "photo:quality,photo:fast,photo-psnr:quality,photo-psnr:fast"
METRICS = "psnr,ssimulacra2,cvvdp,sliced_wasserstein"
TRELLIS = 32
ERRORS = (ScoreUnavailableError, SpecError, FileNotFoundError, TrellicError, ValueError)
MARKERS = "osD^vPX*<>"


@dataclass(frozen=True)
class Row:
    """One photo at one rate, as one decoder makes it."""

    image: str
    rate: float
    """Bits per pixel that were asked for."""
    coder: str
    """MODEL:DECODER."""
    bpp: float
    scores: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        run(options)
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Measure, write and draw."""
    chosen = scores.parse(options.metrics)
    rates = [float(part) for part in options.rate.split(",")]
    images = find_images(options.images)[: options.count]
    ways = by_model(options.decoders)
    codecs = {name: Trellic.load(name, device="cpu") for name in ways}
    record: dict[str, Any] = {
        "benchmark": "perception",
        "machine": _machine.describe(("numpy", "onnxruntime", "ssimulacra2", "cvvdp", "pillow")),
        "trellis": TRELLIS,
        "stream_ids": {
            Path(name).stem: codec.bundle.manifest.stream_id for name, codec in codecs.items()
        },
        "images": [],
        "rows": [],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for path in track(images, "photos"):
        pixels = read_pixels(path)
        for rate in rates:
            for coder, size, picture in pictures(codecs, ways, pixels, rate):
                found = {name: SCORES[name].compute(pixels, picture) for name in chosen}
                bpp = 8 * size / pixels[..., 0].size
                record["rows"].append(asdict(Row(path.name, rate, coder, bpp, found)))
        record["images"].append(describe_image(path))
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))
    plot(record, options.plots)


def by_model(text: str) -> dict[str, list[str]]:
    """Read MODEL:DECODER[:SHARE],... to the decoders of each model.

    Raises
    ------
    ValueError
        A part names no decoder.

    Examples
    --------
    >>> by_model("photo:quality,photo:fast,old.zip:perceptual:0.5")
    {'photo': ['quality', 'fast'], 'old.zip': ['perceptual:0.5']}
    """
    found: dict[str, list[str]] = {}
    for part in text.split(","):
        model, _, decoder = part.strip().partition(":")
        if not decoder:
            raise ValueError(f"--decoders {part!r}: expected MODEL:DECODER")
        found.setdefault(model, []).append(decoder)
    return found


def pictures(
    codecs: Mapping[str, Trellic],
    ways: Mapping[str, Sequence[str]],
    pixels: Pixels,
    rate: float,
) -> Iterator[tuple[str, int, Pixels]]:
    """Yield the name, the file's bytes and the picture of each decoder at a rate."""
    for name, codec in codecs.items():
        data = codec.encode(pixels, bpp=rate, trellis=TRELLIS)
        for decoder in ways[name]:
            yield f"{Path(name).stem}:{decoder}", len(data), codec.decode(data, decoder=decoder)


# ---- what came out ----


def means(record: Mapping[str, Any]) -> dict[tuple[float, str], dict[str, float]]:
    """Return mean bits per pixel and scores by rate and coder."""
    grouped: dict[tuple[float, str], list[Row]] = {}
    for row in (Row(**one) for one in record["rows"]):
        grouped.setdefault((row.rate, row.coder), []).append(row)
    return {
        key: {"bpp": fmean(row.bpp for row in some)}
        | {name: fmean(row.scores[name] for row in some) for name in some[0].scores}
        for key, some in grouped.items()
    }


def markdown(record: Mapping[str, Any]) -> str:
    """Draw the means as Markdown."""
    found = means(record)
    names = [name for name in SCORES if name in next(iter(found.values()))]
    head = ("rate", "decoder", "bpp", *(SCORES[name].label for name in names))
    rows = []
    for (rate, coder), values in sorted(found.items(), key=lambda item: item[0][0]):
        cells = [f"{values[name]:.{3 if name == 'cvvdp' else 2}f}" for name in names]
        rows.append([f"{rate:g}", f"`{coder}`", f"{values['bpp']:.3f}", *cells])
    return table(head, rows)


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw each measure of perception over PSNR, a colour for each rate, and write the files."""
    found = means(record)
    shown = [name for name in next(iter(found.values())) if name not in ("bpp", "psnr")]

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(4.6 * len(shown), 4.4), layout="constrained")
        for index, score in enumerate(shown):
            axes = figure.add_subplot(1, len(shown), index + 1)
            axes.set_facecolor(theme.background)
            _panel(axes, found, score, theme)
            up = "" if SCORES[score].gain(1, 0) > 0 else " (less is better)"
            axes.set_xlabel("PSNR in dB (RGB)", color=theme.text)
            axes.set_ylabel(SCORES[score].label + up, color=theme.text)
            if up:
                axes.invert_yaxis()
            colour_axes(axes, "", theme)
            if index:
                axes.get_legend().remove()
        return figure

    return write(draw, folder, "perception")


def _panel(
    axes: Axes, found: Mapping[tuple[float, str], Mapping[str, float]], score: str, theme: Theme
) -> None:
    """Draw one measure; coders are markers, and named once."""
    coders = list(dict.fromkeys(coder for _, coder in found))
    for index, rate in enumerate(sorted({rate for rate, _ in found})):
        for marker, coder in zip(MARKERS, coders, strict=False):
            values = found[rate, coder]
            label = coder if index == 0 else None
            axes.plot(
                values["psnr"],
                values[score],
                marker,
                color=theme.colours[index],
                label=label,
                ls="none",
            )
        best = max((found[rate, coder] for coder in coders), key=lambda v: v["psnr"])
        place = (best["psnr"], best[score])
        axes.annotate(
            f"{rate:g} bpp", place, (6, -12), textcoords="offset points", color=theme.text
        )


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perception",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add("--rate", default="0.25,0.75", metavar="BPP,BPP", help="bits per pixel")
    add("--decoders", default=DECODERS, metavar="MODEL:DECODER,...", help="default %(default)s")
    add("--metrics", default=METRICS, help=f"of {', '.join(SCORES)}")
    add("--count", type=int, metavar="N", help="only the first N photos")
    add("--out", type=Path, default=ROOT / "results" / "perception.json")
    add("--plots", type=Path, default=ROOT.parent / "docs" / "plots", metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
