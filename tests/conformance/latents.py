"""``python -m tests.conformance.latents IN OUT``: Trellic's own ``--latents`` command."""

from __future__ import annotations

import sys
from pathlib import Path

from trellic import bitstream

from . import kit


def main(source: str, target: str) -> None:
    """Write z and y of a stream as int32, little endian, in C order."""
    data = Path(source).read_bytes()
    bundle = kit.DITHER_MODEL if bitstream.read_header(data).still else kit.MODEL
    z, y = kit.latents(kit.codec(bundle), data)
    Path(target).write_bytes(z.tobytes() + y.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
