"""Engines of TensorRT in a file that ships: one machine builds, others of its kind load.

``photo.engines`` beside ``photo.zip`` is loaded by that name. An engine is code for one GPU and one
version of TensorRT. A file that was made for others, or from another bundle, is refused. A file
that other users can write to is refused too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

from trellic.errors import EngineError
from trellic.gpu.device import Device, gpu_name
from trellic.gpu.tensorrt import Target, check_target, graph_of, library, plan_of
from trellic.gpu.tensorrt_engine import TensorRtEngine
from trellic.model.bundle import Bundle
from trellic.support.files import write_atomically

SUFFIX: Final = ".engines"
FACTS: Final = "engines.json"
LARGEST: Final = 1 << 31  # bytes of one engine
PRECISIONS: Final = ("fp32", "fp16")


def write_engines(bundle: Bundle, out: Path, target: Target) -> list[str]:
    """Build the engines of the encoder and of every decoder, of float16 too, and write them.

    Parameters
    ----------
    out : the file; a failure leaves none
    target : the largest input

    Returns
    -------
    names of the engines
    """
    version = str(library().__version__)
    target = check_target(target, bundle.manifest.layout)
    decoders = [f"decoder {name}" for name in sorted(bundle.manifest.decoders)]
    plans = {}
    for name in ["encoder", "hyper_encoder", *decoders]:
        for precision in (p for p in PRECISIONS if p in graph_of(bundle, name).precisions):
            graph = bundle.graph(graph_of(bundle, name), precision)
            plans[_digest(graph)] = (f"{name} {precision}", plan_of(bundle, name, graph, target))
    facts = {
        "stream_id": bundle.manifest.stream_id,
        "tensorrt": version,
        "gpu": gpu_name(),
        "side": target.side,
        "batch": target.batch,
        "engines": {digest: name for digest, (name, _) in plans.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr(FACTS, json.dumps(facts, indent=1))
        for digest, (_, plan) in plans.items():
            file.writestr(digest, plan)
    write_atomically(out, buffer.getvalue())
    return [name for name, _ in plans.values()]


def shipped(bundle: Bundle, graph: bytes, device: Device) -> TensorRtEngine | None:
    """Return the engine of a graph from the file beside its bundle; None if there is no file.

    Parameters
    ----------
    graph : bytes of the ONNX file that the engine was built from

    Raises
    ------
    MissingExtra
        When TensorRT is not installed.
    EngineError
        When the file cannot be read, others can write to it, or it was made for another version
        of TensorRT, for another GPU or from another bundle.
    """
    path = bundle.path.with_suffix(SUFFIX)
    if not path.is_file():
        return None
    trt = library()
    _check_owner(path)
    digest = _digest(graph)
    try:
        with zipfile.ZipFile(path) as file:
            facts = json.loads(file.read(FACTS))
            _check(path, facts, bundle, trt)
            if digest not in facts["engines"]:
                raise _refused(path, "has no engine of a graph of this bundle")
            if file.getinfo(digest).file_size > LARGEST:
                raise _refused(path, f"has an engine of over {LARGEST} bytes")
            plan = file.read(digest)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _refused(path, f"cannot be read ({error})") from error
    return TensorRtEngine(trt, plan, device)


def _check(path: Path, facts: dict[str, Any], bundle: Bundle, trt: Any) -> None:
    for name, key, here in (
        ("TensorRT", "tensorrt", str(trt.__version__)),
        ("the GPU", "gpu", gpu_name()),
        ("streams", "stream_id", bundle.manifest.stream_id),
    ):
        if facts[key] != here:
            raise _refused(path, f"was made for {name} {facts[key]}, and here is {here}")


def _check_owner(path: Path) -> None:
    """Refuse a file that another user can change, because an engine is code."""
    status = path.stat()
    if sys.platform == "win32":
        return
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(path, "can be changed by others, and an engine is code")


def _refused(path: Path, why: str) -> EngineError:
    return EngineError(
        f"the file of TensorRT engines {str(path)!r} {why}",
        remedy="build it on this machine: trellic export BUNDLE --tensorrt FILE; or delete it",
    )


def _digest(graph: bytes) -> str:
    return hashlib.sha256(graph).hexdigest()
