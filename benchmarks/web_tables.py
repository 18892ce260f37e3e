"""Tables of what ``python -m benchmarks.web`` and ``tests/web/fuzz.mjs`` measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final


def web_bytes(results: Path) -> str:
    """Bytes of a first visit, by file."""
    visit = _load(results, "web.json")["cold"][-1]
    lines = [f"| `{path.lstrip('/')}` | {size:,} |" for path, size in visit["largest"].items()]
    rest = visit["bytes"] - sum(visit["largest"].values())
    lines += [f"| other scripts, `kernels.wasm` | {rest:,} |", f"| all | {visit['bytes']:,} |"]
    return _table("| sent for the first picture, by gzip | bytes |", 1, lines)


def web_times(results: Path) -> str:
    """Times of first visits and of decodes, with the processor's."""
    run = _load(results, "web.json")
    cold = run["cold"]
    lines = [
        f"| decode with `{row['decoder']}`, all loaded | {row['processor_ms']} ms | "
        f"{row['median_ms']} ms |"
        for row in run["warm"]
        if not row["isolated"]
    ]
    used = _range(row["processor_ms"] for row in cold)
    lines += [
        f"| preview on a page that was never visited | | {_range(r['preview_ms'] for r in cold)} |",
        f"| picture on a page that was never visited | {used} | "
        f"{_range(r['picture_ms'] for r in cold)} |",
    ]
    lines += [
        f"| longest task of the page's own thread, {row['images']} images | | "
        f"{row['longest_ms']} ms; {row['tasks_over_50_ms']} over 50 ms |"
        for row in run["busy"]
    ]
    head = f"At a load of {run['load']:.0f} on its core, Chromium {run['chromium']}:\n\n"
    return head + _table("| | processor time | wall time |", 2, lines)


def web_fuzz(results: Path) -> str:
    """What became of changed streams."""
    runs, counts = _load(results, "web_fuzz.json")["runs"], Counter[str]()
    for run in runs:
        counts.update(run["counts"])
    lines = [f"| {what} | {count:,} |" for what, count in counts.most_common()]
    minutes = sum(run["minutes"] for run in runs)
    lines.append(f"| all, in {minutes:.0f} minutes | {counts.total():,} |")
    return _table("| what became of a changed stream | streams |", 1, lines)


def _range(values: Any) -> str:
    some = sorted(values)
    return f"{some[0]} to {some[-1]} ms"


def _table(head: str, numbers: int, lines: list[str]) -> str:
    return "\n".join([head, "|---|" + "---:|" * numbers, *lines])


def _load(results: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((results / name).read_text(encoding="utf-8"))
    return loaded


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "web-bytes": web_bytes,
    "web-times": web_times,
    "web-fuzz": web_fuzz,
}
