"""A run: items through Ray Data's actors, each noted in the manifest when it is done."""

from __future__ import annotations

import json
import math
import posixpath
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import fsspec
import ray

from trellic.errors import BadParameter
from trellic_data.batch.items import Item
from trellic_data.batch.work import Task, Worker, row_of

MANIFEST = "_trellic/manifest.jsonl"
REPORT = "_trellic/report.json"
BAD = "_trellic/bad.jsonl"
_FLUSH = 1.0  # seconds between writes of the manifest, where files cannot be appended to


@dataclass
class Report:
    """What became of the items of a run.

    Attributes
    ----------
    items : listed
    before : done by earlier runs
    done, failed : by this run
    bytes_in, bytes_out : of those that this run did
    seconds : of this run
    """

    items: int
    before: int = 0
    done: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    actors: int = 0
    bad: list[dict[str, str]] = field(default_factory=list)


class Manifest:
    """Names that are done, in a file of the target that a later run reads.

    Parameters
    ----------
    task : whose settings the manifest begins with

    Raises
    ------
    BadParameter
        When the target has results of other settings.
    """

    def __init__(self, task: Task) -> None:
        self._files, root = fsspec.core.url_to_fs(task.target)
        self._path, self._lines = posixpath.join(root, MANIFEST), list[str]()
        self._flushed = 0.0
        head = json.dumps(asdict(task) | {"target": "", "threads": 0}, sort_keys=True)
        self.done: set[str] = set()
        if self._files.exists(self._path):
            first, *rest = self._files.cat_file(self._path).decode().splitlines() or [""]
            if first != head:
                raise BadParameter(
                    "a target with results of other settings", remedy="choose another folder"
                )
            self._lines = [first, *(line for line in rest if line.endswith("}"))]
            self.done = {json.loads(line)["name"] for line in self._lines[1:]}
        else:
            self._lines = [head]
        self.flush()

    def add(self, row: dict[str, Any]) -> None:
        """Note an item that is done."""
        self.done.add(row["name"])
        self._lines.append(json.dumps({"name": row["name"], "bytes": row["bytes_out"]}))
        if time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write it: whole beside the old one, then in its place."""
        self._files.makedirs(posixpath.dirname(self._path), exist_ok=True)
        self._files.pipe_file(self._path + ".part", ("\n".join(self._lines) + "\n").encode())
        self._files.mv(self._path + ".part", self._path)
        self._flushed = time.monotonic()


def run(
    items: Sequence[Item],
    task: Task,
    *,
    actors: int,
    batch: int = 0,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Code items that are not done yet.

    An actor that dies is started anew and its batch is done again; results are the same bytes and
    take the place of what was there, so that nothing is lost and nothing is there twice.

    Parameters
    ----------
    items : from `trellic_data.batch.items.find`
    task : what is done
    actors : that work at once
    batch : items that an actor gets at once, 0 for a few
    progress : is told of each item that is done

    Raises
    ------
    BadParameter
        When the target has results of other settings.
    """
    manifest = Manifest(task)
    left = [item for item in items if item.name not in manifest.done]
    report = Report(len(items), len(items) - len(left), actors=actors)
    start = time.monotonic()
    try:
        for row in _results(left, task, actors, batch) if left else ():
            report.seconds = round(time.monotonic() - start, 3)
            if row["error"]:
                report.failed += 1
                report.bad.append({"name": row["name"], "error": row["error"]})
            else:
                report.done += 1
                report.bytes_in += int(row["bytes_in"])
                report.bytes_out += int(row["bytes_out"])
                manifest.add(row)
            progress(report)
    finally:
        manifest.flush()
        _write_report(task, report)
    return report


def _results(items: list[Item], task: Task, actors: int, batch: int) -> Iterator[dict[str, Any]]:
    """Yield what became of each item, once; Ray Data starts actors anew that die."""
    size = batch or max(1, min(16, math.ceil(len(items) / (4 * actors))))
    blocks = max(1, math.ceil(len(items) / size))
    data = ray.data.from_items([row_of(item) for item in items], override_num_blocks=blocks)
    done = data.map_batches(
        Worker,
        fn_constructor_args=(task,),
        batch_size=size,
        concurrency=actors,
        num_cpus=max(1, task.threads),
    )
    seen: set[str] = set()
    for row in done.iter_rows():
        if row["name"] not in seen:
            seen.add(row["name"])
            yield row


def _write_report(task: Task, report: Report) -> None:
    files, root = fsspec.core.url_to_fs(task.target)
    bad = "".join(json.dumps(one) + "\n" for one in report.bad)
    files.pipe_file(posixpath.join(root, BAD), bad.encode())
    text = json.dumps(asdict(report), indent=1) + "\n"
    files.pipe_file(posixpath.join(root, REPORT), text.encode())
