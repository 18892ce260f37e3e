"""The choice of a decoder: ``NAME``, or ``NAME:x`` for x of it and 1 - x of its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trellic.errors import BadParameter, UnknownDecoder

if TYPE_CHECKING:
    from trellic.model.channels import Layout
    from trellic.model.decoders import DecoderInfo


@dataclass(frozen=True)
class Part:
    """One decoder and its share of the result, over 0 and at most 1."""

    name: str
    info: DecoderInfo
    weight: float


@dataclass(frozen=True)
class Choice:
    """The decoders that a text names: one, or two to mix, whose weights add up to 1."""

    text: str
    parts: tuple[Part, ...]

    @property
    def kind(self) -> str:
        """Kind of the result, "picture" or "labels"."""
        return self.parts[0].info.kind

    @property
    def scale(self) -> int:
        """The picture comes at 1 / scale of its size."""
        return self.parts[0].info.scale

    @property
    def halo(self) -> int:
        """How far, in latents, a pixel depends on latents around it."""
        return max(part.info.graph.halo for part in self.parts)

    def channels(self, layout: Layout) -> int:
        """How many leading channels of latents are read."""
        return max(part.info.channels or layout.latents for part in self.parts)

    def steps(self, layout: Layout) -> int:
        """How many context steps have to be decoded."""
        return max(part.info.steps_in(layout) for part in self.parts)


def parse(text: str) -> tuple[str, float | None]:
    """Split ``NAME`` or ``NAME:x``; x is None if it is not given.

    Raises
    ------
    BadParameter
        When it is neither, or x is not in [0, 1].
    """
    name, colon, number = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        strength = float(number) if colon else None
    except ValueError:
        strength = -1.0
    if not name or not (strength is None or 0 <= strength <= 1):
        raise BadParameter(f"decoder {text!r}", expected="NAME, or NAME:x with x in 0..1")
    return name, strength


def find(decoders: Mapping[str, DecoderInfo], name: str, model: str) -> DecoderInfo:
    """Return a decoder of a model.

    Raises
    ------
    UnknownDecoder
        When there is none of that name.
    """
    if name not in decoders:
        raise UnknownDecoder(
            f"model {model!r} has no decoder {name!r}",
            remedy=f"it has: {', '.join(sorted(decoders))}",
        )
    return decoders[name]


def choose(decoders: Mapping[str, DecoderInfo], text: str, model: str) -> Choice:
    """Return the decoders that a text names, and their weights.

    ``NAME:1`` is NAME alone, and ``NAME:0`` its base alone.

    Parameters
    ----------
    decoders : those of the model
    text : ``NAME`` or ``NAME:x`` with x in [0, 1]
    model : its name, for messages

    Raises
    ------
    UnknownDecoder
        When the model has no decoder of that name.
    BadParameter
        When the text is neither, or NAME has no base and x is given.
    """
    name, strength = parse(text)
    info = find(decoders, name, model)
    if strength is None:
        return Choice(text, (Part(name, info, 1.0),))
    if info.base is None:
        mixable = ", ".join(sorted(n for n, d in decoders.items() if d.base is not None))
        raise BadParameter(
            f"decoder {text!r}: {name!r} has no base to be mixed with",
            expected=f"only {name!r}",
            remedy=f"those of model {model!r} that can be mixed: {mixable or 'none'}",
        )
    both = Part(name, info, strength), Part(info.base, decoders[info.base], 1 - strength)
    return Choice(text, tuple(part for part in both if part.weight > 0))


def cheapest(decoders: Mapping[str, DecoderInfo], reduction: float) -> str | None:
    """Name the cheapest decoder for a picture at 1 / reduction of its size, or larger.

    Parameters
    ----------
    decoders : those of the model
    reduction : at least 1

    Returns
    -------
    None if the model has no decoder for a picture that large
    """
    costs = {
        name: (-info.scale, info.graph.kmac_per_pixel)
        for name, info in decoders.items()
        if info.kind == "picture" and info.scale <= reduction
    }
    return min(costs, key=lambda name: costs[name], default=None)
