"""The codecs of a process: loaded when first needed, and again in every process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from trellic.codec import Codec
from trellic.constants import DEFAULT_MODEL, Device
from trellic.errors import BadParameter
from trellic.model import bundle
from trellic.model.choice import choose
from trellic.model.decoders import DecoderInfo
from trellic.pipeline.options import EncodeOptions


def codec_for(model: str = DEFAULT_MODEL, device: Device = "cpu", threads: int = 1) -> Codec:
    """Return this process's codec of a model.

    Data loaders fork, so an engine that was loaded before a fork is not used after it.

    Parameters
    ----------
    model, device : as of `trellic.Codec`
    threads : of each engine; 1 if there are as many workers as cores

    Raises
    ------
    TrellicError
        When the model does not load.
    """
    return _codec(os.getpid(), model, device, threads)


@lru_cache(maxsize=8)
def _codec(process: int, model: str, device: Device, threads: int) -> Codec:
    return Codec.load(model, device, threads)


def check_encoding(quality: float, trellis: int) -> None:
    """Refuse options that no model encodes with.

    Raises
    ------
    BadParameter
    """
    EncodeOptions(quality=quality, trellis=trellis)


def check_decoder(decoders: Mapping[str, DecoderInfo], text: str, model: str) -> None:
    """Refuse a decoder whose result is not a picture of the full size.

    Parameters
    ----------
    decoders : those of the model
    text : ``NAME`` or ``NAME:x``
    model : its name, for messages

    Raises
    ------
    UnknownDecoder, BadParameter
    """
    if _is_full(choose(decoders, text, model).parts[0].info):
        return
    full = sorted(name for name, info in decoders.items() if _is_full(info))
    raise BadParameter(
        f"decoder {text!r}, which does not make pictures of the full size",
        expected=f"one of {', '.join(full)}",
    )


def _is_full(info: DecoderInfo) -> bool:
    return info.kind == "picture" and info.scale == 1


def check_model(model: str, decoder: str) -> None:
    """Refuse a model that is not installed, or that has no such decoder of the full size.

    Raises
    ------
    UnknownModel, UnknownDecoder, BadParameter
    BadBundle
        When the file of the model is damaged.
    """
    manifest = bundle.read_manifest(bundle.find(model))
    check_decoder(manifest.decoders, decoder, manifest.name)
