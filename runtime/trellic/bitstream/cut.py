"""Cutting a stream: a smaller file of the same picture, without decoding a latent.

Specification: ``docs/format.md``, section 6.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from dataclasses import dataclass, replace

from trellic.bitstream.container import assemble, read, read_prefix, read_segment, stored_of
from trellic.bitstream.contents import Contents, pack_header, read_contents, view_of
from trellic.bitstream.fields import CRC16_BYTES, CRC32_BYTES
from trellic.bitstream.header import Header
from trellic.bitstream.layering import Layering
from trellic.constants import MAX_SIDE
from trellic.errors import BadParameter, TrellicWarning, TruncatedStream
from trellic.support.numeric import is_whole


@dataclass(frozen=True)
class CutStream:
    """A stream that was cut.

    Attributes
    ----------
    data : bytes of a whole ``.tlc`` file
    passes : number of its passes
    before : number of passes of the file that it was cut from
    between : whether the requested length is inside a pass, of which nothing is kept
    """

    data: bytes
    passes: int
    before: int
    between: bool


def layering_of(header: Header) -> Layering:
    """Return the layering of a stream; without layers, each context step is a pass."""
    return header.layering or Layering(kept=header.steps)


def cut(
    data: bytes | memoryview,
    *,
    max_bytes: int | None = None,
    layers: int | None = None,
    passes: int | None = None,
) -> CutStream:
    """Cut a stream, which may itself end anywhere, to a part of its beginning.

    Parameters
    ----------
    data : bytes-like
    max_bytes : int, optional
        Bytes that the result may have.
    layers, passes : int, optional
        Number to keep, if there are so many. Fewer layers give a `TrellicWarning`.

    Raises
    ------
    BadParameter
        When nothing would be kept, or the stream is dithered, has a still lattice or no latents.
    StreamError
        When a part to keep is damaged or missing.
    """
    view = view_of(data)
    contents = read_contents(view)
    header = contents.header
    _check(header, max_bytes, layers, passes)
    layering = layering_of(header)
    wanted = header.passes if passes is None else min(passes, header.passes)
    if layers is not None:
        wanted = min(wanted, layering.passes(header.steps, layers))
        _warn_of_fewer(layers, 1 + layering.of(header.passes - 1, header.steps)[0])
    there = bisect_right(pass_ends(contents), len(view))
    sizes = _sizes(contents, layering, max(there, whole_passes(view)))
    fitting = [n for n in range(1, 1 + min(wanted, len(sizes))) if _fits(sizes[n - 1], max_bytes)]
    there = len(view) >= contents.size and _fits(len(view), max_bytes)
    whole = there and wanted == header.passes == len(sizes)
    if whole:
        read(view, MAX_SIDE**2)
        return CutStream(bytes(view), header.passes, header.passes, between=False)
    if not sizes:
        raise TruncatedStream(
            f"the stream ends after {len(view)} bytes, inside the first pass over the picture",
            expected=f"at least {contents.segment(header.slices).end} bytes",
        )
    if not fitting:
        raise BadParameter(
            f"a length of {max_bytes} bytes",
            expected=f"at least {sizes[0]}: {_least(contents)}",
        )
    kept = fitting[-1]
    segments = [bytes(read_segment(view, contents, i)) for i in range(1 + kept * header.slices)]
    shorter = replace(header, layering=layering.cut(kept))
    made = assemble(shorter, stored_of(view, contents), segments)
    between = kept < wanted and (max_bytes is None or len(made) < max_bytes)
    return CutStream(made, kept, header.passes, between)


def pass_ends(contents: Contents) -> list[int]:
    """Return the offsets after the first passes, each in every slice and with its checks.

    The last pass of a file of one slice has none: only the check of the file tells whether it is
    there.
    """
    header = contents.header
    checked = header.passes - (header.slices == 1)
    last = (header.segment_index(number, header.slices - 1) for number in range(checked))
    return [contents.segment(index).end + CRC16_BYTES for index in last]


def whole_passes(data: bytes | memoryview) -> int:
    """Count the first passes that are complete in every slice and can be trusted.

    Parameters
    ----------
    data : bytes-like
        A stream, or as much of its beginning as there is, from its head on.

    Raises
    ------
    StreamError
        When the head is incomplete or damaged.
    """
    prefix = read_prefix(data, MAX_SIDE**2)
    slices = prefix.header.slices
    rows = [
        prefix.segments[1 + n * slices : 1 + (n + 1) * slices] for n in range(prefix.header.passes)
    ]
    return next((n for n, row in enumerate(rows) if None in row), len(rows))


def lengths_of(data: bytes | memoryview) -> list[int]:
    """Bytes of the file that is left after each pass, if it were cut there."""
    contents = read_contents(data)
    sizes = _sizes(contents, layering_of(contents.header), contents.header.passes)
    return [*sizes[:-1], len(view_of(data))]


def _check(header: Header, max_bytes: int | None, layers: int | None, passes: int | None) -> None:
    if not header.cuttable:
        kind = "a stream with a still lattice" if header.dither is None else "a dithered stream"
        kind = "a stream of patches alone" if header.bare else kind
        raise BadParameter(kind, expected="an ordinary one, to be cut")
    for name, value in (("max_bytes", max_bytes), ("layers", layers), ("passes", passes)):
        if value is not None and not (is_whole(value) and value >= 1):
            raise BadParameter(f"{name} {value!r}", expected="a whole number, at least 1")


def _warn_of_fewer(layers: int, there: int) -> None:
    if layers > there:
        warnings.warn(
            f"the file has {there} layer{'s' * (there > 1)}, not {layers}",
            TrellicWarning,
            stacklevel=3,
        )


def _least(contents: Contents) -> str:
    """Name what the shortest part of a file has; patches cannot be cut."""
    parts = ["the header", "the hyper-latents", *contents.chunks]
    return f"{', '.join(parts)} and one pass"


def _fits(size: int, limit: int | None) -> bool:
    return limit is None or size <= limit


def _sizes(contents: Contents, layering: Layering, passes: int) -> list[int]:
    """Bytes of the file with 1, 2, ... of its passes."""
    header, slices = contents.header, contents.header.slices
    lengths = contents.lengths.tolist()
    stored = {name: span.length for name, span in contents.chunks.items()}
    beside = sum(length + CRC16_BYTES for length in stored.values()) + CRC16_BYTES + CRC32_BYTES
    out = []
    for kept in range(1, 1 + passes):
        shorter = replace(header, layering=layering.cut(kept))
        own = lengths[: 1 + kept * slices]
        checks = len(own) - 1 - (slices == 1)
        head = len(pack_header(shorter, stored, own))
        out.append(head + sum(own) + CRC16_BYTES * checks + beside)
    return out
