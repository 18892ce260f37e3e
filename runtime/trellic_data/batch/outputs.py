"""Writes results, each to its own file or to shards of tar or parquet, and finds earlier ones.

A result gets its name when it is complete, so that a killed actor leaves no partial one.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec

OWN = "_trellic"  # folder in a target for files that are not results
PARTS = f"{OWN}/parts"
_ROW_GROUP = 64 * 2**20  # bytes of results that a parquet shard holds in memory


@contextmanager
def whole(target: str, name: str) -> Iterator[IO[bytes]]:
    """Open a file of the target for writing; it takes its name when the block ends without error.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    files, root = fsspec.core.url_to_fs(target)
    path, part = (posixpath.join(root, one) for one in (name, f"{PARTS}/{uuid.uuid4().hex}"))
    for one in (path, part):
        files.makedirs(posixpath.dirname(one), exist_ok=True)
    try:
        with files.open(part, "wb") as file:
            yield file
        files.mv(part, path)
    except BaseException:
        if files.exists(part):
            files.rm(part)
        raise


def write_shard(target: str, name: str, results: Iterable[tuple[str, bytes]]) -> None:
    """Write results as one tar or parquet file.

    Parameters
    ----------
    target, name : where; the suffix of the name chooses
    results : names and bytes, which are taken one after the other

    Raises
    ------
    OSError
        When it cannot be written.
    """
    with whole(target, name) as file:
        if name.endswith(".tar"):
            _write_tar(file, results)
        else:
            _write_parquet(file, results)


def _write_tar(file: IO[bytes], results: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=file, mode="w|") as shard:
        for name, data in results:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))


def _write_parquet(file: IO[bytes], results: Iterable[tuple[str, bytes]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema({"name": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(file, schema, compression="none") as shard:
        for group in _groups(results):
            names, data = zip(*group, strict=True)
            shard.write_table(pa.table({"name": names, "image": data}, schema))


def _groups(results: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    group, held = list[tuple[str, bytes]](), 0
    for name, data in results:
        group.append((name, data))
        held += len(data)
        if held > _ROW_GROUP:
            yield group
            group, held = [], 0
    if group:
        yield group


def find_outputs(files: Any, root: str) -> list[str]:
    """List the results of a target, relative to it."""
    paths = (posixpath.relpath(path, root) for path in files.find(root))
    return sorted(path for path in paths if not path.startswith(OWN + "/"))


def names_in(files: Any, root: str, path: str) -> list[str]:
    """List the names of the results that a file of a target holds."""
    if path.endswith(".tar"):
        with (
            files.open(posixpath.join(root, path), "rb") as file,
            tarfile.open(fileobj=file) as tar,
        ):
            return tar.getnames()
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq

        with files.open(posixpath.join(root, path), "rb") as file:
            found: list[str] = pq.read_table(file, columns=["name"])["name"].to_pylist()
            return found
    return [path]
