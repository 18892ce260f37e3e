"""Nothing leaves the machine: what the packages below us would tell their makers is off.

onnxruntime from 1.29 on writes a device id and a queue of events into the user's cache folder and
looks its maker's host up; OpenVINO's companion ``openvino_telemetry`` does so on import. The first
reads a variable when it is loaded, so `silence` runs when ``trellic`` is imported, before anything
of ours can load it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1"}


def silence() -> None:
    """Set, for this process and its children, the variables that packages take for a no."""
    os.environ.update(VARIABLES)


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Make modules that are not loaded yet look as if they were not installed, for a while."""
    names = tuple(name for name in names if name not in sys.modules)
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: "not to be found"
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
