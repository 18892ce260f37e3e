"""The encoder and the picture decoders of a bundle in 8 bits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter, TrellicWarning
from trellic.model.bundle import Bundle
from trellic.model.channels import Layout
from trellic.model.decoders import DecoderInfo, Graph
from trellic.model.manifest import Manifest
from trellic_export.bundle import centres, digests, members, write_bundle
from trellic_export.halves import halved, whole
from trellic_export.int8.choose import Chooser, Mixed
from trellic_training.bars import shown
from trellic_training.data.photos import PackedPhotos
from trellic_training.data.pictures import Pixels
from trellic_training.recipes.codec import Kind
from trellic_training.stages.samples import BundleQuantizer

BUDGET = 0.03  # dB of mean PSNR on the photos of the choice, to stay under the bound on others
BOUND = 0.05  # dB on other photos; more is refused
LEAST_PHOTOS = 4
SIDE = 256  # pixels of a crop, at most
QUALITIES = (10, 40, 60, 80, 95)
STATES: Kind = 8
DECODER = "quality"  # the decoder that shows what an encoder loses
Float32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """A crop, and its latents as a decoder reads them.

    Attributes
    ----------
    pixels : uint8 (1, height, width, 3)
    latents : float32 (1, channels, h, w), quantized, gains divided out
    quality : float32 (1,), for networks that see the quality
    """

    pixels: Pixels
    latents: Float32
    quality: Float32


def add_int8(
    bundle: Bundle,
    pack: PackedPhotos,
    out: Path,
    *,
    photos: int = 64,
    budget: float = BUDGET,
    names: Collection[str] = (),
) -> dict[str, Mixed]:
    """Write a bundle with int8 variants of its encoder and of its full-size picture decoders.

    Parameters
    ----------
    bundle : to start from; not changed, unless ``out`` is its path
    pack : photos of its training: half of them for ranges, at one quality each; a quarter for
        choosing layers and a quarter for the last check, at all qualities
    photos : how many of them, at least 4
    names : of the graphs, "g_a" or a decoder; all that can have a variant by default
    budget : mean PSNR that each graph may lose, in dB, over qualities 10, 40, 60, 80 and 95

    Returns
    -------
    dict of Mixed, by the names of the graphs that have an int8 variant now

    Raises
    ------
    BadParameter
        When there are fewer than 4 photos, no graph of a name, or no graph of the bundle has an
        int8 variant that stays within budget and bound.

    Warns
    -----
    TrellicWarning
        When a variant is left out because it loses more than 0.05 dB on other photos than those
        that its layers were chosen on.
    """
    graphs = _graphs(bundle.manifest)
    if not graphs.keys() >= set(names):
        raise BadParameter(f"graphs {', '.join(names)}", expected=f"some of {', '.join(graphs)}")
    parts = _samples(BundleQuantizer(bundle), pack, photos)
    made: dict[str, Mixed] = {}
    for name in names or graphs:
        data = whole(bundle.graph(graphs[name]))
        losses = [_loss(bundle, name, data, part) for part in parts[1:]]
        inputs = [_input(name, bundle.manifest, sample) for sample in parts[0]]
        mixed = Chooser(data, inputs, losses[0]).choose(budget)
        if mixed.share and _holds(name, losses[1](mixed.data)):
            made[name] = mixed
    if not made:
        raise BadParameter(
            f"bundle {bundle.manifest.name!r} has no int8 variant that stays within {budget} dB",
            remedy="export it without --int8",
        )
    _write(bundle, made, out)
    return made


def _holds(name: str, loss: float) -> bool:
    if loss > BOUND:
        warnings.warn(
            f"no int8 variant of {name}: it loses {loss:.3f} dB on photos that its layers were not "
            f"chosen on; at most {BOUND} is allowed; calibrate on more photos (--count)",
            TrellicWarning,
            stacklevel=3,
        )
    return loss <= BOUND


def _graphs(manifest: Manifest) -> dict[str, Graph]:
    """Graphs that may get an int8 variant."""
    decoders = {
        name: info.graph
        for name, info in manifest.decoders.items()
        if info.kind == "picture" and info.scale == 1 and info.steps is None
    }
    return {"g_a": manifest.encoder, **decoders}


def _samples(quantizer: BundleQuantizer, pack: PackedPhotos, count: int) -> list[list[Sample]]:
    """Quantize centres of training photos: for ranges, for choosing, for the last check."""
    parts: list[list[Sample]] = [[], [], []]
    crops = list(_crops(quantizer.layout, pack, count))
    for i, crop in enumerate(shown(crops, "quantizing photos")):
        part = (0, 1, 0, 2)[i % 4]
        turn = i // 2 % len(QUALITIES)
        for quality in QUALITIES if part else QUALITIES[turn : turn + 1]:
            latents, level = quantizer(crop, np.array([float(quality)]), [STATES])
            parts[part].append(Sample(crop, latents, level))
    if not all(parts):
        raise BadParameter(
            f"{len(crops)} photos for int8", expected=f"at least {LEAST_PHOTOS} (--photos, --count)"
        )
    return parts


def _crops(layout: Layout, pack: PackedPhotos, count: int) -> Iterator[Pixels]:
    """Corners of the centres of photos, of whole hyper-latents."""
    cell = layout.stride * layout.cell
    for pixels in centres(pack, count):
        height, width = (min(side, SIDE) // cell * cell for side in pixels.shape[:2])
        if height and width:
            yield np.ascontiguousarray(pixels[None, :height, :width])


def _input(name: str, manifest: Manifest, sample: Sample) -> dict[str, Array]:
    if name == "g_a":
        return {"image": sample.pixels, "quality": sample.quality}
    latents = sample.latents[:, : manifest.decoders[name].channels]
    return {"latents": latents, "quality": sample.quality}


def _loss(
    bundle: Bundle, name: str, data: bytes, samples: list[Sample]
) -> Callable[[bytes], float]:
    """Return the function that measures how much mean PSNR a graph loses in another's place."""
    manifest = bundle.manifest
    inputs = [_input(name, manifest, sample) for sample in samples]
    outputs = _outputs(data, inputs)
    if name == "g_a":
        g_s = OrtEngine(bundle.graph(manifest.decoders[DECODER].graph))

    def psnr(output: Array, at: int) -> float:
        if name == "g_a":
            # On average a quantizer passes noise on, so no search has to run for it.
            latents = samples[at].latents + output - outputs[at]
            output = g_s({"latents": latents, "quality": samples[at].quality})[0]
        return _psnr(samples[at], output)

    float32 = np.mean([psnr(output, i) for i, output in enumerate(outputs)])

    def lost(other: bytes) -> float:
        seen = [psnr(output, i) for i, output in enumerate(_outputs(other, inputs))]
        return float(float32 - np.mean(seen))

    return lost


def _outputs(data: bytes, inputs: list[dict[str, Array]]) -> list[Array]:
    engine = OrtEngine(data)
    return [engine(arrays)[0] for arrays in inputs]


def _psnr(sample: Sample, picture: Array) -> float:
    error = float(np.mean((sample.pixels.astype(np.float64) - picture) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-9))


def _write(bundle: Bundle, made: dict[str, Mixed], out: Path) -> None:
    files = members(bundle)
    manifest = bundle.manifest
    encoder, decoders = manifest.encoder, dict(manifest.decoders)
    for name, mixed in made.items():
        file = f"graphs/{name}-int8.onnx"
        files[file] = halved(mixed.data)
        if name == "g_a":
            encoder = encoder.model_copy(update={"int8": file})
        else:
            decoders[name] = _with_int8(decoders[name], file)
    changed = {
        "encoder": encoder,
        "decoders": decoders,
        "sha256": digests(files),
    }
    write_bundle(out, manifest.model_copy(update=changed), files)


def _with_int8(info: DecoderInfo, file: str) -> DecoderInfo:
    return info.model_copy(update={"graph": info.graph.model_copy(update={"int8": file})})
