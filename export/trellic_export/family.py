"""Decoders added to a bundle; all other bytes stay the same, and so the stream id does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from pydantic import ValidationError

from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic.model.decoders import DecoderInfo, Graph
from trellic.model.manifest import Manifest
from trellic_export import graphs
from trellic_export.bundle import digests, members, purpose_of, write_bundle
from trellic_export.halves import whole
from trellic_export.macs import macs_per_pixel
from trellic_export.parity import check_decoder
from trellic_training.models.decoder_weights import TrainedDecoder
from trellic_training.models.decoders import SynthesisSizes
from trellic_training.models.photo import PhotoModel
from trellic_training.models.transforms import Chain
from trellic_training.recipes.decoder import DecoderRecipe


def add_decoder(bundle: Bundle, name: str, decoder: TrainedDecoder, out: Path) -> Manifest:
    """Write a bundle with one more decoder, or with an old one replaced.

    Parameters
    ----------
    bundle : to start from; not changed, unless ``out`` is its path
    name : of the decoder
    decoder : its weights

    Raises
    ------
    BadParameter
        When the decoder was trained for another encoder, its manifest entry does not fit, or
        another network has its name.
    EngineError
        When the engine does not reproduce the torch model.
    """
    check_encoder(encoder_digest(bundle), bundle.manifest.name, name, decoder)
    file = f"graphs/{name}.onnx"
    _check_free(bundle, name, file)
    data = _graph(decoder)
    check_decoder(name, decoder.network, OrtEngine(data), _channels(decoder))
    macs = macs_per_pixel(decoder.network, decoder.layout.stride)
    info = DecoderInfo(
        graph=Graph(
            file=file,
            kmac_per_pixel=round(macs / 1000, 3),
            halo=decoder.sizes.halo,
            sees_quality=graphs.sees_quality(decoder.network),
        ),
        purpose=decoder.purpose,
        kind="picture" if decoder.labels is None else "labels",
        channels=decoder.sizes.channels,
        steps=getattr(decoder.sizes, "steps", None),
        scale=decoder.sizes.scale,
        base=decoder.base,
        labels=decoder.labels,
    )
    files = _members(bundle, name) | {file: data}
    manifest = _manifest(bundle.manifest, name, info, decoder, files)
    write_bundle(out, manifest, files)
    return manifest


def encoder_digest(bundle: Bundle) -> str:
    """Digest of the weights of g_a, which a decoder's latents depend on, unlike on the tables.

    The sign of a zero does not count, because copies of weights lose that of a flushed denormal.
    """
    return _digest(bundle.graph(bundle.manifest.encoder))


def model_digest(model: PhotoModel) -> str:
    """Digest of a model's g_a, equal to that of the bundles exported from it."""
    return _digest(graphs.encoder_graph(model.float().eval().g_a))


def decoder_of(model: PhotoModel, facts: dict[str, Any]) -> TrainedDecoder:
    """Return the g_s of a whole model as a decoder for its encoder's latents.

    Parameters
    ----------
    model : for example of the second stage, which keeps the encoder of the first
    facts : of its training
    """
    c = model.config
    sizes = SynthesisSizes(
        wide=c.wide,
        deep=c.deep,
        blocks=c.decoder_blocks,
        details=c.details,
        modulated=c.modulated,
    )
    return TrainedDecoder(
        sizes=sizes,
        network=model.g_s,
        purpose=purpose_of(facts),
        base=None,
        labels=None,
        layout=c.layout(),
        encoder=model_digest(model),
        facts=facts.get("finetuning", facts),
    )


def decoder_by(
    recipe: DecoderRecipe,
    network: Chain,
    bundle: Bundle,
    facts: dict[str, Any],
    labels: list[str] | None = None,
) -> TrainedDecoder:
    """Return a decoder that was trained by a recipe on the latents of a bundle.

    Parameters
    ----------
    network : its weights
    facts : of its training
    labels : names, of a decoder of labels
    """
    return TrainedDecoder(
        sizes=recipe.network,
        network=network,
        purpose=recipe.purpose,
        base=recipe.base,
        labels=labels,
        layout=bundle.manifest.layout,
        encoder=encoder_digest(bundle),
        facts=facts,
    )


def _digest(graph: bytes) -> str:
    total = hashlib.sha256()
    for constant in onnx.load_from_string(whole(graph)).graph.initializer:
        total.update((numpy_helper.to_array(constant) + 0).tobytes())
    return total.hexdigest()[:16]


def check_encoder(own: str, bundle: str, name: str, decoder: TrainedDecoder) -> None:
    """Check that a decoder is for a bundle's latents.

    Parameters
    ----------
    own : digest of the bundle's encoder
    bundle, name : of the bundle and of the decoder, for the message

    Raises
    ------
    BadParameter
        When it was trained for another encoder.
    """
    if own != decoder.encoder:
        raise BadParameter(
            f"decoder {name!r} was trained on latents of encoder {decoder.encoder}",
            expected=f"{own}, that of bundle {bundle!r}",
            remedy="train it for this bundle: trellic finetune --add-decoder",
        )


def _check_free(bundle: Bundle, name: str, file: str) -> None:
    """Refuse to replace a graph, unless it is that of an older decoder of the same name."""
    manifest = bundle.manifest
    others = [info.graph for other, info in manifest.decoders.items() if other != name]
    others += [manifest.encoder, manifest.hyper_encoder, *manifest.exact.values()]
    if any(graph.file == file for graph in others):
        raise BadParameter(
            f"decoder name {name!r}",
            expected="one that no other network of the bundle has",
        )


def _channels(decoder: TrainedDecoder) -> int:
    return decoder.sizes.channels or decoder.layout.latents


def _graph(decoder: TrainedDecoder) -> bytes:
    if decoder.labels is not None:
        return graphs.label_graph(decoder.network, _channels(decoder))
    return graphs.decoder_graph(decoder.network, _channels(decoder))


def _members(bundle: Bundle, name: str) -> dict[str, bytes]:
    """Files that stay byte for byte: all except the manifest and the graph that is replaced."""
    old = bundle.manifest.decoders.get(name)
    replaced = (old.graph.file, *old.graph.variants.values()) if old else ()
    return members(bundle, without=replaced)


def _manifest(
    old: Manifest, name: str, info: DecoderInfo, decoder: TrainedDecoder, files: dict[str, bytes]
) -> Manifest:
    facts = {**old.training.get("decoders", {}), name: decoder.facts}
    changed = old.model_copy(
        update={
            "decoders": {**old.decoders, name: info},
            "sha256": digests(files),
            "training": {**old.training, "decoders": facts},
        }
    )
    try:
        return Manifest.model_validate(changed.model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadParameter(f"decoder {name!r} does not fit the bundle: {first['msg']}") from error
