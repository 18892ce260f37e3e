"""Fitting a bundle's tables to what its quantizers really emit on photos.

Scalar and trellis streams have tables of their own. Each family is fitted by running the real
encoder over photos at many qualities, counting symbols, and running it again with the new tables,
because the choice by cost depends on the tables. Then scales are widened (`widened`). Dithered
streams have tables of their own too. They are fitted once, because dither makes no choice. Then
each trellis, and dither, gets a quality offset, so that equal quality means equal PSNR.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trellic.constants import TRELLIS_STATES
from trellic.engines import Engine
from trellic.engines.exact import ExactNetwork
from trellic.entropy.tables import Tables
from trellic.geometry import Plane
from trellic.latents.decoder import LatentDecoder
from trellic.latents.encoder import LatentEncoder
from trellic.latents.order import grid_of
from trellic.latents.quantizer import Quantizer
from trellic.model.channels import Layout
from trellic.model.decoders import Graph
from trellic.model.quality import LevelTables
from trellic.pipeline import transforms
from trellic_training.bars import shown
from trellic_training.models.integers import widened
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.fit_dither import parametric_dither
from trellic_training.quantization.symbols import Collector

Float32 = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Synthesis = Callable[[Float32, Plane, float], Pixels]  # from latents, at a quality

QUALITIES = (3, 10, 18, 26, 34, 42, 50, 58, 66, 74, 82, 90, 97)
ROUNDS = 3
FIT_LANES = 8  # of each slice while fitting
SMALL = 3 * 2**15  # samples of a picture, below which it has one lane
FIT_STATES = 8  # the trellis whose output the tables of all trellises are fitted to
REFERENCE_QUALITIES = (20, 40, 60, 80)
MIN_SLOPE = 0.01  # dB for one quality; a model that gains less is not worth an offset
MAX_OFFSET = 16 * 15  # 1/16 quality; the tables of levels reach this far beyond 1 and 100
OFFSET_SEED = 1  # of the dither whose PSNR is equalised
OFFSET_PHOTOS = 12  # photos, at least, on which the PSNR of trellises is equalised
OFFSET_SAMPLES = 3 * 2**18  # of those photos together, so more photos if they are small


class Encoder:
    """The graphs g_a and h_a of the new bundle.

    Parameters
    ----------
    g_a, h_a : engines
    graph : the manifest's entry of g_a
    layout : of the latents
    """

    def __init__(self, g_a: Engine, h_a: Engine, graph: Graph, layout: Layout) -> None:
        self.g_a, self.h_a, self.graph, self.layout = g_a, h_a, graph, layout

    def __call__(self, pixels: Pixels, plane: Plane, quality: float) -> tuple[Float32, Float32]:
        """Latents and hyper-latents before their gains."""
        latents, halo = self.layout.latents, self.graph.halo
        g_a = transforms.told(self.g_a, quality)
        f = transforms.analysis(g_a, pixels, plane, latents, halo)
        return f, self.h_a({"latents": f[None]})[0][0]


class Photo:
    """One calibration photo: its pixels, and its latents at any quality."""

    def __init__(self, pixels: Pixels, encoder: Encoder) -> None:
        self.pixels, self._encoder = pixels, encoder
        self.plane = encoder.layout.plane(pixels.shape[1], pixels.shape[0])
        self._known: dict[float, tuple[Float32, Float32]] = {}

    def analysed(self, quality: float) -> tuple[Float32, Float32]:
        """Latents and hyper-latents before their gains; kept if all qualities share them."""
        key = 0.0 if not self._encoder.graph.sees_quality else quality
        if key not in self._known:
            self._known = {key: self._encoder(self.pixels, self.plane, quality)}
        return self._known[key]


class Calibration:
    """Fits the tables of one model.

    Parameters
    ----------
    layout, levels : of the new bundle
    networks : its integer networks
    sigmas : (S,) standard deviation of each scale index, in steps
    photos : calibration photos
    trellis_step : of the bundle, in 1/32 step
    widening : of `widened`

    Attributes
    ----------
    levels : of the new bundle, widened
    """

    def __init__(
        self,
        layout: Layout,
        levels: LevelTables,
        networks: dict[str, ExactNetwork],
        sigmas: npt.NDArray[np.float64],
        photos: Sequence[Photo],
        trellis_step: int,
        widening: int = 0,
    ) -> None:
        self.layout, self.networks = layout, networks
        self.levels, self._narrow = widened(levels, widening), levels
        self.photos = photos
        self.prior = parametric_tables(sigmas, trellis_step)
        self.dither_prior = parametric_dither(sigmas)

    def encoder(self, tables: Tables) -> LatentEncoder:
        """Return the runtime's coder with these tables."""
        return LatentEncoder(self.layout, tables, self.networks)

    def fit(self, lam: dict[str, int]) -> Tables:
        """Fit all families; ``lam`` has the search's Lagrangian for "scalar" and "trellis"."""
        tables = self.prior
        for states, family in ((0, "scalar"), (FIT_STATES, "trellis")):
            quantizer = Quantizer(states, lam[family])
            for turn in range(ROUNDS):
                collected = self._collect(tables, quantizer, turn, f"{family} tables, {turn}")
                tables = collected.refit(tables, self.prior)
        tables = dataclasses.replace(tables, dither=self.dither_prior)
        collected = self._collect(tables, Quantizer(0, 0, dither=0), 0, "tables of dither")
        return dataclasses.replace(tables, dither=collected.refit_dither(self.dither_prior))

    def _collect(self, tables: Tables, quantizer: Quantizer, turn: int, what: str) -> Collector:
        """Symbols of all photos, each at one quality, which changes every turn."""
        collected, coder = Collector(), self.encoder(tables)
        for i, photo in enumerate(shown(self.photos, f"fitting {what}")):
            if quantizer.dither is not None:
                quantizer = dataclasses.replace(quantizer, dither=i)
            quality = QUALITIES[(i * 5 + turn) % len(QUALITIES)]
            levels = self._narrow if quantizer.dither is None else self.levels
            level = levels.at(16 * quality, quantizer.states)
            count = FIT_LANES if photo.pixels.size >= SMALL else 1
            lanes = [count] * len(grid_of(photo.plane))
            f, h = photo.analysed(level.quality)
            coder.encode(f, h, photo.plane, level, quantizer, lanes=lanes, observe=collected)
        return collected

    def measure(
        self,
        tables: Tables,
        quantizer: Quantizer,
        quality: float,
        synthesis: Synthesis,
    ) -> tuple[float, float]:
        """Mean bits per pixel (payload) and mean PSNR (dB) over a few photos at one quality.

        Quality offsets are not applied, because they are made from this.
        """
        coder = self.encoder(tables)
        decoder = LatentDecoder(self.layout, tables, self.networks)
        level = self.levels.at(round(16 * quality), quantizer.states)
        bpps, psnrs = [], []
        some = max(OFFSET_PHOTOS, OFFSET_SAMPLES // self.photos[0].pixels.size)
        for photo in self.photos[:some]:
            coded = coder.encode(*photo.analysed(level.quality), photo.plane, level, quantizer)
            v32 = decoder.decode(
                coded.segments,
                coded.lanes,
                photo.plane,
                level,
                quantizer.states,
                lattice=quantizer.lattice,
            )
            latents = v32 * (np.float32(128) / level.gain.astype(np.float32))[:, None, None]
            picture = synthesis(latents.astype(np.float32), photo.plane, level.quality)
            error = np.square(picture.astype(np.float64) - photo.pixels).mean()
            psnrs.append(10 * math.log10(255**2 / error))
            size = sum(map(len, coded.segments))
            bpps.append(8 * size / (photo.plane.width * photo.plane.height))
        return float(np.mean(bpps)), float(np.mean(psnrs))

    def offsets(
        self, tables: Tables, lam: dict[str, int], synthesis: Synthesis
    ) -> npt.NDArray[np.int16]:
        """Quality offsets (in 1/16) that give all trellises and dither the PSNR of scalar."""
        scalar = Quantizer(0, lam["scalar"])
        curve = [self.measure(tables, scalar, q, synthesis)[1] for q in REFERENCE_QUALITIES]
        others = [Quantizer(states, lam["trellis"]) for states in TRELLIS_STATES if states]
        others.append(Quantizer(0, 0, dither=OFFSET_SEED))
        offsets = [0]
        for other in shown(others, "equalising PSNR over quantizers"):
            own = [self.measure(tables, other, q, synthesis)[1] for q in REFERENCE_QUALITIES]
            slope = np.maximum(np.gradient(curve, REFERENCE_QUALITIES), MIN_SLOPE)
            shift = (np.asarray(curve) - np.asarray(own)) / slope
            offsets.append(round(16 * float(shift.mean())))
        return np.clip(offsets, -MAX_OFFSET, MAX_OFFSET).astype(np.int16)
