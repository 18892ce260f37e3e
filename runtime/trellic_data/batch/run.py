"""A run: items through Ray Data's actors, each noted in the manifest when it is done."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import ray
from ray.data import ActorPoolStrategy, DataContext

from trellic.errors import BadParameter
from trellic_data.batch.items import Item
from trellic_data.batch.manifest import Manifest
from trellic_data.batch.outputs import OWN, whole
from trellic_data.batch.work import Row, Task, Worker, row_of

REPORT = f"{OWN}/report.json"
BAD = f"{OWN}/bad.jsonl"
_TRIES = 3  # more tries of a batch whose actor ended
_BATCH = {"files": 16, "tar": 1000, "parquet": 1000}  # items, at most, unless the user says


@dataclass
class Report:
    """Result of a run.

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

    def add(self, row: Row) -> None:
        """Count an item."""
        if row["error"]:
            self.failed += 1
            self.bad.append({"name": row["name"], "error": row["error"]})
            return
        self.done += 1
        self.bytes_in += int(row["bytes_in"])
        self.bytes_out += int(row["bytes_out"])


def run(
    items: Sequence[Item],
    task: Task,
    *,
    actors: int,
    batch: int = 0,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Code items that are not done yet.

    If an actor dies, it is started again, and so is its batch. Results replace earlier ones, so
    nothing is lost and nothing exists twice. Only one run at a time may write to a target.

    Parameters
    ----------
    items : from `trellic_data.batch.items.find`
    task : what is done
    actors : number of actors that work at once
    batch : items that an actor gets at once, and items of a shard; 0 for a few
    progress : called for each item that is done

    Raises
    ------
    BadParameter
        When the target has results of other settings, or Ray cannot run the actors.
    """
    manifest = Manifest(task, items)
    left = [item for item in items if item.name not in manifest.done]
    report = Report(len(items), len(items) - len(left), actors=actors)
    start = time.monotonic()
    try:
        for row in _results(left, task, actors, batch) if left else ():
            report.seconds = round(time.monotonic() - start, 3)
            report.add(row)
            if not row["error"]:
                manifest.add(row["name"], int(row["bytes_out"]), row["file"])
            progress(report)
    except ray.exceptions.RayError as error:
        raise BadParameter(
            f"a run that Ray ended: {' '.join(str(error).split())[:400]}",
            remedy="see that model and packages are on every machine, then run it again",
        ) from error
    finally:
        manifest.flush()
        _write_report(task, report)
    return report


def _results(items: list[Item], task: Task, actors: int, batch: int) -> Iterator[Row]:
    """Yield the result of each item, once."""
    size = batch or max(1, min(_BATCH[task.into], math.ceil(len(items) / (4 * actors))))
    batches = [items[begin : begin + size] for begin in range(0, len(items), size)]
    DataContext.get_current().max_errored_blocks = -1  # they are reported below
    data = ray.data.from_items([row_of(part) for part in batches], override_num_blocks=len(batches))
    done = data.flat_map(
        Worker,
        fn_constructor_args=(task,),
        compute=ActorPoolStrategy(size=actors),
        num_cpus=_share(actors, task.threads),
        max_task_retries=_TRIES,
    )
    seen: set[str] = set()
    for row in done.iter_rows():
        if row["name"] not in seen:
            seen.add(row["name"])
            yield row
    reason = f"its actor ended {_TRIES + 1} times in this batch, or the worker failed"
    for item in items:
        if item.name not in seen:
            yield {"name": item.name, "error": f"{reason}; try --batch-size 1"}


def _share(actors: int, threads: int) -> float:
    """CPUs that an actor asks Ray for: one for each thread, but not more than there are."""
    cpus = float(ray.cluster_resources().get("CPU", 1.0))
    share = min(float(threads), cpus / actors)
    return share if share < 1 else math.floor(share)


def _write_report(task: Task, report: Report) -> None:
    bad = "".join(json.dumps(one) + "\n" for one in report.bad)
    for name, text in ((BAD, bad), (REPORT, json.dumps(asdict(report), indent=1) + "\n")):
        with whole(task.target, name) as file:
            file.write(text.encode())
