"""The header of the streams of a model: written once, for CPU and GPU."""

from __future__ import annotations

from collections.abc import Sequence

from trellic.bitstream import Header, Layering
from trellic.errors import BadParameter
from trellic.geometry import choose_slice_side
from trellic.model.bundle import Bundle


def header_of(
    model: Bundle,
    size: tuple[int, int],
    quality16: int,
    trellis: int,
    lanes: Sequence[int],
    *,
    grey: bool = False,
    dither: int | None = None,
    layering: Layering | None = None,
) -> Header:
    """Return the header of a stream.

    Parameters
    ----------
    model : that the picture is encoded with
    size : width and height of the picture, in pixels
    quality16 : quality in sixteenths
    trellis : states of the trellis, 0 for scalar
    lanes : of each slice, whose side is chosen by the size
    grey : whether the picture has one channel
    dither : seed of a dithered stream
    layering : of a layered stream
    """
    width, height = size
    return Header(
        width=width,
        height=height,
        quality16=quality16,
        trellis=trellis,
        steps=len(model.manifest.layout.steps),
        stream_id=bytes.fromhex(model.manifest.stream_id),
        lanes=tuple(lanes),
        grey=grey,
        slice_side=choose_slice_side(width, height),
        dither=dither,
        layering=layering,
        adapter=model.adapter_id,
    )


def refuse_layers(header: Header, what: str) -> None:
    """Raise BadParameter for a progressive file, where it is not supported."""
    if header.layering is not None:
        raise BadParameter(what, expected="an ordinary file", remedy="decode it, and encode that")
