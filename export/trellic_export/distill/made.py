"""A bundle whose encoder and decoder are small ones; its streams are those of the large model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trellic.engines.ort import OrtEngine
from trellic.model.bundle import Bundle
from trellic.model.decoders import DecoderInfo, Graph
from trellic.model.manifest import Manifest
from trellic_export import graphs
from trellic_export.bundle import digests, members, plain, write_bundle
from trellic_export.distill.students import Students
from trellic_export.macs import macs_per_pixel
from trellic_export.parity import check_decoder, check_encoder

ENCODER, DECODER = "g_a", "quality"


def write(
    bundle: Bundle, students: Students, name: str, facts: dict[str, Any], out: Path
) -> Manifest:
    """Write the bundle of trained networks.

    Parameters
    ----------
    bundle : the large model; not changed
    students : in evaluation mode
    name : of the new model
    facts : of the training
    out : path of the zip file to write

    Raises
    ------
    EngineError
        When an engine does not reproduce the torch networks.
    """
    old, layout = bundle.manifest, students.layout
    encoder = graphs.encoder_graph(students.encoder)
    decoder = graphs.decoder_graph(students.decoder, layout.latents, layout.bands)
    check_encoder(students.encoder, OrtEngine(encoder), layout.bands)
    check_decoder(DECODER, students.decoder, OrtEngine(decoder), layout.latents)
    g_a = Graph(
        file=f"graphs/{ENCODER}.onnx",
        kmac_per_pixel=round(macs_per_pixel(students.encoder, 1) / 1000, 3),
        halo=students.encoder_halo,
        sees_quality=True,
    )
    g_s = Graph(
        file=f"graphs/{DECODER}.onnx",
        kmac_per_pixel=round(macs_per_pixel(students.decoder, layout.stride) / 1000, 3),
        halo=students.sizes.halo,
        sees_quality=True,
    )
    kept = {graph.file for graph in (old.hyper_encoder, *old.exact.values())}
    others = [file for file in old.sha256 if file.endswith(".onnx") and file not in kept]
    files = members(bundle, without=others) | {g_a.file: encoder, g_s.file: decoder}
    changed = {
        "name": name,
        "description": f"a slim model of the streams of {old.name}, for pictures of one kind",
        "encoder": g_a,
        "hyper_encoder": plain(old.hyper_encoder),
        "decoders": {DECODER: DecoderInfo(graph=g_s, purpose="small, for pictures of one kind")},
        "sha256": digests(files),
        "training": {**old.training, "decoders": {}, "distilled": {"from": old.name, **facts}},
    }
    manifest = Manifest.model_validate(old.model_copy(update=changed).model_dump())
    write_bundle(out, manifest, files)
    return manifest
