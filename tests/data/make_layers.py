"""Make the golden streams with layers, of the tiny model.

Run once, from the repository's root: ``python -m tests.data.make_layers``. It writes no file that
is there: what they decode to is decided by the format and the model for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from tests.data.make_dither import scene

from trellic import bitstream, geometry
from trellic.bitstream import Layering
from trellic.codec import Codec
from trellic.pipeline.encoder import StreamEncoder

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden"


def main() -> None:
    """Write what is missing."""
    codec = Codec.load(str(FOLDER / "tiny.zip"), device="cpu")

    def coded(size: tuple[int, int], quality: int, trellis: Any, layering: Layering) -> bytes:
        steps = len(codec.bundle.manifest.layout.steps)
        whole = layering.cut(layering.passes(steps))
        codec._encoding = StreamEncoder(codec.bundle, codec._pool, layering=lambda *_: whole)
        with mock.patch.object(geometry, "MOST_CHOSEN", geometry.DEFAULT_SLICE_SIDE):
            return codec.encode(scene(*size), quality=quality, trellis=trellis, progressive=True)

    weighed, three = Layering((480, 848), 4), Layering((480, 848), 4, intervals=True)
    old, new = coded((40, 1100), 75, 8, weighed), coded((40, 1100), 75, 0, three)
    made = {
        "layers": old,
        "layers-cut": bitstream.cut(old, passes=17).data,
        "layers-scalar": coded((90, 120), 90, 0, Layering((400, 800), 2)),
        "intervals": new,
        "intervals-cut": bitstream.cut(new, passes=17).data,
        "intervals-2": coded((90, 120), 90, 0, Layering((400,), 2, intervals=True)),
    }
    for name, data in made.items():
        path = GOLDEN / f"{name}.tlc"
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    main()
