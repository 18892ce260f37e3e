"""How this copy of Trellic was installed, and so how an extra of it is."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlparse

_ROOT = Path(__file__).resolve().parents[3]  # of a clone


def install_command(extra: str) -> str:
    """Return the command that installs an extra: from the clone that runs, or from the index."""
    clone = _clone()
    target = f"trellic[{extra}]" if clone is None else f"{clone}[{extra}]"
    editable = "-e " if clone == _ROOT else ""
    return f"pip install {editable}{shlex.quote(target)}"


def _clone() -> Path | None:
    """Folder of the sources that this copy runs from, or was installed from, if it is there."""
    if (_ROOT / "pyproject.toml").is_file():
        return _ROOT
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError, KeyError):
        text = importlib.metadata.distribution("trellic").read_text("direct_url.json") or "{}"
        url = urlparse(json.loads(text)["url"])
        folder = Path(unquote(url.path))
        if url.scheme == "file" and (folder / "pyproject.toml").is_file():
            return folder
    return None
