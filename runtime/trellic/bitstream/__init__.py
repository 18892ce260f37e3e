"""The ``.tlc`` container: header, segments, chunks and checks.

``docs/format.md`` is its specification. A stream is made with `write`; `read` gives it back and
checks everything, `read_prefix` gives what can be trusted of a broken one, `read_layout` says
which bytes a region needs.
"""

from .chunks import MAX_METADATA, Chunks
from .container import DEFAULT_MAX_PIXELS, Prefix, Stream, read, read_header, read_prefix, write
from .header import DEFAULT_SLICE_SIDE, MAX_LANES, TRELLIS_STATES, Header, Rectangle, slice_grid
from .layout import Layout, Span, read_layout

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "DEFAULT_SLICE_SIDE",
    "MAX_LANES",
    "MAX_METADATA",
    "TRELLIS_STATES",
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
    "slice_grid",
    "write",
]
