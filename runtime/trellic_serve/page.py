"""The page at ``/``: users drop a photo on it, and the page of ``trellic compare`` compares it."""

from __future__ import annotations

from typing import Final

from trellic.cli import compare, rivals
from trellic.cli.measures import CHEAP, MEASURES
from trellic.constants import DEFAULT_DECODER, DEFAULT_TRELLIS
from trellic.support.bounds import Limits, check, limited
from trellic_serve import delivery
from trellic_serve.codecs import Coder

POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
DEMO: Final = '<p>Or <a href="web/demo.html">show a .tlc file</a> decoded in this browser.</p>'
MAX_PIXELS: Final = 2**22  # each codec encodes a photo several times


def make(coder: Coder, data: bytes, quality: float) -> str:
    """Return the page that compares a photo.

    Parameters
    ----------
    data : of the photo's file
    quality : of Trellic

    Raises
    ------
    ImageTooLarge
        When the photo has over `MAX_PIXELS`.
    TrellicError
        When it cannot be read or coded, or that takes too long.
    """
    with limited(Limits(max_pixels=MAX_PIXELS)):
        picture = compare.opaque(delivery.read(data))
    setting = compare.Setting(quality, DEFAULT_TRELLIS, DEFAULT_DECODER, MAX_PIXELS)
    there = {name: MEASURES[name] for name in CHEAP}
    original, ours = compare.first_two(picture, len(data), setting, coder.codec(None))
    aim = compare.aim_of(setting.equal, ours, original, there)
    entries = [original, compare.scored(ours, original, there)]
    for rival in rivals.installed():
        check()
        entry = compare.entry_of(rival, picture, aim)
        entries.append(compare.scored(entry, original, there))
    return compare.page([compare.Photo("Your photo", entries)], there)
