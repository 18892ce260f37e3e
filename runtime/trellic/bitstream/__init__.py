"""The ``.tlc`` container: header, segments, chunks and checks.

``docs/format.md`` is its specification. A stream is made with `write`; `read` gives it back and
checks everything, `read_prefix` gives what can be trusted of a broken one, `read_slices` what a
region needs, `read_layout` says which bytes those are.
"""

from .chunks import MAX_METADATA, Chunks
from .container import (
    Prefix,
    Stream,
    read,
    read_header,
    read_prefix,
    read_slices,
    write,
)
from .header import (
    BLOCK,
    DEFAULT_SLICE_SIDE,
    Header,
    slice_grid,
)
from .layout import Layout, Span, read_layout
from .rectangle import Rectangle

__all__ = [
    "BLOCK",
    "DEFAULT_SLICE_SIDE",
    "MAX_METADATA",
    "Chunks",
    "Header",
    "Layout",
    "Prefix",
    "Rectangle",
    "Span",
    "Stream",
    "read",
    "read_header",
    "read_layout",
    "read_prefix",
    "read_slices",
    "slice_grid",
    "write",
]
