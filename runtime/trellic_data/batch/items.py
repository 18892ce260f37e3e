"""The items of a run: files of a folder, members of tar shards, rows of parquet files."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import fsspec

from trellic.errors import BadParameter

_SUFFIXES = {
    "encode": (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".avif", ".jp2"),
    "decode": (".tlc",),
}


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes
    ----------
    name : relative, with its suffix; unique within a run
    url : of the file that it is in
    begin, size : bytes of a tar's member; -1 for a whole file
    row_group, row : of a parquet file; -1 for none
    column : of bytes in a parquet file
    """

    name: str
    url: str
    begin: int = -1
    size: int = -1
    row_group: int = -1
    row: int = -1
    column: str = ""

    def read(self) -> bytes:
        """Read its bytes.

        Raises
        ------
        OSError
            When its file cannot be read.
        """
        if self.row_group >= 0:
            column = _rows(self.url, self.row_group, self.column)
            data: bytes = column[self.row].as_py()
            return data
        with fsspec.open(self.url, "rb") as file:
            if self.begin < 0:
                whole: bytes = file.read()
                return whole
            file.seek(self.begin)
            part: bytes = file.read(self.size)
            return part


def find(source: str, kind: str, column: str = "image") -> list[Item]:
    """List the items of a source, in order of their names.

    Parameters
    ----------
    source : folder, ``.tar`` file or ``.parquet`` file, local or an fsspec URL; a folder may also
        hold such files
    kind : "encode" or "decode", which chooses by suffix
    column : of parquet files: bytes, or structs with a field ``bytes`` as Hugging Face has them

    Raises
    ------
    BadParameter
        When there is nothing to do, or two items have one name.
    """
    files, root = fsspec.core.url_to_fs(source)
    paths = sorted(files.find(root)) if files.isdir(root) else [root]
    found: list[Item] = []
    for path in paths:
        name = posixpath.relpath(path, root) if path != root else posixpath.basename(path)
        url = files.unstrip_protocol(path)
        suffix = posixpath.splitext(name)[1].lower()
        if suffix == ".tar":
            found += _members(url, posixpath.splitext(name)[0], kind)
        elif suffix == ".parquet":
            found += _all_rows(url, posixpath.splitext(name)[0], kind, column)
        elif suffix in _SUFFIXES[kind]:
            found.append(Item(name, url))
    names = {item.name for item in found}
    if not found or len(names) < len(found):
        raise BadParameter(
            f"{len(found)} items with {len(names)} names to {kind} in {source!r}",
            expected="at least one, each with a different name",
        )
    return found


def _members(url: str, stem: str, kind: str) -> Iterator[Item]:
    with fsspec.open(url, "rb") as file, tarfile.open(fileobj=file, mode="r:") as shard:
        for member in shard:
            suffix = posixpath.splitext(member.name)[1].lower()
            if member.isfile() and _safe(member.name) and suffix in _SUFFIXES[kind]:
                yield Item(f"{stem}/{member.name}", url, member.offset_data, member.size)


def _all_rows(url: str, stem: str, kind: str, column: str) -> Iterator[Item]:
    import pyarrow.parquet as pq

    suffix = _SUFFIXES[kind][0]
    with fsspec.open(url, "rb") as file:
        table = pq.ParquetFile(file)
        if column not in table.schema_arrow.names:
            raise BadParameter(
                f"no column {column!r} in {posixpath.basename(url)}",
                expected=f"one of {', '.join(table.schema_arrow.names)}",
            )
        number = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            named = "name" in table.schema_arrow.names
            names = table.read_row_group(group, ["name"])[0].to_pylist() if named else [""] * rows
            for row, name in enumerate(names):
                good = isinstance(name, str) and name and _safe(name)
                name = f"{stem}/{name if good else f'{number:08}{suffix}'}"
                yield Item(name, url, row_group=group, row=row, column=column)
                number += 1


def _safe(name: str) -> bool:
    """Tell whether a name stays below the folder that it is joined to."""
    return not name.startswith("/") and ".." not in name.split("/")


@lru_cache(maxsize=2)
def _rows(url: str, group: int, column: str) -> Any:
    """Column of one row group; rows of it come one after another."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with fsspec.open(url, "rb") as file:
        found = pq.ParquetFile(file).read_row_group(group, columns=[column])[column]
    found = found.combine_chunks()
    return pc.struct_field(found, "bytes") if pa.types.is_struct(found.type) else found
