"""``python -m tests.conformance.latents IN OUT``: Trellic's own ``--latents`` command."""

from __future__ import annotations

import sys
from pathlib import Path

from trellic.codec import Codec

from . import kit


def main(source: str, target: str) -> None:
    """Write z and y of a stream as int32, little endian, in C order."""
    z, y = kit.latents(Codec(kit.MODEL, "cpu", 1), Path(source).read_bytes())
    Path(target).write_bytes(z.tobytes() + y.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
