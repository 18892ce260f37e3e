"""Training samples made by a bundle: its encoder and quantizer give what its decoders would read.

No weights are needed, so decoders can be trained for any bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset

from trellic.constants import COLOURS
from trellic.engines.pool import EnginePool
from trellic.errors import BadParameter
from trellic.latents.encoder import LatentEncoder
from trellic.latents.layered_coding import LayeredEncoder, levels_of
from trellic.latents.quantizer import Quantizer
from trellic.limits import STEP32
from trellic.model.bundle import Bundle
from trellic.model.quality import GAIN_BITS
from trellic.pipeline.layers import layering_for, told16
from trellic_training.bars import shown
from trellic_training.data.cutouts import cut_out
from trellic_training.data.photos import PackedPhotos
from trellic_training.data.pictures import Pixels
from trellic_training.data.pool import Batch, Pool
from trellic_training.recipes.codec import Kind
from trellic_training.recipes.decoder import DecoderRecipe
from trellic_training.stages.quantized import VALIDATION_QUALITIES, sixteenths, validation_crops
from trellic_training.stages.stage import Clock

VALIDATION_STATES: Kind = 8
Float32 = npt.NDArray[np.float32]
UNIT = np.float32(2**GAIN_BITS / STEP32)  # of a latent before its gain, in 1/32 step over gain


class BundleQuantizer:
    """Latents as a decoder of the bundle gets them.

    Parameters
    ----------
    bundle : the bundle
    threads : of its graphs, 0 for the engine's own choice

    Raises
    ------
    BadParameter
        When the model is of other bands than red, green and blue, for which nothing is added to
        bundles.
    """

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self.bundle = bundle
        self.layout = bundle.manifest.layout
        if self.layout.bands != COLOURS:
            raise BadParameter(
                f"a model of {self.layout.bands} bands",
                expected="one in colour: decoders, adapters and graphs in 8 bits are for these",
            )
        self.engines = EnginePool(bundle, "cpu", threads, "fp32")
        self.coder = LatentEncoder(self.layout, bundle.tables, self.engines.exact())

    def __call__(
        self, pixels: Pixels, quality: npt.NDArray[np.float64], states: Sequence[Kind]
    ) -> tuple[Float32, Float32]:
        """Encode crops and decode their latents.

        Parameters
        ----------
        pixels : uint8 (N, H, W, 3), sides multiples of the hyper-latents' stride, at most one
            slice large
        quality : (N,), rounded to 1/16
        states : of the trellis, for each; 0 for RDOQ, "round" for plain rounding

        Returns
        -------
        float32 (N, latents, h, w), gains divided out; and (N,), the quality that a decoder is told,
        which has the trellis's offset in it
        """
        levels = [
            self.bundle.levels.at(round(16 * q), 0 if kind == "round" else kind)
            for q, kind in zip(quality, states, strict=True)
        ]
        seen = np.array([level.quality for level in levels], np.float32)
        f = self.engines.encoder()({"image": pixels, "quality": seen})[0]
        h = self.engines.hyper_encoder()({"latents": f})[0]
        plane = self.layout.plane(pixels.shape[2], pixels.shape[1])
        out = np.empty_like(f)
        for i, (level, kind) in enumerate(zip(levels, states, strict=True)):
            done = self.coder.quantize(f[i], h[i], plane, level, self._search(kind))
            out[i] = done.v32 * (UNIT / level.gain.astype(np.float32))[:, None, None]
        return out, seen

    def cut(
        self, pixels: Pixels, quality: float, rng: np.random.Generator
    ) -> tuple[Float32, float, float]:
        """Encode a crop in layers, as a progressive file, and decode it cut after a random pass.

        Parameters
        ----------
        pixels : uint8 (H, W, 3), as above
        quality : of the whole file, rounded to 1/16

        Returns
        -------
        latents : float32 (latents, h, w), gains divided out
        level : quality that a decoder is told
        quality : of the layer that is reached
        """
        quality16, steps = round(16 * quality), len(self.layout.steps)
        layering = layering_for(quality16, steps)
        passes = int(rng.integers(1, layering.kept + 1))
        reached = layering.of(passes - 1, steps)[0]
        qualities16 = (*layering.below, quality16)
        every = levels_of(self.bundle.levels, qualities16, 0)
        levels, plane = every[: reached + 1], self.layout.plane(pixels.shape[1], pixels.shape[0])
        seen = np.array([every[-1].quality], np.float32)
        f = self.engines.encoder()({"image": pixels[None], "quality": seen})[0][0]
        h = self.engines.hyper_encoder()({"latents": f[None]})[0][0]
        coder = LayeredEncoder(self.coder.predictor, self.bundle.tables, layering)
        v32 = coder.quantize([f] * len(levels), h, plane, levels, Quantizer(0, 0), passes)
        latents = v32 * (UNIT / levels[-1].gain.astype(np.float32))[:, None, None]
        told = told16(layering, quality16, steps, passes) / 16
        return latents, told, qualities16[reached] / 16

    def pictures(self, latents: Float32, quality: Float32, decoder: str) -> Pixels:
        """Decode latents of whole crops with a decoder of the bundle: uint8 (N, H, W, 3)."""
        inputs = {"latents": latents, "quality": quality}
        picture: Pixels = self.engines.decoder(decoder)(inputs)[0]
        return picture

    def _search(self, kind: Kind) -> Quantizer:
        if kind == "round":
            return Quantizer(0, 0, "round")
        family = "trellis" if kind else "scalar"
        return Quantizer(kind, self.bundle.manifest.search[family].lam)


class Samples:
    """What a decoder learns from: quantized crops of photos.

    A batch has "x", uint8 (N, H, W, 3), "quality" (N,), "latents", float16 (N, channels, h, w),
    "level" (N,), the quality that decoders are told, and, where the recipe compares with another
    decoder, that decoder's pictures as "teacher". Where it names a classifier, crops are shifted
    and flipped pictures of a labelled set, and "label", int64 (N,), is what they show.

    Parameters
    ----------
    quantizer : of the bundle
    pack : photos
    recipe : of the decoder
    """

    def __init__(
        self, quantizer: BundleQuantizer, pack: PackedPhotos, recipe: DecoderRecipe
    ) -> None:
        self.quantizer, self.pack, self.recipe = quantizer, pack, recipe

    def __call__(self, rng: np.random.Generator, count: int, size: int) -> Batch:
        """Make a batch of random crops at random qualities, by random quantizers."""
        label = None
        if self.recipe.classification is None:
            x = self.pack.crops(rng, count, size)
        else:
            x, label = self.pack.labelled(rng, count, size)
        x = cut_out(x, self.recipe.cutouts)
        batch = self.of(x, sixteenths(count), self.kinds(rng, count))
        if label is not None:
            batch["label"] = label
        for i in np.flatnonzero(rng.random(count) < self.recipe.cut):
            quality = float(batch["quality"][i])
            latents, level, reached = self.quantizer.cut(x[i].numpy(), quality, rng)
            batch["latents"][i] = self._seen(latents)
            batch["level"][i], batch["quality"][i] = level, reached
        return batch

    def kinds(self, rng: np.random.Generator, count: int) -> list[Kind]:
        """Draw quantizers."""
        known = self.recipe.quantizers
        return [known[i] for i in rng.integers(len(known), size=count)]

    def validation(self, size: int) -> list[Batch]:
        """Batches of photos that are never trained on, one a quality."""
        x = validation_crops(self.pack, self.quantizer.layout.stride * self.quantizer.layout.cell)
        kinds: list[Kind] = [VALIDATION_STATES] * len(x)
        return [self.of(x, torch.full((len(x),), q), kinds) for q in VALIDATION_QUALITIES]

    def of(self, x: torch.Tensor, quality: torch.Tensor, kinds: Sequence[Kind]) -> Batch:
        """Quantize given crops, uint8 (N, H, W, 3), at given qualities."""
        latents, level = self.quantizer(x.numpy(), quality.numpy(), kinds)
        batch = {"x": x, "quality": quality, "level": torch.from_numpy(level)}
        if self.recipe.compares:
            picture = self.quantizer.pictures(latents, level, self.recipe.teacher)
            batch["teacher"] = torch.from_numpy(picture)
        batch["latents"] = self._seen(latents)
        return batch

    def _seen(self, latents: Float32) -> torch.Tensor:
        """Return what the decoder is given of latents (..., channels, h, w): float16."""
        known = self.recipe.network.known(self.quantizer.layout)
        rows, columns = np.indices(latents.shape[-2:])
        seen = latents[..., : len(known), :, :] * known[:, (rows + columns) & 1]
        return torch.from_numpy(seen).half()


class LabelledSamples(Samples):
    """What a decoder of labels learns from: quantized pictures of a labelled set.

    A batch has "label", int64 (N,), "quality", "level" and "latents" as in `Samples`.
    """

    def __call__(self, rng: np.random.Generator, count: int, size: int) -> Batch:
        """Make a batch of pictures, shifted and flipped at random before they are encoded."""
        x, label = self.pack.labelled(rng, count, size)
        return self._without_pixels(x, label, sixteenths(count), self.kinds(rng, count))

    def validation(self, size: int) -> list[Batch]:
        """Batches of pictures that are never trained on, as they are, one a quality."""
        photos = self.pack.validation or self.pack.training
        places = {name: i for i, name in enumerate(self.pack.labels)}
        x = torch.from_numpy(np.stack([self.pack.photo(photo) for photo in photos]))
        label = torch.tensor([places[photo.source] for photo in photos])
        kinds: list[Kind] = [VALIDATION_STATES] * len(x)
        every = [torch.full((len(x),), q) for q in VALIDATION_QUALITIES]
        return [self._without_pixels(x, label, quality, kinds) for quality in every]

    def _without_pixels(
        self, x: torch.Tensor, label: torch.Tensor, quality: torch.Tensor, kinds: Sequence[Kind]
    ) -> Batch:
        batch = self.of(x, quality, kinds)
        del batch["x"]
        return batch | {"label": label}


class SampleStream(IterableDataset[Batch]):
    """Endless batches from a pool of samples that is filled once and renewed slowly.

    Parameters
    ----------
    samples : make new ones
    clock : of the run; it starts when the pool is filled
    step : returns the step that the run continues from; called when the first batch is wanted
    """

    def __init__(
        self, samples: Samples, clock: Clock, step: Callable[[], int], *, progress: bool
    ) -> None:
        self.samples, self.recipe, self.clock = samples, samples.recipe, clock
        self.step, self.progress = step, progress

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.recipe.seed, self.step()])
        torch.manual_seed(int(rng.integers(2**62)))  # of the qualities
        pool = Pool(self.recipe.pool, rng)
        crop, turn = 0, 0
        while True:
            phase = self.recipe.phase_at(self.clock.share())
            if phase.crop != crop:
                crop = phase.crop
                self._fill(pool, rng, phase.batch, crop)
            elif turn % phase.reuse == 0:
                pool.add(self.samples(rng, phase.batch, phase.crop))
            turn += 1
            yield pool.draw(phase.batch)

    def _fill(self, pool: Pool, rng: np.random.Generator, batch: int, crop: int) -> None:
        first = not pool.samples
        turns = range(-(-min(self.recipe.pool, self.recipe.pool_start) // batch))
        for _ in shown(turns, "quantizing crops", hidden=not self.progress):
            pool.add(self.samples(rng, batch, crop))
        if first:
            self.clock.restart()
