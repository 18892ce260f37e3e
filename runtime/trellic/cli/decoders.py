"""Descriptions and choice of decoders, for the commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from trellic.constants import DEFAULT_DECODER
from trellic.model.choice import cheapest, parse

if TYPE_CHECKING:
    from trellic.images import Fit
    from trellic.model.decoders import DecoderInfo


class Expected(NamedTuple):
    """What is known about a decoder's name from the installed models, before a file is opened.

    The model of a file decides in the end. If models differ, the ordinary case is expected: a whole
    picture from a whole file.

    Attributes
    ----------
    known : some installed model has it
    labels : it gives labels, so there is no OUT
    part : it may need only a part of a file
    scale : its pictures are at 1 / scale of the size
    networks : number of decoders that it runs; two if they are mixed
    """

    known: bool = False
    labels: bool = False
    part: bool = False
    scale: int = 1
    networks: int = 1


_GAP = 2  # a decoder's picture must have at least this many times the requested sides


class Installed:
    """The models that were installed when a command began.

    Parameters
    ----------
    model : name or path of a bundle
        It alone counts; None for all that are installed.

    Raises
    ------
    TrellicError, OSError
        There is no such bundle, or it is damaged.
    """

    def __init__(self, model: str | None = None) -> None:
        from trellic.model import bundle

        self._models = [manifest for _, manifest in bundle.installed()]
        if model is not None:
            self._models = [bundle.Bundle(bundle.find(model)).manifest]

    def only(self) -> str:
        """Return the stream id of the one model that counts, in hex digits."""
        (manifest,) = self._models
        return manifest.stream_id

    def expect(self, decoder: str) -> Expected:
        """Look a decoder (``NAME`` or ``NAME:x``) up."""
        name, strength = parse(decoder)
        known = [m.decoders[name] for m in self._models if name in m.decoders]
        if not known:
            return Expected()
        return Expected(
            known=True,
            labels=all(info.kind == "labels" for info in known),
            part=any(info.channels is not None or info.steps is not None for info in known),
            scale=min(info.scale for info in known),
            networks=1 if strength in (None, 0, 1) else 2,
        )

    def draft(self, stream_id: bytes, fit: Fit | None, width: int, height: int) -> str:
        """Name the cheapest decoder that serves for a smaller picture.

        Parameters
        ----------
        stream_id : of the file
        fit : the requested size
        width, height : of the picture, or the region of it

        Returns
        -------
        the default decoder for a whole picture, or if the file's model is not installed
        """
        if fit is None:
            return DEFAULT_DECODER
        reduction = 1 / (_GAP * fit.factor(width, height))
        models = (m for m in self._models if m.stream_id == stream_id.hex())
        decoders = next((manifest.decoders for manifest in models), {})
        return cheapest(decoders, reduction) or DEFAULT_DECODER


def describe(info: DecoderInfo) -> dict[str, Any]:
    """Return the fields of a decoder, for ``--json``."""
    return {
        "kind": info.kind,
        "kmac_per_pixel": info.graph.kmac_per_pixel,
        "precisions": info.graph.precisions,
        "purpose": info.purpose,
        "scale": info.scale,
        "base": info.base,
        "labels": info.labels and len(info.labels),
    }


def result(fields: Mapping[str, Any]) -> str:
    """Say in a few words what a decoder gives, from what `describe` returned."""
    if fields["kind"] == "labels":
        return f"{fields['labels']} labels"
    size = "picture" if fields["scale"] == 1 else f"picture at 1/{fields['scale']}"
    return size + (f", mixes with {fields['base']}" if fields["base"] else "")
