"""Where built engines are kept: one folder for all that decides whether an engine may be used."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CACHE_VARIABLE = "TRELLIC_CACHE"
PACKAGES = ("trellic", "onnxruntime-gpu", "tensorrt", "numba-cuda")


def folder(stream_id: str, graph: bytes, shapes: object, precision: str, gpu: str) -> Path:
    """Return the folder of an engine, made if needed.

    Parameters
    ----------
    stream_id : of the bundle
    graph : bytes of the ONNX file
    shapes : the shapes it is built for, anything that JSON can hold
    precision : such as "exact" or "free"
    gpu : name and compute capability
    """
    facts = {
        "graph": hashlib.sha256(graph).hexdigest(),
        "shapes": shapes,
        "precision": precision,
        "gpu": gpu,
        "versions": {name: _version(name) for name in PACKAGES},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    path = root() / stream_id / key
    path.mkdir(parents=True, exist_ok=True)
    return path


def root() -> Path:
    """Return the folder of all engines; ``TRELLIC_CACHE`` names another."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "trellic" / "engines"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
