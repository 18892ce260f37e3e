"""What an actor does: it loads a codec once, and codes one item after another."""

from __future__ import annotations

import posixpath
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import fsspec
import numpy as np

from trellic import images
from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL, DEFAULT_QUALITY, DEFAULT_TRELLIS
from trellic.errors import TrellicError
from trellic.pillow import SUFFIX
from trellic.support.bounds import limited
from trellic_data.batch.items import Item
from trellic_data.codecs import codec_for


@dataclass(frozen=True)
class Task:
    """What is done to every item.

    Attributes
    ----------
    kind : "encode" or "decode"
    target : folder of the results, local or of fsspec
    model, quality, trellis : of encoding
    decoder, format : of decoding; the format by its suffix, such as ".png"
    threads : of each codec
    """

    kind: str
    target: str
    model: str = DEFAULT_MODEL
    quality: float = DEFAULT_QUALITY
    trellis: int = DEFAULT_TRELLIS
    decoder: str = DEFAULT_DECODER
    format: str = ".png"
    threads: int = 1


def output_name(task: Task, name: str) -> str:
    """Return where in the target the result of an item is: the old suffix stays before the new."""
    return name + (SUFFIX if task.kind == "encode" else task.format)


class Worker:
    """Callable of Ray Data: batches of items to batches of results.

    Parameters
    ----------
    task : what is done
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        codec_for(task.model, threads=task.threads).warm_up(
            trellis=task.trellis if task.kind == "encode" else None,  # type: ignore[arg-type]
            decoder=None if task.kind == "encode" else task.decoder,
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Code the items of a batch."""
        rows = [self.one(Item(**item)) for item in batch["item"]]
        return {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]}

    def one(self, item: Item) -> dict[str, Any]:
        """Code an item, write its result, and say what became of it."""
        start, data, made = time.perf_counter(), b"", b""
        error = ""
        try:
            data = item.read()
            with limited("service"):
                made = self._code(data)
            write(self._task.target, output_name(self._task, item.name), made)
        except (TrellicError, OSError, MemoryError) as fault:
            error = f"{type(fault).__name__}: {' '.join(str(fault).split())}"
        return {
            "name": item.name,
            "bytes_in": len(data),
            "bytes_out": len(made),
            "seconds": round(time.perf_counter() - start, 4),
            "error": error,
        }

    def _code(self, data: bytes) -> bytes:
        task = self._task
        codec = codec_for(task.model, threads=task.threads)
        if task.kind == "encode":
            options: dict[str, Any] = {"quality": task.quality, "trellis": task.trellis}
            return codec.encode_picture(images.from_bytes(data), **options).data
        return images.to_bytes(codec.decode_picture(data, decoder=task.decoder), task.format)


def write(target: str, name: str, data: bytes) -> None:
    """Write a result so that it is whole or not there: a killed actor leaves none cut short.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    files, root = fsspec.core.url_to_fs(target)
    path = posixpath.join(root, name)
    files.makedirs(posixpath.dirname(path), exist_ok=True)
    part = f"{path}.{uuid.uuid4().hex}.part"
    files.pipe_file(part, data)
    files.mv(part, path)


def row_of(item: Item) -> dict[str, Any]:
    """Return an item as a row of Ray Data."""
    return {"item": asdict(item)}
