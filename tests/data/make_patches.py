"""Make the golden streams of patches, of the tiny model.

Run once, from the repository's root: ``python -m tests.data.make_patches``. It never overwrites a
file: what it decodes to is decided by the format and the model for ever.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tests.data.make_dither import scene

from trellic import bitstream
from trellic.bitstream import Patches
from trellic.bitstream.patches import in_pixels, mask_shape, slice_areas
from trellic.codec import Codec
from trellic.images.av1 import pack_still, unpack_still
from trellic.images.lossless import pack_pixels

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden" / "patches.tlc"
BARE = FOLDER / "golden" / "bare.tlc"  # patches alone: AV1, and without loss
BARE_LEFT = FOLDER / "golden" / "bare-left.png"  # what the AV1 picture decodes to, within a level
TINY = FOLDER / "tiny.zip"
HEIGHT, WIDTH = 83, 1101  # two slices


def drawn() -> npt.NDArray[np.uint8]:
    """Lines of a few colours on white."""
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    pixels[5::9, ::2] = (20, 60, 160)
    pixels[:, 3::23] = (0, 0, 0)
    return pixels


def stored() -> npt.NDArray[np.bool_]:
    """Every third block, and all of the last row."""
    rows, columns = mask_shape(HEIGHT, WIDTH)
    mask = (np.arange(rows * columns) % 3 == 0).reshape(rows, columns)
    mask[-1] = True
    return mask


def made(codec: Codec) -> bytes:
    """Encode a scene, and put patches over it."""
    stream = bitstream.read(codec.encode(scene(HEIGHT, WIDTH), quality=50, trellis=8))
    areas = [in_pixels(area, HEIGHT, WIDTH) for area in slice_areas(stream.header)]
    data = tuple(pack_pixels(drawn()[area.index()]) for area in areas)
    return bitstream.write(replace(stream, patches=Patches(stored(), data)))


def bare() -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Return a file of patches alone, and the pixels of its first slice."""
    stream = bitstream.read(GOLDEN.read_bytes())
    header = replace(stream.header, bare=True, steps=1, lanes=(1, 1))
    left, right = (in_pixels(area, HEIGHT, WIDTH) for area in slice_areas(header))
    still = pack_still(drawn()[left.index()], 60)
    data = still, pack_pixels(drawn()[right.index()])
    patches = Patches(np.ones(mask_shape(HEIGHT, WIDTH), np.bool_), data)
    made = bitstream.Stream(header, [b""] * header.segments, patches=patches)
    return bitstream.write(made), unpack_still(still, *left.shape, grey=False)


def main() -> None:
    """Write the files that are missing."""
    if not GOLDEN.exists():
        GOLDEN.write_bytes(made(Codec.load(TINY, "cpu")))
    if not BARE.exists():
        data, pixels = bare()
        BARE.write_bytes(data)
        Image.fromarray(pixels).save(BARE_LEFT)


if __name__ == "__main__":
    main()
