"""A copy of a bundle with only some of its decoders, which is smaller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic.model.decoders import DecoderInfo
from trellic.model.manifest import Manifest
from trellic_export.bundle import digests, members, plain, write_bundle


def slim(bundle: Bundle, names: Sequence[str], out: Path) -> Manifest:
    """Write a bundle with only these decoders, only in float32, under the name of its file.

    Streams do not change: encoder, integer networks and tables are the same, and so is the stream
    id.

    Parameters
    ----------
    bundle : to take from; not changed
    names : of the decoders that stay, one or more

    Raises
    ------
    BadParameter
        When the bundle lacks one of them, or one builds on a decoder that is not named.
    """
    old = bundle.manifest
    missing = [name for name in names if name not in old.decoders]
    if missing or not names:
        raise BadParameter(
            f"decoders {', '.join(names) or 'none'}",
            expected=f"one or more of {', '.join(old.decoders)}",
        )
    decoders = {name: _plain_decoder(old.decoders[name]) for name in names}
    encoder = plain(old.encoder)
    kept = {g.file for g in (encoder, old.hyper_encoder, *old.exact.values())}
    kept |= {info.graph.file for info in decoders.values()}
    files = members(
        bundle, without=[n for n in old.sha256 if n.endswith(".onnx") and n not in kept]
    )
    trained = old.training.get("decoders", {})
    training = {**old.training, "decoders": {n: trained[n] for n in names if n in trained}}
    changed = {"name": out.stem, "encoder": encoder, "decoders": decoders, "training": training}
    changed["sha256"] = digests(files)
    try:
        manifest = Manifest.model_validate(old.model_copy(update=changed).model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadParameter(f"decoders {', '.join(names)}: {first['msg']}") from error
    write_bundle(out, manifest, files)
    return manifest


def _plain_decoder(info: DecoderInfo) -> DecoderInfo:
    return info.model_copy(update={"graph": plain(info.graph)})
