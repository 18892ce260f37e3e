"""Nothing leaves the machine: turns off the telemetry of packages that Trellic uses.

Onnxruntime from 1.29 on writes a device id and a queue of events into the user's cache folder, and
looks up its maker's host. OpenVINO's companion ``openvino_telemetry`` does so on import.
Onnxruntime reads a variable when it is loaded, so `silence` runs when ``trellic`` is imported,
before Trellic can load onnxruntime.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1"}


def silence() -> None:
    """Set the variables that turn telemetry off, for this process and its children."""
    os.environ.update(VARIABLES)


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Make modules that are not loaded yet look as if they were not installed, inside the block."""
    names = tuple(name for name in names if name not in sys.modules)
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: "not to be found"
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
