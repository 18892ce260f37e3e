"""The work of an actor: it loads a codec once, and codes one item after another."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

from trellic import images
from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_MODEL,
    DEFAULT_PATCHES,
    DEFAULT_QUALITY,
    DEFAULT_TRELLIS,
    Patching,
)
from trellic.pillow import SUFFIX
from trellic.support.bounds import limited
from trellic_data.batch.items import Item
from trellic_data.batch.outputs import whole, write_shard
from trellic_data.codecs import codec_for

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """The work to do on every item.

    Attributes
    ----------
    kind : "encode" or "decode"
    target : folder of the results, local or of fsspec
    model, quality, trellis, patches : of encoding
    decoder, format : of decoding; the format by its suffix, such as ".png"
    threads : of each codec
    into : a file for each result, or a shard for the results of each batch
    """

    kind: str
    target: str
    model: str = DEFAULT_MODEL
    quality: float = DEFAULT_QUALITY
    trellis: int = DEFAULT_TRELLIS
    decoder: str = DEFAULT_DECODER
    format: str = ".png"
    threads: int = 1
    into: Literal["files", "tar", "parquet"] = "files"
    patches: Patching = DEFAULT_PATCHES


def output_name(task: Task, name: str) -> str:
    """Return the name of an item's result: the old suffix stays before the new."""
    return name + (SUFFIX if task.kind == "encode" else task.format)


class Worker:
    """Callable of Ray Data, from rows of items to rows of results.

    Parameters
    ----------
    task : the work to do
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._codec = codec_for(task.model, threads=task.threads)
        self._codec.warm_up(
            trellis=task.trellis if task.kind == "encode" else None,  # type: ignore[arg-type]
            decoder=None if task.kind == "encode" else task.decoder,
        )

    def __call__(self, row: Row) -> list[Row]:
        """Code the items of a row."""
        items = [Item(**item) for item in row["items"]]
        if self._task.into == "files":
            return [self.one(item) for item in items]
        return self.shard(items)

    def one(self, item: Item) -> Row:
        """Code an item, write its result, and return the row about it."""
        row, made = self._made(item)
        try:
            if not row["error"]:
                with whole(self._task.target, row["file"]) as file:
                    file.write(made)
        except OSError as fault:
            row["error"] = _reason(fault)
        return row

    def shard(self, items: Sequence[Item]) -> list[Row]:
        """Code items and write their results as one file, whose name follows from theirs."""
        digest = hashlib.sha256("\n".join(item.name for item in items).encode())
        name = f"{digest.hexdigest()[:16]}.{self._task.into}"
        rows: list[Row] = []

        def results() -> Iterator[tuple[str, bytes]]:
            for item in items:
                row, made = self._made(item)
                rows.append(row)
                if not row["error"]:
                    result, row["file"] = row["file"], name
                    yield result, made

        made = results()
        try:
            for first in made:  # without a result there is no file
                write_shard(self._task.target, name, chain([first], made))
        except OSError as fault:
            done = {row["name"]: row for row in rows}
            rows = [_row(item) | done.get(item.name, {}) for item in items]
            for row in rows:
                row["error"] = row["error"] or _reason(fault)
        return rows

    def _made(self, item: Item) -> tuple[Row, bytes]:
        """Code an item; an error in it does not stop the other items."""
        start, made = time.perf_counter(), b""
        row = _row(item) | {"file": output_name(self._task, item.name)}
        try:
            data = item.read()
            row["bytes_in"] = len(data)
            with limited("service"):
                made = self._code(data)
        except Exception as fault:
            row["error"] = _reason(fault)
        row["bytes_out"] = len(made)
        row["seconds"] = round(time.perf_counter() - start, 4)
        return row, made

    def _code(self, data: bytes) -> bytes:
        task = self._task
        if task.kind == "encode":
            options: dict[str, Any] = {"quality": task.quality, "trellis": task.trellis}
            options["patches"] = task.patches
            return self._codec.encode_picture(images.from_bytes(data), **options).data
        return images.to_bytes(self._codec.decode_picture(data, decoder=task.decoder), task.format)


def _row(item: Item) -> Row:
    numbers = {"bytes_in": 0, "bytes_out": 0, "seconds": 0.0}
    return {"name": item.name, "file": "", **numbers, "error": ""}


def _reason(fault: Exception) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}"


def row_of(items: Sequence[Item]) -> Row:
    """Return items as a row of Ray Data, which goes to one actor."""
    return {"items": [asdict(item) for item in items]}
