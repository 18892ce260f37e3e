"""The target of pictures in: mutated files of every format that is read, through Pillow.

A picture of the right kind, or an error of ours: whatever Pillow does with a damaged file.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from trellic import images
from trellic.errors import TrellicError

FILES = Path(__file__).parents[1] / "data" / "pictures"
MAX_PIXELS = 1 << 16
MAX_SEED = 4096  # bytes
SIDE = 12


def pictures(data: bytes) -> bool:
    """Read a file; now and then write what was read as PNG, and read that."""
    steer, rest = data[0], data[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = images.from_bytes(rest, MAX_PIXELS)
        except TrellicError:
            return False
        _check(picture)
        if steer % 8 == 0:
            again = images.from_bytes(images.to_bytes(picture, ".png"), MAX_PIXELS)
            assert np.array_equal(again.pixels, picture.pixels)
    return True


def _check(picture: images.Picture) -> None:
    pixels, alpha = picture.pixels, picture.alpha
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or pixels.shape[2:] == (3,)
    assert 0 < picture.width * picture.height <= MAX_PIXELS
    assert alpha is None or (alpha.dtype, alpha.shape) == (np.uint8, pixels.shape[:2])
    for chunk in (picture.icc, picture.exif, picture.xmp):
        assert chunk is None or isinstance(chunk, bytes)


def picture_seeds() -> list[bytes]:
    """Return small files of every format and of most modes."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = np.stack([x * 20, y * 20, x * y, 255 - x], 2).astype(np.uint8)
    rgba = Image.fromarray(pixels)
    made = [
        _saved(rgba.convert(mode), kind, **options)
        for kind, modes, options in (
            ("PNG", ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"), {}),
            ("JPEG", ("L", "RGB", "CMYK"), {"exif": _exif()}),
            ("JPEG", ("RGB",), {"progressive": True, "icc_profile": bytes(200)}),
            ("TIFF", ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"), {}),
            ("TIFF", ("RGB", "L"), {"compression": "tiff_lzw"}),
            ("TIFF", ("RGB",), {"compression": "tiff_adobe_deflate"}),
            ("WEBP", ("RGB", "RGBA"), {}),
            ("WEBP", ("RGBA",), {"lossless": True}),
            ("GIF", ("L", "P"), {}),
            ("BMP", ("1", "L", "P", "RGB"), {}),
            ("PPM", ("1", "L", "RGB"), {}),
            ("JPEG2000", ("L", "RGB", "RGBA"), {}),
            ("QOI", ("RGB", "RGBA"), {}),
            ("AVIF", ("RGB", "RGBA"), {}),
        )
        for mode in modes
    ]
    kept = [path.read_bytes() for path in sorted(FILES.iterdir()) if path.is_file()]
    return [b"\0" + data for data in (*made, *kept) if len(data) < MAX_SEED]


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = "maker"
    return exif


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
