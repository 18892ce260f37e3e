"""The layers of a progressive file, chosen by measurements (docs/progressive.md)."""

from __future__ import annotations

from trellic.bitstream import Layering

SPACING16 = (352, 720)  # distances of the other layers below the last one's quality, in sixteenths
LOWEST16 = 320  # lowest quality of a layer; lower ones would hardly save anything
PARTS = 4
LAYERS = len(SPACING16) + 1  # at most


def layering_for(quality16: int, steps: int) -> Layering:
    """Return the layering of a whole progressive file of a quality, in sixteenths."""
    below = sorted(quality16 - space for space in SPACING16)
    whole = Layering(tuple(quality for quality in below if quality >= LOWEST16), PARTS)
    return whole.cut(whole.passes(steps))
