r"""Pictures in and out: files, Pillow images and arrays to a `Picture`, and back.

```
path -> read --------\                              /-> write -> path
PIL image -> from_any -> Picture (uint8, metadata) ---> to_pil -> PIL image
array -> from_any ---/                              \-> to_array -> array
```

Pixels stay in their own colour space: an ICC profile is carried along, never applied (except to
turn CMYK into RGB, which the codec needs, and by `to_srgb`). Pillow is imported only by the
functions that need it.
"""

from __future__ import annotations

from trellic.images.bands import check_bands, from_bands
from trellic.images.behind import colour_of, on_colour
from trellic.images.convert import to_srgb
from trellic.images.fill import fill_clear
from trellic.images.fit import Fit, resized
from trellic.images.modes import ImageLike, from_any, from_pil, several
from trellic.images.opening import from_bytes, read, readable, size_of
from trellic.images.picture import Picture, to_array
from trellic.images.saving import (
    check_format,
    prepare,
    same_format,
    suffixes,
    to_bytes,
    to_pil,
    write,
)
from trellic.images.sniff import describe

__all__ = [
    "Fit",
    "ImageLike",
    "Picture",
    "check_bands",
    "check_format",
    "colour_of",
    "describe",
    "fill_clear",
    "from_any",
    "from_bands",
    "from_bytes",
    "from_pil",
    "on_colour",
    "prepare",
    "read",
    "readable",
    "resized",
    "same_format",
    "several",
    "size_of",
    "suffixes",
    "to_array",
    "to_bytes",
    "to_pil",
    "to_srgb",
    "write",
]
