"""What slices cost: bits at borders, what prediction across would gain, and seams in pictures.

::

    python -m benchmarks.borders --images DIR [--images DIR2]

Slices decode alone. A large picture is coded in slices of a few sizes and, with the same networks,
as one slice, where contexts see everything: the difference is what contexts across borders would
gain. The picture is a mosaic of a folder's photos, so shifted that no border of slices meets a seam
between two photos. Wu
et al. ("Learned block-based hybrid image compression", 2022) predict a block from those to the left
and above, pooled into strips: how much the scales of a slice tell of the next one's is measured by
shifting all tables of a channel, by what was best in a slice before (`shifted`).
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks import _machine
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table
from trellic.engines.pool import EnginePool
from trellic.entropy.tables import Tables
from trellic.geometry import Rectangle
from trellic.images import Picture
from trellic.latents import cpu as arithmetic
from trellic.latents.encoder import NOT_CODED, hyper_symbols
from trellic.latents.lanes import guess_lanes
from trellic.latents.order import grid_of
from trellic.model.bundle import Bundle, find
from trellic.pipeline import transforms
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import EncodeOptions
from trellic.support.clock import Clock

ROOT = Path(__file__).resolve().parent
SIDES = (16, 32, 64)  # of slices, in latents; 64 is what files have
WHOLE = 1 << 16  # a slice as large as any picture
PHOTO = 512  # pixels a side of a photo in a mosaic
FAR = 8  # latents from a border: what is at least so far counts as inside
SHIFTS = (-3, -2, -1, 0, 1, 2, 3)  # of scale indices
NEAR = 8  # pixels on each side of a border that are looked at for seams
GRIDS = ((3, 4), (6, 8), (10, 10))  # slices of pictures of 12, 50 and 100 megapixels

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]


@dataclass(frozen=True)
class Coded:
    """A picture that was coded in slices of one size, without bytes."""

    grid: list[Rectangle]
    k: Ints
    """int32 (latents, rows, columns), symbols."""
    cls: Ints
    index: Ints
    bits: Floats
    """Of each latent, by the coder's tables."""
    picture: Pixels


class Coder:
    """Codes pictures with a model, in slices of any size."""

    def __init__(self, model: str, quality: float, trellis: int = 32) -> None:
        self.bundle = Bundle(find(model))
        self._pool = EnginePool(self.bundle, "cpu", 1, "fp32")
        self._encoder = StreamEncoder(self.bundle, self._pool)
        self._coder = self._encoder.latents()
        self._quantizer = EncodeOptions(quality, trellis=trellis).quantizer(self.bundle)
        self._level = self.bundle.levels.at(round(16 * quality), trellis)

    def code(self, pixels: Pixels, sides: Sequence[int]) -> Iterator[Coded]:
        """Yield a picture coded with slices of each size, in latents."""
        layout, level = self.bundle.manifest.layout, self._level
        plane = layout.plane(pixels.shape[1], pixels.shape[0])
        told = level.quality if self.bundle.manifest.encoder.sees_quality else None
        f, h = self._encoder.analyse(Picture(pixels), plane, Clock(), quality=told)
        z = hyper_symbols(h, level)
        engine = transforms.told(self._pool.decoder("quality"), level.quality)
        halo = self.bundle.manifest.decoders["quality"].graph.halo
        for side in sides:
            grid = grid_of(plane, side)
            k = np.zeros(f.shape, np.int32)
            v32, index = np.zeros_like(k), np.zeros(f.shape, np.uint8)
            cls = np.full(f.shape, NOT_CODED, np.uint8)
            for part in grid:
                own = (slice(None), *part.index())
                y32 = arithmetic.to_fixed(f[own], level.gain_float)
                context = self._coder.predictor.start(z, part, plane, level)
                lanes = guess_lanes(arithmetic.log_sum(y32), y32.size)
                found = [np.zeros_like(p[own]) for p in (k, cls, index)]
                found[1][:] = NOT_CODED
                for step, place, scales, symbols in _steps(
                    self._coder._chosen(y32, context, self._quantizer, lanes, None)
                ):
                    for into, values in zip(found, (symbols.k, symbols.cls, scales), strict=True):
                        into[step.first : step.last].reshape(-1)[place] = values
                for into, values in zip((k, cls, index), found, strict=True):
                    into[own] = values
                v32[own] = context.v32
            latents = v32.astype(np.float32) / (32 * level.gain_float[:, None, None])
            picture = transforms.synthesis(engine, latents, plane, halo)
            bits = cost(k, cls, index, self.bundle.tables)
            yield Coded(grid, k, cls, index, bits, picture)


def _steps(chosen: Any) -> Iterator[Any]:
    return ((one.step, one.position, one.scale_index, one.symbols) for one in chosen)


def cost(k: Ints, cls: Ints, index: Ints, tables: Tables) -> Floats:
    """Return the bits of symbols by the coder's tables, 0 where nothing is coded.

    Parameters
    ----------
    k, cls, index : symbols, their classes and scale indices, of any one shape
    """
    coded = cls != NOT_CODED
    number = cls[coded].astype(np.int64) * tables.scales + index[coded]
    size, start = tables.sizes[number], tables.start[number]
    most = size // 2 - 1
    value = k[coded]
    beyond = np.maximum(np.abs(value) - most, 0)
    place = np.where(beyond > 0, size - 1, value + most)
    digits = np.where(beyond > 0, 2 * (np.frexp(beyond)[1]), 0)
    bits = np.zeros(k.shape)
    bits[coded] = tables.rates()[start + place] / 64 + digits
    return bits


def distance(grid: Sequence[Rectangle], shape: tuple[int, int], scale: int = 1) -> Ints:
    """Return how many places each place is away from the nearest border between two slices.

    Parameters
    ----------
    grid : slices, in latents
    shape : rows and columns of the plane
    scale : places in a latent, each way
    """
    found = np.full(shape, WHOLE)
    for axis, edges in enumerate(({p.top for p in grid}, {p.left for p in grid})):
        at = np.arange(shape[axis])
        for edge in edges - {0}:
            away = np.where(at >= edge * scale, at - edge * scale, edge * scale - 1 - at)
            found = np.minimum(found, away[:, None] if axis == 0 else away[None, :])
    return found


def by_distance(sliced: Coded, whole: Coded) -> list[tuple[float, float]]:
    """Return bits in slices and as a whole, of latents 0, 1, ... away from a border."""
    away = np.minimum(distance(sliced.grid, sliced.k.shape[1:]), FAR)
    sums = [np.bincount(away.ravel(), c.bits.sum(0).ravel(), FAR + 1) for c in (sliced, whole)]
    return [(float(a), float(b)) for a, b in zip(*sums, strict=True)]


def shifted(coded: Coded, tables: Tables) -> dict[str, float]:
    """Return the bits of all slices but the first with shifted scale indices.

    For each channel of each slice, all scale indices are shifted by one number: "none" is 0, "best"
    the best one for that slice, known to nobody beforehand, "before" the best one of the slices to
    the left and above, which a decoder knows.
    """
    costs = []
    for shift in SHIFTS:
        index = np.clip(coded.index.astype(np.int16) + shift, 0, tables.scales - 1)
        costs.append(cost(coded.k, coded.cls, index.astype(np.uint8), tables))
    table_ = np.array(
        [[c[(slice(None), *part.index())].sum((1, 2)) for c in costs] for part in coded.grid]
    )  # (slices, shifts, channels)
    found = dict.fromkeys(("none", "best", "before"), 0.0)
    for i, part in enumerate(coded.grid):
        known = [j for j, other in enumerate(coded.grid) if _beside(other, part)]
        if not known:
            continue
        choice = table_[known].sum(0).argmin(0)
        found["none"] += float(table_[i, SHIFTS.index(0)].sum())
        found["best"] += float(table_[i].min(0).sum())
        found["before"] += float(table_[i, choice, np.arange(table_.shape[2])].sum())
    return found


def _beside(other: Rectangle, part: Rectangle) -> bool:
    """Whether a slice lies right above another or to its left."""
    above = other.bottom == part.top and other.left == part.left
    return above or (other.right == part.left and other.top == part.top)


def seams(original: Pixels, sliced: Coded, whole: Coded, stride: int) -> dict[str, float]:
    """Return the error beside borders over that inside, and the jump across borders.

    "error": mean squared error of the sliced picture over that of the whole one, beside borders;
    "inside": the same at least `FAR` latents away; "jump": mean absolute difference of the
    neighbours across borders in the sliced picture, over that in the whole one; "original": the
    same of the original.
    """
    away = distance(sliced.grid, original.shape[:2], stride)
    errors = [((p.picture.astype(np.float64) - original) ** 2).mean(2) for p in (sliced, whole)]
    near, far = away < NEAR, away >= FAR * stride
    rows = sorted({p.top * stride for p in sliced.grid} - {0})
    columns = sorted({p.left * stride for p in sliced.grid} - {0})
    jumps = []
    for one in (sliced.picture, whole.picture, original):
        picture = one.astype(np.float64)
        across = [np.abs(picture[r] - picture[r - 1]).ravel() for r in rows]
        across += [np.abs(picture[:, c] - picture[:, c - 1]).ravel() for c in columns]
        jumps.append(np.concatenate(across).mean())
    return {
        "error": float(errors[0][near].mean() / errors[1][near].mean()),
        "inside": float(errors[0][far].mean() / errors[1][far].mean()) if far.any() else 1.0,
        "jump": float(jumps[0] / jumps[1]),
        "original": float(jumps[2] / jumps[1]),
    }


def dependence(rows: int, columns: int) -> dict[str, float]:
    """Return what prediction from the left and from above takes from a grid of slices.

    "at once": slices that can be decoded at the same time, on average, of all that can be today;
    "for one": slices that have to be decoded for one of them, on average; 1 today.
    """
    slices = rows * columns
    for_one = np.mean([(r + 1) * (c + 1) for r in range(rows) for c in range(columns)])
    return {"at once": slices / (rows + columns - 1), "for one": float(for_one)}


def mosaic(photos: Sequence[Pixels]) -> Pixels:
    """Return the middles of as many photos as make a square, side by side.

    It is rolled by a quarter of a photo, so that neither halves nor quarters of photos, where
    borders of slices are, meet a seam.
    """
    count = math.isqrt(len(photos))
    parts = [_middle(photo) for photo in photos[: count**2]]
    rows = [np.concatenate(parts[count * i : count * (i + 1)], 1) for i in range(count)]
    return np.roll(np.concatenate(rows), (PHOTO // 4, PHOTO // 4), (0, 1))


def _middle(photo: Pixels) -> Pixels:
    top, left = ((side - PHOTO) // 2 for side in photo.shape[:2])
    if min(top, left) < 0:
        raise ValueError(f"a photo of {photo.shape[:2]}; mosaics need {PHOTO} pixels a side")
    return photo[top : top + PHOTO, left : left + PHOTO]


# ---- the run ----


def measure(coder: Coder, name: str, pixels: Pixels, sides: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each size of slices that cuts the picture."""
    stride = coder.bundle.manifest.layout.stride
    sides = [side for side in sides if side * stride < max(pixels.shape[:2])]
    whole, *cut = coder.code(pixels, [WHOLE, *sides])
    return [
        {
            "picture": name,
            "side": side,
            "slices": len(sliced.grid),
            "bits": float(sliced.bits.sum()),
            "whole": float(whole.bits.sum()),
            "by_distance": by_distance(sliced, whole),
            "shifted": shifted(sliced, coder.bundle.tables),
            "seams": seams(pixels, sliced, whole, stride),
        }
        for side, sliced in zip(sides, cut, strict=True)
    ]


def summary(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what each quality and size of slices comes to, over all pictures."""
    keys = dict.fromkeys((row["quality"], row["side"]) for row in record["rows"])
    for quality, side in keys:
        rows = [r for r in record["rows"] if (r["quality"], r["side"]) == (quality, side)]
        total = {key: sum(row[key] for row in rows) for key in ("bits", "whole")}
        shift = {key: sum(r["shifted"][key] for r in rows) for key in rows[0]["shifted"]}
        away = np.sum([row["by_distance"] for row in rows], axis=0)
        with np.errstate(invalid="ignore"):  # small slices have nothing that is far
            more = away[:, 0] / away[:, 1] - 1
        yield {
            "quality": quality,
            "side": side,
            "more": total["bits"] / total["whole"] - 1,
            "by_distance": more.tolist(),
            "best": shift["best"] / shift["none"] - 1,
            "before": shift["before"] / shift["none"] - 1,
            **{key: float(np.mean([r["seams"][key] for r in rows])) for key in rows[0]["seams"]},
        }


def markdown(record: Mapping[str, Any]) -> str:
    """Draw bits, gains and seams as Markdown."""
    head = (
        "quality",
        "slices of",
        "bits more than as one slice",
        "at the border",
        "next to it",
        f"{FAR} or more away",
        "tables shifted as in the slices before",
        "as is best",
        "error at borders, sliced over whole",
        "jump across borders, sliced over whole",
        "original over whole",
    )
    rows = []
    for one in summary(record):
        away = [one["by_distance"][i] for i in (0, 1, FAR)]
        rows.append(
            [
                f"{one['quality']:g}",
                f"{16 * one['side']} pixels",
                _percent(one["more"]),
                *("-" if np.isnan(x) else _percent(x) for x in away),
                _percent(one["before"]),
                _percent(one["best"]),
                f"{one['error']:.3f}",
                f"{one['jump']:.3f}",
                f"{one['original']:.3f}",
            ]
        )
    return table(head, rows)


def lost(_: Mapping[str, Any]) -> str:
    """Draw what prediction across slices takes from parallel decoding and from regions."""
    head = ("slices", "at once today", "at once", "for a region of one slice today", "then")
    rows = []
    for grid in GRIDS:
        found = dependence(*grid)
        once = f"{found['at once']:.1f}"
        name = f"{grid[0]} x {grid[1]}"
        rows.append([name, str(grid[0] * grid[1]), once, "1", f"{found['for one']:.1f}"])
    return table(head, rows)


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %"


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the bits that slices cost, over the distance from the border."""

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor(theme.background)
        for colour, one in zip(theme.colours * 2, summary(record), strict=False):
            label = f"quality {one['quality']:g}, {16 * one['side']} pixels"
            values = [100 * x for x in one["by_distance"]]
            axes.plot(range(FAR + 1), values, marker="o", ms=3, color=colour, label=label)
        axes.set_xlabel(f"latents from the border ({FAR}: as far or farther)", color=theme.text)
        axes.set_ylabel("bits more than as one slice, %", color=theme.text)
        colour_axes(axes, "What slices cost", theme)
        return figure

    return write(draw, folder, "borders")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Bits and seams at borders of slices.")
    parser.add_argument("--images", type=Path, required=True, action="append", metavar="DIR")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", default="30,60")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "borders.json")
    parser.add_argument("--plots", type=Path, default=ROOT.parent / "docs" / "plots")
    options = parser.parse_args()
    paths = {folder.resolve().name: find_images(folder) for folder in options.images}
    pictures = {name: mosaic([read_pixels(p) for p in some]) for name, some in paths.items()}
    record: dict[str, Any] = {
        "benchmark": "borders",
        "machine": _machine.describe(("numpy", "onnxruntime", "numba")),
        "model": options.model,
        "images": [describe_image(path) for some in paths.values() for path in some],
        "rows": [],
    }
    for quality in map(float, options.quality.split(",")):
        coder = Coder(options.model, quality)
        for name, pixels in track(pictures.items(), f"quality {quality:g}"):
            rows = measure(coder, name, pixels, SIDES)
            record["rows"] += [{"quality": quality, **row} for row in rows]
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))
    print(lost(record))
    plot(record, options.plots)


if __name__ == "__main__":
    main()
