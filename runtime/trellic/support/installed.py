"""How this copy of Trellic was installed, and the command that installs an extra of it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlparse

TRAIN = ("training", "export")  # extras
_ROOT = Path(__file__).resolve().parents[3]  # of a clone


def install_command(extra: str) -> str:
    """Return the command that installs an extra: from the clone that runs, or from the index.

    Extras that train are installed with ``-e``, because weights to start from are only in a clone.
    """
    folder = clone()
    if folder is None:
        return f"pip install {shlex.quote(f'trellic[{extra}]')}"
    editable = "-e " if folder == _ROOT or extra in TRAIN else ""
    return f"pip install {editable}{shlex.quote(f'{folder}[{extra}]')}"


def clone() -> Path | None:
    """Return the folder that this copy runs from, or was installed from, if it is a clone."""
    if (_ROOT / "pyproject.toml").is_file():
        return _ROOT
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError, KeyError):
        text = importlib.metadata.distribution("trellic").read_text("direct_url.json") or "{}"
        url = urlparse(json.loads(text)["url"])
        folder = Path(unquote(url.path))
        if url.scheme == "file" and (folder / "pyproject.toml").is_file():
            return folder
    return None
