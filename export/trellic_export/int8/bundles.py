"""The encoder and the picture decoders of a bundle in 8 bits."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trellic.bundle import Bundle, DecoderInfo, Graph, Manifest
from trellic.engines import Engine
from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter, EngineError
from trellic_training.bundled import BundleQuantizer
from trellic_training.data import PackedPhotos, Pixels

from ..bundle import centres, write_bundle
from .choose import Chooser, Mixed

BUDGET = 0.04  # dB of mean PSNR on the photos it is chosen on, to stay under 0.05 on others
PARITY_BUDGET = 0.1  # dB on photos that nothing was chosen on: more is refused
SIDE = 256  # pixels of a crop, at most
QUALITIES = (10, 40, 60, 80, 95)
STATES = 8
DECODER = "quality"  # judges what an encoder loses
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A crop, its latents as a decoder reads them, and what the encoder gave.

    Attributes
    ----------
    pixels : uint8 (1, height, width, 3)
    latents : float32 (1, channels, h, w), quantized, gains divided out
    """

    pixels: Pixels
    latents: Float32


def add_int8(
    bundle: Bundle, pack: PackedPhotos, out: Path, *, photos: int = 24, budget: float = BUDGET
) -> dict[str, Mixed]:
    """Write a bundle with int8 variants of its encoder and of its full-size picture decoders.

    Parameters
    ----------
    bundle : to start from; not changed, unless ``out`` is its path
    pack : photos of its training: a third each for ranges, for choosing layers, for the last check
    photos : how many of them, at least 3
    budget : mean PSNR that each graph may lose, in dB, over qualities 10, 40, 60, 80 and 95

    Returns
    -------
    dict of Mixed, by the names of the graphs that have an int8 variant now

    Raises
    ------
    BadParameter
        When no layer of the bundle stays within the budget.
    EngineError
        When a variant loses more than 0.1 dB on photos that it was not chosen on.
    """
    samples = _samples(BundleQuantizer(bundle), pack, max(photos, 3))
    third = len(samples) // 3
    parts = samples[:third], samples[third : 2 * third], samples[2 * third :]
    made: dict[str, Mixed] = {}
    for name, graph in _graphs(bundle.manifest).items():
        data = bundle.graph(graph)
        losses = [_loss(bundle, name, data, part) for part in parts[1:]]
        inputs = [_input(name, bundle.manifest, sample) for sample in parts[0]]
        mixed = Chooser(data, inputs, losses[0]).choose(budget)
        if mixed.share:
            _check(name, losses[1](mixed.data))
            made[name] = mixed
    if not made:
        raise BadParameter(
            f"no layer of bundle {bundle.manifest.name!r} in int8 stays within {budget} dB",
            remedy="export it without --int8",
        )
    _write(bundle, made, out)
    return made


def _check(name: str, loss: float) -> None:
    if loss > PARITY_BUDGET:
        raise EngineError(
            f"{name} in int8 loses {loss:.2f} dB on photos that its layers were not chosen on",
            expected=f"at most {PARITY_BUDGET}",
            remedy="calibrate on more photos (--count)",
        )


def _graphs(manifest: Manifest) -> dict[str, Graph]:
    """Graphs that may get an int8 variant."""
    decoders = {
        name: info.graph
        for name, info in manifest.decoders.items()
        if info.kind == "picture" and info.scale == 1 and info.steps is None
    }
    return {"g_a": manifest.encoder, **decoders}


def _samples(quantizer: BundleQuantizer, pack: PackedPhotos, count: int) -> list[Sample]:
    """Quantize centres of training photos, at one quality each after the other."""
    side = quantizer.layout.stride * quantizer.layout.cell
    found = []
    for pixels in centres(pack, count):
        height, width = (min(n, SIDE) // side * side for n in pixels.shape[:2])
        if height and width:
            crop = np.ascontiguousarray(pixels[None, :height, :width])
            found += [
                Sample(crop, quantizer(crop, np.array([float(quality)]), [STATES]))
                for quality in QUALITIES
            ]
    return found


def _input(name: str, manifest: Manifest, sample: Sample) -> dict[str, npt.NDArray[np.generic]]:
    if name == "g_a":
        return {"image": sample.pixels}
    return {"latents": sample.latents[:, : manifest.decoders[name].channels]}


def _loss(
    bundle: Bundle, name: str, data: bytes, samples: list[Sample]
) -> Callable[[bytes], float]:
    """Return what measures the mean PSNR that a graph in the place of another loses."""
    manifest = bundle.manifest
    if name == "g_a":
        g_s = OrtEngine(bundle.graph(manifest.decoders[DECODER].graph))
        picture = _after_encoder(OrtEngine(data), g_s)
    else:
        picture = lambda engine, sample: engine(_input(name, manifest, sample))[0]  # noqa: E731
    float32 = [_psnr(sample, picture(OrtEngine(data), sample)) for sample in samples]

    def lost(other: bytes) -> float:
        engine = OrtEngine(other)
        seen = [_psnr(sample, picture(engine, sample)) for sample in samples]
        return float(np.mean(float32) - np.mean(seen))

    return lost


def _after_encoder(float32: Engine, g_s: Engine) -> Callable[[Engine, Sample], Pixels]:
    """Pictures of an encoder: what its latents differ by is added to the quantized ones.

    A quantizer passes such noise on, on average; so no search has to run for it.
    """

    def picture(encoder: Engine, sample: Sample) -> Pixels:
        image = {"image": sample.pixels}
        noise = encoder(image)[0] - float32(image)[0]
        decoded: Pixels = g_s({"latents": sample.latents + noise})[0]
        return decoded

    return picture


def _psnr(sample: Sample, picture: Pixels) -> float:
    error = np.mean((sample.pixels.astype(np.float64) - picture) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _write(bundle: Bundle, made: dict[str, Mixed], out: Path) -> None:
    with zipfile.ZipFile(bundle.path) as archive:
        files = {n: archive.read(n) for n in archive.namelist() if n != "manifest.json"}
    manifest = bundle.manifest
    encoder, decoders = manifest.encoder, dict(manifest.decoders)
    for name, mixed in made.items():
        file = f"graphs/{name}-int8.onnx"
        files[file] = mixed.data
        if name == "g_a":
            encoder = encoder.model_copy(update={"int8": file})
        else:
            decoders[name] = _with_int8(decoders[name], file)
    changed = {
        "encoder": encoder,
        "decoders": decoders,
        "sha256": {n: hashlib.sha256(data).hexdigest() for n, data in files.items()},
    }
    write_bundle(out, manifest.model_copy(update=changed), files)


def _with_int8(info: DecoderInfo, file: str) -> DecoderInfo:
    return info.model_copy(update={"graph": info.graph.model_copy(update={"int8": file})})
