"""The ``.tlc`` container: header, segments, chunks and checks.

``docs/format.md`` is its specification. `write` makes a stream, and `read` reads it and checks
everything. `read_prefix` returns the parts of a broken stream that can be trusted, `read_slices`
the parts that a region needs, and `read_contents` where they lie.
"""

from trellic.bitstream.chunks import MAX_METADATA, Chunks
from trellic.bitstream.container import (
    Prefix,
    Stream,
    embedded_adapter,
    patches_of,
    read,
    read_header,
    read_prefix,
    read_slices,
    write,
)
from trellic.bitstream.contents import Contents, Span, read_contents
from trellic.bitstream.cut import CutStream, cut, pass_ends, whole_passes
from trellic.bitstream.header import Header
from trellic.bitstream.layering import Layering
from trellic.bitstream.patches import Patches

__all__ = [
    "MAX_METADATA",
    "Chunks",
    "Contents",
    "CutStream",
    "Header",
    "Layering",
    "Patches",
    "Prefix",
    "Span",
    "Stream",
    "cut",
    "embedded_adapter",
    "pass_ends",
    "patches_of",
    "read",
    "read_contents",
    "read_header",
    "read_prefix",
    "read_slices",
    "whole_passes",
    "write",
]
