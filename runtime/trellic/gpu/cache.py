"""Folders of built engines, one for each set of facts that decide whether an engine fits."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trellic.errors import EngineError
from trellic.support import cache

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
    """Return the private folder of all engines (see `trellic.support.cache`).

    Raises
    ------
    EngineError
        When there is none. The folder must be private, because an engine is code.
    """
    found = cache.folder("engines")
    if found is None:
        raise EngineError(
            f"there is no private folder to keep engines in ({cache.missing('engines')})",
            remedy=f"name one with {cache.VARIABLE}",
        )
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
