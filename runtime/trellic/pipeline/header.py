"""The header of the streams of a model: written once, for CPU and GPU."""

from __future__ import annotations

from collections.abc import Sequence

from trellic.bitstream import Header, Layering
from trellic.errors import BadParameter, CorruptStream
from trellic.geometry import choose_slice_side
from trellic.latents.quantizer import AROUND_MEANS, Lattice, lattice_of
from trellic.model.bundle import Bundle
from trellic.model.quality import Level


def header_of(
    model: Bundle,
    size: tuple[int, int],
    quality16: int,
    trellis: int,
    lanes: Sequence[int],
    *,
    grey: bool = False,
    lattice: Lattice = AROUND_MEANS,
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
    lattice : of a scalar stream
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
        dither=lattice.dither,
        still=lattice.still,
        layering=layering,
        adapter=model.adapter_id,
    )


def level_of(model: Bundle, header: Header) -> Level:
    """Return the level whose steps the latents of a stream without layers are in.

    Raises
    ------
    CorruptStream
        When the stream needs tables that the model does not have.
    """
    lattice = lattice_of(header)
    if lattice != AROUND_MEANS and model.tables.dither is None:
        kind = "dithered stream" if not lattice.still else "stream with a still lattice"
        raise CorruptStream(f"a {kind}, but model {model.manifest.name!r} has no tables for it")
    dithered = lattice.dither is not None
    return model.levels.at(header.quality16, header.trellis, dithered=dithered)


def refuse_layers(header: Header, what: str) -> None:
    """Raise BadParameter for a progressive file, where it is not supported."""
    if header.layering is not None:
        raise BadParameter(what, expected="an ordinary file", remedy="decode it, and encode that")
