"""Embedded quantizers for progressive files, estimated: layers whose symbols name intervals.

::

    python -m benchmarks.embedded --images DIR [--photos kodim01.png ...]

Li ("Learned progressive image compression with dead-zone quantizers", 2023) quantizes coarsely with
a dead zone, and later layers refine the interval that a symbol named. Here all layers have the
latents of one g_a, that of the last layer. A symbol's probability is the model's law conditioned on
the interval that is known of the latent, so no part of what is known is lost.

Two orders are compared. ``steps``: context step by context step within a layer, those of large
unknown variance first. ``free``: after the lowest layer all networks see the layer below alone, so
all latents of a layer are sorted by their unknown variance, whatever their step.

The decoder `quality` is told a quality half-way from the one that is reached to that of the last
layer: all latents are those of the last layer's g_a, and what is told suits them.

No file is written: bits are ``-log2 p``, those of the hyper-latents are coded. Segments, lanes and
the header would add some 40 bytes and more. The quantizer is scalar. Files made for a length, and
the layers of today, come from the record of `benchmarks.progressive`, with trellis. Photos that
the own record holds are left out when the command is run again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from benchmarks import interval_law as law
from benchmarks._machine import describe
from benchmarks.interval_law import Cells
from benchmarks.measure import find_images, read_pixels
from benchmarks.progressive import LENGTHS, more_bits, scores
from trellic import entropy, images
from trellic.codec import Codec
from trellic.geometry import Rectangle
from trellic.latents.encoder import hyper_segment, hyper_symbols
from trellic.latents.predictor import Predictor, SliceContext
from trellic.limits import SIGMA_FIRST, SIGMA_LAST
from trellic.model.choice import choose
from trellic.model.quality import Level
from trellic.pipeline import transforms
from trellic.pipeline.encoder import StreamEncoder
from trellic.support.clock import Clock

ROOT: Final = Path(__file__).resolve().parent
Floats = npt.NDArray[np.float64]
QUALITIES: Final = (30, 53, 75)  # of the layers, those of `--progressive`
DEAD: Final = 0.68  # half of the dead zone, in steps: of 0.6 to 0.75, the best for whole files
SNAP: Final = 0.3
FINEST: Final = 2.0**-15  # the least probability of a symbol
ORDERS: Final = ("steps", "free")


class State(NamedTuple):
    """What a decoder knows of the latents: intervals and values in units of f, and bits so far."""

    known: Cells
    value: Floats | None
    bits: float


class Asked(NamedTuple):
    """The latents of one context step, in steps of the layer; flat."""

    step: int
    mean: Floats
    sigma: Floats
    known: Cells


class Embedded:
    """One picture of one slice, and its embedded layers."""

    def __init__(self, codec: Codec, pixels: npt.NDArray[np.uint8]) -> None:
        bundle = codec.bundle
        self.layout, self.tables, self.levels = bundle.manifest.layout, bundle.tables, bundle.levels
        self.plane = self.layout.plane(pixels.shape[1], pixels.shape[0])
        encoder, top = StreamEncoder(bundle, codec._pool), self.levels.at(16 * QUALITIES[-1], 0)
        picture = images.Picture(pixels)
        f, h = encoder.analyse(picture, self.plane, Clock(), None, top.quality)
        self.f, self.top, self.z = f.astype(np.float64), top, hyper_symbols(h, top)
        self.predictor = Predictor(self.layout, codec._pool.exact(None))
        y, x = np.indices(self.plane.latents)
        self.step_of = self.layout.step_of[:, (y + x) & 1]
        rows, columns = self.plane.coded
        self.inside = np.broadcast_to((y < rows) & (x < columns), f.shape)
        self.g_s = choose(bundle.manifest.decoders, "quality", bundle.manifest.name)
        self.engine = codec._pool.decoder(self.g_s.parts[0].name)

    def start(self) -> State:
        """Return the state after the hyper-latents."""
        coded = entropy.encode([hyper_segment(self.z, self.top)], self.tables, 1)
        nothing = np.full(self.f.shape, np.inf)
        return State(Cells(-nothing, nothing), None, 8.0 * len(coded[0]))

    def advance(self, state: State, quality: int, order: str, budget: float = np.inf) -> State:
        """Code a layer on top of a state, until the bits of the file reach a budget.

        Latents that are not reached keep what is known of them; they take their centroids.
        """
        level, free = self._level(quality), order == "free" and state.value is not None
        context = self.predictor.start(
            self.z, Rectangle(0, self.f.shape[1], 0, self.f.shape[2]), self.plane, level
        )
        low, high = state.known.low.copy(), state.known.high.copy()
        after = State(Cells(low, high), np.zeros(self.f.shape), state.bits)
        steps = range(len(self.predictor.steps))
        for group in [list(steps)] if free else [[k] for k in steps]:
            asked = []
            for k in group:
                asked.append(self._ask(k, context, level, state))
                if free and state.value is not None:
                    self._show(context, level, state.value, k)
            after = self._coded(asked, level, after, budget)
            if not free and after.value is not None:
                self._show(context, level, after.value, group[0])
        return after

    def picture(self, state: State, reached: float) -> npt.NDArray[np.uint8]:
        """Decode with `quality`; the quality that is reached may lie between those of layers."""
        if state.value is None:
            raise ValueError("no layer has begun")
        engine = transforms.told(self.engine, (reached + QUALITIES[-1]) / 2)
        latents = state.value.astype(np.float32)
        return transforms.synthesis(engine, latents, self.plane, self.g_s.halo)

    def _level(self, quality: int) -> Level:
        """Level of a layer, with the hyper-latents of the last one."""
        names = ("hyper_mean", "hyper_index", "hyper_scale")
        return replace(
            self.levels.at(16 * quality, 0), **{name: getattr(self.top, name) for name in names}
        )

    def _members(self, k: int) -> npt.NDArray[np.int64]:
        """Places of the latents of a context step among all, flat."""
        return np.flatnonzero(self.step_of.ravel() == k)

    def _gains(self, level: Level, at: npt.NDArray[np.int64]) -> Floats:
        per_channel = self.step_of[0].size
        return np.asarray(level.gain_float[at // per_channel], np.float64)

    def _ask(self, k: int, context: SliceContext, level: Level, state: State) -> Asked:
        """Means and deviations of a step, from its network."""
        step, at = self.predictor.steps[k], self._members(k)
        mu, log_scale = (np.asarray(out, np.float64) for out in self.predictor.outputs(k, context))
        own = slice(step.first, step.last)
        mean = mu * level.gain[own][:, None, None] / 2**21
        index = (log_scale * 16 + level.scale_shift[own][:, None, None]) / 128
        last = self.layout.scales - 1
        sigma = SIGMA_FIRST * (SIGMA_LAST / SIGMA_FIRST) ** (index.clip(0, last) / last)
        mine, gains = self.step_of[own] == k, self._gains(level, at)
        known = Cells(state.known.low.ravel()[at] * gains, state.known.high.ravel()[at] * gains)
        return Asked(k, mean[mine], sigma[mine], known)

    def _show(self, context: SliceContext, level: Level, value: Floats, k: int) -> None:
        """Let the networks of later steps see values of a step."""
        at = self._members(k)
        v32 = np.rint(value.ravel()[at] * self._gains(level, at) * 32)
        context.v32.reshape(-1)[at] = v32.astype(np.int32)

    def _coded(self, asked: Sequence[Asked], level: Level, after: State, budget: float) -> State:
        """Refine the latents of some steps, those of large unknown variance first."""
        at = np.concatenate([self._members(one.step) for one in asked])
        mean, sigma = (
            np.concatenate([getattr(one, n) for one in asked]) for n in Asked._fields[1:3]
        )
        known = Cells(
            *(np.concatenate(ends) for ends in zip(*(a.known for a in asked), strict=True))
        )
        gains = self._gains(level, at)
        a, b = (known.low - mean) / sigma, (known.high - mean) / sigma
        new = law.cells(self.f.ravel()[at] * gains, mean, known, DEAD, SNAP)
        least = SIGMA_FIRST * (SIGMA_LAST / SIGMA_FIRST) ** (
            self.layout.skip_index / (self.layout.scales - 1)
        )
        coded = self.inside.ravel()[at] & (sigma >= least)
        bits = np.where(coded, _bits((new.low - mean) / sigma, (new.high - mean) / sigma, a, b), 0)
        turn = np.argsort(-(sigma**2) * law.variance(a, b), kind="stable")
        spent = np.cumsum(bits[turn])
        reached = np.zeros(len(at), bool)
        reached[turn] = after.bits + spent <= budget
        take = coded & reached
        low, high = np.where(take, new.low, known.low), np.where(take, new.high, known.high)
        value = mean + sigma * law.centroid((low - mean) / sigma, (high - mean) / sigma)
        for array, found in zip((*after.known, after.value), (low, high, value), strict=True):
            np.asarray(array).reshape(-1)[at] = found / gains
        return after._replace(bits=after.bits + float(spent[-1]) if len(at) else after.bits)


def _bits(c: Floats, d: Floats, a: Floats, b: Floats) -> Floats:
    """Return the bits that name the cell [c, d] inside of [a, b], all in deviations."""
    whole = law.mass(a, b)
    wide = np.where(np.isfinite(b - a), b - a, 1.0)
    flat = np.where(np.isfinite(b - a), (d - c) / wide, 1.0)
    part = np.where(whole < law.LEAST, flat, law.mass(c, d) / np.maximum(whole, law.LEAST))
    return -np.log2(np.clip(part, FINEST, 1.0))


def cuts(picture: Embedded, original: npt.NDArray[np.uint8], full: int, order: str) -> Any:
    """Return [bytes, PSNR, SSIMULACRA 2] at each length, and at the end of each layer."""
    found: list[list[float] | None] = []
    ends, state, wanted = [], picture.start(), [share * full * 8 for share in LENGTHS]
    for below, quality in zip((QUALITIES[0], *QUALITIES), QUALITIES, strict=False):
        before, state = state, picture.advance(state, quality, order)
        while len(found) < len(LENGTHS) and wanted[len(found)] <= state.bits:
            budget = wanted[len(found)]
            if budget < before.bits:
                found.append(None)  # the hyper-latents are not complete
                continue
            cut = picture.advance(before, quality, order, budget)
            share = (budget - before.bits) / (state.bits - before.bits)
            reached = below + share * (quality - below)
            shown = scores(original, picture.picture(cut, reached))
            found.append([round(budget / 8), *np.round(shown, 4).tolist()])
        shown = scores(original, picture.picture(state, quality))
        ends.append([round(state.bits / 8), *np.round(shown, 4).tolist()])
    # a length beyond the end shows the whole file
    found += [[round(share * full), *ends[-1][1:]] for share in LENGTHS[len(found) :]]
    return {"cuts": found, "ends": ends}


def photo(codec: Codec, path: Path, ordinary: dict[str, Any]) -> dict[str, Any]:
    """Measure one photo, of which `benchmarks.progressive` has measured ordinary files."""
    pixels = read_pixels(path)
    picture, full = Embedded(codec, pixels), ordinary["made"][-1][0]
    found = {order: cuts(picture, pixels, full, order) for order in ORDERS}
    return {"image": ordinary["image"], **found}


def summary(photos: Sequence[dict[str, Any]], ordinary: dict[str, Any]) -> dict[str, Any]:
    """Return for each coding and score, at each length, [mean percent, photos that have one]."""
    found: dict[str, Any] = {}
    for name in ("layers", *ORDERS):
        found[name] = {}
        for score, column in (("psnr", 1), ("ssimulacra2", 2)):
            found[name][score] = []
            for i in range(len(LENGTHS)):
                values = []
                for one in photos:
                    old = ordinary[one["image"]["name"]]
                    made = old["cuts"]["layers"] if name == "layers" else one[name]["cuts"]
                    value = more_bits(old["made"], made[i], column)
                    values += [] if value is None else [value]
                mean = round(float(np.mean(values)), 1) if values else None
                found[name][score].append([mean, len(values)])
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--photos", nargs="*", help="names; all of the other record if left out")
    parser.add_argument("--record", type=Path, help="of benchmarks.progressive")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = options.images.name
    record = options.record or ROOT / "results" / f"progressive-{name}.json"
    if not record.is_file():
        parser.error(f"no record {record}: run python -m benchmarks.progressive first")
    old = json.loads(record.read_text(encoding="utf-8"))["photos"]
    ordinary = {one["image"]["name"]: one for one in old}
    wanted = options.photos or sorted(ordinary)
    try:
        paths = [path for path in find_images(options.images) if path.name in wanted]
    except FileNotFoundError as error:
        parser.error(str(error))
    if len(paths) < len(wanted) or not set(wanted) <= set(ordinary):
        parser.error(f"{record} and {options.images} do not both have {', '.join(wanted)}")
    codec = Codec.load("photo", device="cpu")
    out = options.out or ROOT / "results" / f"embedded-{name}.json"
    photos = json.loads(out.read_text(encoding="utf-8"))["photos"] if out.is_file() else []
    known = {one["image"]["name"] for one in photos}
    paths = [path for path in paths if path.name not in known]
    with Progress(disable=not sys.stderr.isatty()) as progress:
        for path in progress.track(paths, description="embedded"):
            photos.append(photo(codec, path, ordinary[path.name]))
            whole = {
                "machine": describe(("numpy", "numba", "onnxruntime", "scipy")),
                "settings": {
                    "qualities": QUALITIES,
                    "lengths": LENGTHS,
                    "dead": DEAD,
                    "snap": SNAP,
                },
                "summary": summary(photos, ordinary),
                "photos": photos,
            }
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    for coding, rows in summary(photos, ordinary).items():
        for score, cells in rows.items():
            print(f"{coding:<8} {score:<12}", *(f"{mean}% ({n})" for mean, n in cells))


if __name__ == "__main__":
    main()
