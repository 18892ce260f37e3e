"""What tests of typed figures share: results, and facts that a page must state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import readme


def result(name: str) -> Any:
    return json.loads((readme.RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def not_stated(page: str, facts: Iterable[str]) -> list[str]:
    """Return the facts that a page does not state, wherever its lines are broken."""
    text = " ".join((readme.ROOT / page).read_text(encoding="utf-8").split())
    return [fact for fact in facts if fact not in text]


def name_of(value: str | Callable[[], list[str]]) -> str:
    return getattr(value, "__name__", str(value))
