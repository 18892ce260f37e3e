"""Make the golden streams with layers, of the tiny model.

Run once, from the repository's root: ``python -m tests.data.make_layers``. It writes no file that
is there: what they decode to is decided by the format and the model for ever.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from tests.data.make_dither import scene

from trellic import bitstream, geometry
from trellic.codec import Codec
from trellic.pipeline.encoder import StreamEncoder

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden"


def main() -> None:
    """Write what is missing."""
    codec = Codec.load(str(FOLDER / "tiny.zip"), device="cpu")
    with mock.patch.object(geometry, "MOST_CHOSEN", geometry.DEFAULT_SLICE_SIDE):
        two_slices = codec.encode(scene(40, 1100), quality=75, trellis=8, progressive=True)
    codec._encoding = StreamEncoder(
        codec.bundle,
        codec._pool,
        layering=lambda _, steps: bitstream.Layering((400, 800), 2, 6 * steps),
    )
    scalar = codec.encode(scene(90, 120), quality=90, trellis=0, progressive=True)
    made = {
        "layers": two_slices,
        "layers-cut": bitstream.cut(two_slices, passes=17).data,
        "layers-scalar": scalar,
    }
    for name, data in made.items():
        path = GOLDEN / f"{name}.tlc"
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    main()
