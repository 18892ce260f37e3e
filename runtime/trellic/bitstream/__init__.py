"""The ``.tlc`` container: header, segments, chunks and checks.

``docs/format.md`` is its specification. A stream is made with `write`; `read` gives it back and
checks everything, `read_prefix` gives what can be trusted of a broken one, `read_slices` what a
region needs, `read_contents` says which bytes those are.
"""

from trellic.bitstream.chunks import MAX_METADATA, Chunks
from trellic.bitstream.container import (
    Prefix,
    Stream,
    read,
    read_header,
    read_prefix,
    read_slices,
    write,
)
from trellic.bitstream.contents import Contents, Span, read_contents
from trellic.bitstream.header import Header

__all__ = [
    "MAX_METADATA",
    "Chunks",
    "Contents",
    "Header",
    "Prefix",
    "Span",
    "Stream",
    "read",
    "read_contents",
    "read_header",
    "read_prefix",
    "read_slices",
    "write",
]
