"""Adapters that are installed: files beside bundles, in the same folders."""

from __future__ import annotations

import contextlib
import os
import warnings
from functools import lru_cache
from pathlib import Path

from trellic import bitstream
from trellic.bitstream import Header
from trellic.errors import BadAdapter, CorruptStream, StreamError, TrellicWarning, UnknownAdapter
from trellic.limits import MAX_ADAPTER
from trellic.model import bundle
from trellic.model.adapter import SUFFIX, Adapter, parse
from trellic.model.manifest import Manifest
from trellic.support.names import text_of


def read(path: Path) -> Adapter:
    """Read an adapter's file.

    Raises
    ------
    BadAdapter
        When it cannot be read, or is not an adapter.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ADAPTER + 1)
    except OSError as error:
        raise BadAdapter(f"cannot read adapter {path} ({error.strerror})") from error
    return parse(data, f"adapter {path}")


def installed() -> list[tuple[Path, Adapter]]:
    """All installed adapters, in the order of their folders.

    Files that are damaged or cannot be read are left out.
    """
    found = []
    for folder in bundle.folders():
        paths: list[Path] = []
        with contextlib.suppress(OSError):  # such as a home of somebody else
            paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
        for path in paths:
            with contextlib.suppress(BadAdapter, OSError):
                if path.is_file():  # not a pipe
                    found.append((path, _unchanged(path, _state(path.stat()))))
    return found


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=64)
def _unchanged(path: Path, _state_of_file: tuple[int, int, int]) -> Adapter:
    """Read an adapter once until its file changes; each stream that names one needs all."""
    return read(path)


def find(adapter: str | os.PathLike[str], manifest: Manifest) -> Adapter:
    """Return an adapter of a model, by its name or the path of its file.

    Raises
    ------
    UnknownAdapter
        When the model has no adapter of that name.
    BadAdapter
        When the file is not an adapter.
    BadParameter
        When it is neither a name nor a path.
    """
    name = text_of(adapter, "adapter")
    if name.endswith(SUFFIX) or "/" in name or os.sep in name:
        return read(Path(name))
    known = [one for _, one in installed()]
    own = [one for one in known if one.stream_id == manifest.stream_id]
    for one in own:
        if one.name == name:
            return one
    others = [one.stream_id for one in known if one.name == name]
    raise UnknownAdapter(
        f"no adapter {name!r} of model {manifest.name!r}"
        + (f" (there is one of the model with stream id {others[0]})" if others else ""),
        remedy=f"it has: {', '.join(sorted({one.name for one in own})) or 'none'}; "
        "add one with: trellic models add PATH",
    )


def of_stream(data: bytes | memoryview, header: Header, *, best_effort: bool) -> Adapter | None:
    """Return the adapter that a stream names: an installed one, or the one that it holds.

    If there is neither, a `TrellicWarning` says so.

    Parameters
    ----------
    data : bytes of the stream
    header : its header
    best_effort : ignore a damaged adapter in the stream

    Raises
    ------
    StreamError
        When the adapter in the stream is damaged.
    """
    if header.adapter is None:
        return None
    found = find_id(header.adapter, header.stream_id.hex())
    if found is not None:
        return found
    try:
        held = bitstream.embedded_adapter(data)
        if held is not None:
            return parse(held, "the adapter chunk")
    except (StreamError, BadAdapter) as error:
        if not best_effort:
            raise CorruptStream(error.seen, expected=error.expected) from error
    do_without(f"adapter {header.adapter.hex()}, which is not installed")
    return None


def do_without(adapter: str) -> None:
    """Warn that a picture is shown without its adapter."""
    warnings.warn(
        f"the picture was encoded with {adapter}: it is shown without, and a little worse;"
        " get it and run: trellic models add PATH",
        TrellicWarning,
        stacklevel=2,
    )


def find_id(wanted: bytes, stream_id: str) -> Adapter | None:
    """Return the installed adapter of an id and of a model's streams; None if there is none."""
    known = (one for _, one in installed())
    return next((one for one in known if (one.id, one.stream_id) == (wanted, stream_id)), None)
