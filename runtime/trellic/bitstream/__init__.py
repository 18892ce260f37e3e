"""The ``.tlc`` container: header, segments, chunks and checks.

``docs/format.md`` is its specification. A stream is made with `write`; `read` gives it back and
checks everything, `read_prefix` gives what can be trusted of a broken one, `read_slices` what a
region needs, `read_contents` says which bytes those are.
"""

from trellic.bitstream.chunks import MAX_METADATA, Chunks
from trellic.bitstream.container import (
    Prefix,
    Stream,
    embedded_adapter,
    read,
    read_header,
    read_prefix,
    read_slices,
    write,
)
from trellic.bitstream.contents import Contents, Span, read_contents
from trellic.bitstream.cut import CutStream, cut, whole_passes
from trellic.bitstream.header import Header
from trellic.bitstream.layering import Layering

__all__ = [
    "MAX_METADATA",
    "Chunks",
    "Contents",
    "CutStream",
    "Header",
    "Layering",
    "Prefix",
    "Span",
    "Stream",
    "cut",
    "embedded_adapter",
    "read",
    "read_contents",
    "read_header",
    "read_prefix",
    "read_slices",
    "whole_passes",
    "write",
]
