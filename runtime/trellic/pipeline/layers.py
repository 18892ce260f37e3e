"""The layers of a progressive file, chosen by measurements (docs/progressive.md)."""

from __future__ import annotations

from trellic.bitstream import Layering

SPACING16 = (352, 720)  # distances of the other layers below the last one's quality, in sixteenths
LOWEST16 = 320  # lowest quality of a layer; lower ones would hardly save anything
PARTS = ((1 << 17, 4), (1 << 15, 2), (0, 1))  # of a step, for pictures of so many pixels or more
TOLD = 0.75  # of the way from the quality that is reached to the last one


def layering_for(quality16: int, steps: int, pixels: int = PARTS[0][0]) -> Layering:
    """Return the layering of a whole progressive file of a quality, in sixteenths.

    Small pictures have fewer parts: each pass costs some four bytes.
    """
    below = sorted(quality16 - space for space in SPACING16)
    lower = tuple(quality for quality in below if quality >= LOWEST16)
    parts = next(parts for least, parts in PARTS if pixels >= least)
    whole = Layering(lower, parts, intervals=True)
    return whole.cut(whole.passes(steps))


def told16(layering: Layering, last16: int, steps: int, passes: int) -> float:
    """Return the quality that a decoder is told of the first passes of a file with intervals.

    All latents are those of the last layer's g_a, however coarse. So what suits them lies between
    the quality that is reached and the last one. (Specification: ``docs/format.md``, section 8.4.)

    Parameters
    ----------
    last16 : quality of the last layer, in sixteenths
    """
    qualities16 = (*layering.below, last16)
    layer = layering.of(passes - 1, steps)[0]
    begin, end = (layering.passes(steps, layers) for layers in (layer, layer + 1))
    below = qualities16[max(layer - 1, 0)]
    now = below + (passes - begin) / (end - begin) * (qualities16[layer] - below)
    return now + TOLD * (last16 - now)
