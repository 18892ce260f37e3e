"""A report that is written as it grows, so that what was measured is there whatever comes next."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Report:
    """Sections of rows in a JSON file, written anew after each row.

    Parameters
    ----------
    path
        The file, None for none.
    head
        What stands before the sections: machine, versions.
    """

    def __init__(self, path: Path | None, head: dict[str, Any]) -> None:
        self.path, self.content = path, dict(head)
        self.write()

    def rows(self, section: str) -> list[dict[str, Any]]:
        """Return the rows of a section that were measured, without those that failed."""
        return [row for row in self.content.get(section, []) if "error" not in row]

    def add(self, section: str, row: dict[str, Any]) -> None:
        """Add a row to a section."""
        self.content.setdefault(section, []).append(row)
        self.write()

    def measure(
        self, section: str, setting: dict[str, Any], work: Callable[[], dict[str, Any]]
    ) -> None:
        """Add what a measurement gives, after its setting; what it raises is a row too."""
        try:
            row = setting | work()
        except Exception as error:
            traceback.print_exc()
            row = setting | {"error": f"{type(error).__name__}: {error}"}
        self.add(section, row)

    def write(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.path)
