"""The items of a target that are done: a file lists them, and newer results are found."""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import fsspec

from trellic.errors import BadParameter
from trellic_data.batch.items import Item
from trellic_data.batch.outputs import OWN, PARTS, find_outputs, names_in, whole
from trellic_data.batch.work import Task, output_name

MANIFEST = f"{OWN}/manifest.jsonl"
_FLUSH = 1.0  # seconds between writes, at least
_SHARE = 20  # the pause between two writes, relative to the time of a write


class Manifest:
    """Items that are done. A later run reads it and continues.

    The whole file is written each time, so a run that is killed leaves the state of some seconds
    before. Items done after that are found by their results.

    Parameters
    ----------
    task : whose settings the manifest begins with
    items : of this run

    Attributes
    ----------
    done : names

    Raises
    ------
    BadParameter
        When the target has results of other settings, or its manifest is damaged.
    """

    def __init__(self, task: Task, items: Sequence[Item]) -> None:
        self._task, self._next = task, 0.0
        head = json.dumps(asdict(task) | {"target": "", "threads": 0}, sort_keys=True)
        self.done: set[str] = set()
        self._lines = [head]
        files, root = fsspec.core.url_to_fs(task.target)
        path = posixpath.join(root, MANIFEST)
        if files.exists(path):
            self._read(files.cat_file(path).decode("utf-8", "replace").splitlines())
            if files.exists(parts := posixpath.join(root, PARTS)):
                files.rm(parts, recursive=True)
            self._adopt(files, root, items)
        self.flush()

    def add(self, name: str, size: int, file: str) -> None:
        """Note an item that is done.

        Parameters
        ----------
        name : of the item
        size : bytes of its result, -1 if that is not known
        file : of the target that holds the result
        """
        self.done.add(name)
        self._lines.append(json.dumps({"name": name, "bytes": size, "file": file}))
        if time.monotonic() > self._next:
            self.flush()

    def flush(self) -> None:
        """Write it."""
        start = time.monotonic()
        with whole(self._task.target, MANIFEST) as file:
            file.write(("\n".join(self._lines) + "\n").encode())
        end = time.monotonic()
        self._next = end + max(_FLUSH, _SHARE * (end - start))

    def _read(self, lines: list[str]) -> None:
        if lines[:1] != self._lines:
            raise BadParameter(
                "a target with results of other settings", remedy="choose another folder"
            )
        try:
            rows = [json.loads(line) for line in lines[1:]]
            self.done = {row["name"] for row in rows}
            self._files = {row["file"] for row in rows}
        except (ValueError, LookupError, TypeError):
            raise BadParameter(
                f"a damaged {MANIFEST} in the target", remedy="remove it, or choose another folder"
            ) from None
        self._lines = lines

    def _adopt(self, files: Any, root: str, items: Sequence[Item]) -> None:
        """Note the items that were done in the last moments before a kill."""
        names = {output_name(self._task, item.name): item.name for item in items}
        for path in find_outputs(files, root):
            if path not in self._files:
                for result in names_in(files, root, path):
                    if result in names:
                        self.add(names[result], -1, path)
