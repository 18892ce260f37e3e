"""Real bytes and scores of a model's pictures under one quantizer, with tables of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.bdrate import Curve
from benchmarks.scores import SCORES
from trellic.geometry import Plane
from trellic.latents.decoder import LatentDecoder
from trellic.latents.quantizer import Quantizer
from trellic.model.quality import GAIN_BITS, Level
from trellic_training.models.photo import PhotoModel
from trellic_training.pixels import to_network
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import LoopQuantizer, sigmas_of
from trellic_training.quantization.symbols import Collector

TRELLIS_STEP, SKIP_INDEX = 21, 4  # of the export
LAM = {"scalar": 20, "trellis": 24}  # of the search
FIT_LAM = {"scalar": 40, "trellis": 48}  # of the search that tables are fitted to
FIT_ROUNDS = 3
FIT_QUALITIES = (8, 22, 36, 50, 64, 78, 92)
LARGEST = 1024  # pixels a side: one slice
QUANTIZERS = ("round", "0", "8", "32")
Int16s = npt.NDArray[np.int16]
Pixels = npt.NDArray[np.uint8]
Kept = Callable[[str, Callable[[], tuple[int, Int16s]]], tuple[int, Int16s]]


def quantizer_of(name: str, lam: Mapping[str, int]) -> Quantizer:
    """Return the quantizer of a name: "round", "0" for RDOQ, or states."""
    if name == "round":
        return Quantizer(0, 0, "round")
    return Quantizer(int(name), lam["trellis" if int(name) else "scalar"])


def whole_cells(pixels: Pixels, stride: int) -> Pixels:
    """Cut a picture's middle to whole hyper-latents, and to one slice."""
    height, width = (min(side // stride * stride, LARGEST) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def encoder_digest(model: PhotoModel) -> str:
    """Digest of all that decides bytes and latents: everything but the decoder."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith("g_s."):
            total.update(name.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


class Coder:
    """A model with one quantizer, and tables fitted to what that emits on given crops.

    Parameters
    ----------
    model : in evaluation mode
    name : of the quantizer, as of `quantizer_of`
    crops : uint8 (N, H, W, 3) that tables are fitted to; the same for every quantizer and model
    """

    def __init__(self, model: PhotoModel, name: str, crops: Tensor) -> None:
        self.model, self.name, self.crops = model, name, crops
        self.quantizer = quantizer_of(name, LAM)
        self.prior = parametric_tables(sigmas_of(model.config.scales), TRELLIS_STEP)
        self.levels = LoopQuantizer(model, self.prior, SKIP_INDEX).levels

    @cached_property
    def loop(self) -> LoopQuantizer:
        """The quantizer with its tables, fitted when a picture is first coded."""
        loop = LoopQuantizer(self.model, self.prior, SKIP_INDEX)
        fit = quantizer_of(self.name, FIT_LAM)
        for turn in range(FIT_ROUNDS):
            seen = Collector()
            for i, crop in enumerate(self.crops):
                quality = torch.tensor([float(FIT_QUALITIES[(i + turn) % len(FIT_QUALITIES)])])
                loop(to_network(crop[None]), quality, fit, seen)
            loop.use(seen.refit(loop.tables, self.prior))
        return loop

    @cached_property
    def decoder(self) -> LatentDecoder:
        """What reads the files that `loop` writes."""
        layout, networks = self.loop.coder.layout, self.loop.coder.predictor.networks
        return LatentDecoder(layout, self.loop.tables, networks)

    @torch.no_grad()
    def code(self, pixels: Pixels, quality: float) -> tuple[int, Int16s]:
        """Encode and decode latents: bytes of the payload, and latents in 1/32 step."""
        level, plane = self._level(quality), Plane(pixels.shape[1], pixels.shape[0])
        x = to_network(torch.from_numpy(pixels)[None])
        f = self.model.g_a(x, torch.tensor([level.quality]))
        h = self.model.h_a(f)
        done = self.loop.coder.encode(f[0].numpy(), h[0].numpy(), plane, level, self.quantizer)
        states = self.quantizer.states
        v32 = self.decoder.decode(done.segments, done.lanes, plane, level, states)
        return sum(map(len, done.segments)), v32.astype(np.int16)

    @torch.no_grad()
    def picture(self, v32: Int16s, quality: float) -> Pixels:
        """Decode latents to a picture, uint8 (H, W, 3)."""
        level = self._level(quality)
        gain = torch.from_numpy(level.gain / 2.0**GAIN_BITS).float()[:, None, None]
        latents = torch.from_numpy(v32).float() / 32 / gain
        x_hat = self.model.g_s(latents[None], torch.tensor([level.quality]))[0]
        shown = ((x_hat.permute(1, 2, 0) + 0.5).clamp(0, 1) * 255).round()
        return shown.byte().numpy()

    def _level(self, quality: float) -> Level:
        return self.levels.at(round(16 * quality), self.quantizer.states)


def evaluate(
    coder: Coder,
    images: Mapping[str, Pixels],
    qualities: Sequence[float],
    kept: Kept,
    metrics: Sequence[str] = ("psnr",),
) -> dict[str, list[list[float]]]:
    """Bits per pixel and scores of each picture at each quality, to five digits.

    Parameters
    ----------
    metrics : names of `benchmarks.scores.SCORES`; one number each, on the scale for curves
    kept : is asked for bytes and latents by name; makes them by the function that it gets
    """
    found: dict[str, list[list[float]]] = {}
    for name, pixels in images.items():
        for quality in qualities:
            size, v32 = kept(f"{name}-{quality:g}", lambda p=pixels, q=quality: coder.code(p, q))  # type: ignore[misc]
            shown = coder.picture(v32, quality)
            scores = [SCORES[m].scale(SCORES[m].compute(pixels, shown)) for m in metrics]
            point = [8 * size / (pixels.shape[0] * pixels.shape[1]), *scores]
            found.setdefault(name, []).append([float(f"{value:.5g}") for value in point])
    return found


def always(name: str, make: Callable[[], tuple[int, Int16s]]) -> tuple[int, Int16s]:
    """Keep nothing."""
    return make()


def kept_in(folder: Path) -> Kept:
    """Keep bytes and latents in a folder."""

    def keep(name: str, make: Callable[[], tuple[int, Int16s]]) -> tuple[int, Int16s]:
        path = folder / f"{name}.npz"
        if not path.is_file():
            size, v32 = make()
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, size=size, v32=v32)
            part.replace(path)
        with np.load(path, allow_pickle=False) as stored:
            return int(stored["size"]), stored["v32"]

    return keep


def curve_of(points: Sequence[Sequence[float]], metric: int = 0) -> Curve:
    """Return a picture's rate-distortion curve by the metric of that number."""
    columns = np.array(points).T
    return Curve(columns[0], columns[1 + metric])
