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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks import _machine
from benchmarks.borders_tables import FAR, lost, markdown, plot, seam_table
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels
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
SHIFTS = (-3, -2, -1, 0, 1, 2, 3)  # of scale indices
NEAR = 8  # pixels on each side of a border that are looked at for seams

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
    print(markdown(record), seam_table(record), lost(), sep="\n\n")
    plot(record, options.plots)


if __name__ == "__main__":
    main()
