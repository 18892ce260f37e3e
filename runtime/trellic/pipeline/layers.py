"""How a progressive file is layered: the encoder's choice, measured (docs/progressive.md)."""

from __future__ import annotations

from trellic.bitstream import Layering

SPACING16 = (352, 720)  # how far below the last layer's quality the others lie, in sixteenths
LOWEST16 = 320  # no layer of a lower quality: the last one is then hardly larger
PARTS = 4
LAYERS = len(SPACING16) + 1  # at most


def layering_for(quality16: int, steps: int) -> Layering:
    """Return the layering of a whole progressive file of a quality, in sixteenths."""
    below = sorted(quality16 - space for space in SPACING16)
    whole = Layering(tuple(quality for quality in below if quality >= LOWEST16), PARTS)
    return whole.cut(whole.passes(steps))
