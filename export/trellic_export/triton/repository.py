"""Write the repository: configurations, the Python model, the bundle, the networks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from trellic.engines.ort import onnxruntime
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic.support.cores import usable_cores

SCRIPT = Path(__file__).with_name("model.py")
BATCH = 8  # requests that an instance gets at once, at most
QUEUE = 64  # requests that may wait; Triton refuses further ones
_TYPES = {"uint8": "TYPE_UINT8", "float": "TYPE_FP32", "int64": "TYPE_INT64"}

_PICTURE = '{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ -1, -1, -1 ]'
_STREAM = '{ name: "STREAM" data_type: TYPE_STRING dims: [ 1 ] }'
_WAYS = {
    "encode": f"""\
input [
  {_PICTURE} allow_ragged_batch: true }},
  {{ name: "QUALITY" data_type: TYPE_FP32 dims: [ 1 ] optional: true }}
]
output [ {_STREAM} ]
""",
    "decode": f"""\
input [
  {_STREAM},
  {{ name: "DECODER" data_type: TYPE_STRING dims: [ 1 ] optional: true }}
]
output [ {_PICTURE} }} ]
""",
}
_BATCHING = f"""\
max_batch_size: {BATCH}
dynamic_batching {{
  default_queue_policy {{ max_queue_size: {QUEUE} }}
}}
"""


def export_triton(bundle: Bundle, out: Path, instances: int = 0) -> list[str]:
    """Write a model repository.

    Parameters
    ----------
    bundle : the model
    out : folder, new or empty
    instances : processes that encode, and as many that decode, of one thread each; 0 for half as
        many of each as this machine has cores

    Returns
    -------
    list of str, names of the models in it

    Raises
    ------
    BadParameter
        When the folder is not empty, because Triton would serve its content too.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadParameter(f"{str(out)!r} is not empty", expected="a new or an empty folder")
    instances = instances or max(1, usable_cores() // 2)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for way in _WAYS:
            _write_python(part / f"trellic_{way}", way, bundle, instances)
        for name, graph in _graphs(bundle).items():
            _write_network(part / f"trellic_{name}", graph)
        part.chmod(0o755)  # mkdtemp lets nobody else in
        names = sorted(path.name for path in part.iterdir())
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return names


def _graphs(bundle: Bundle) -> dict[str, bytes]:
    manifest = bundle.manifest
    graphs = {"g_a": manifest.encoder, "h_a": manifest.hyper_encoder}
    graphs |= {name: info.graph for name, info in manifest.decoders.items()}
    return {name: bundle.graph(graph) for name, graph in graphs.items()}


def _write_python(folder: Path, way: str, bundle: Bundle, instances: int) -> None:
    """Write a model of Triton's Python backend, with one thread in each instance."""
    config = f"""\
name: "{folder.name}"
backend: "python"
{_BATCHING}{_WAYS[way]}\
# One thread each. With KIND_GPU an instance codes what comes together as one batch on its GPU.
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
parameters {{ key: "way" value: {{ string_value: "{way}" }} }}
parameters {{ key: "model" value: {{ string_value: "{bundle.path.name}" }} }}
"""
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    shutil.copyfile(SCRIPT, version / "model.py")
    shutil.copyfile(bundle.path, version / bundle.path.name)


def _write_network(folder: Path, graph: bytes) -> None:
    """Write a network for Triton's onnxruntime; on GPUs where there are some."""
    session = onnxruntime().InferenceSession(graph)
    config = f"""\
name: "{folder.name}"
backend: "onnxruntime"
{_BATCHING}{_tensors("input", session.get_inputs())}{_tensors("output", session.get_outputs())}"""
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (version / "model.onnx").write_bytes(graph)


def _tensors(what: str, tensors: list[Any]) -> str:
    """Describe tensors without their first side, which is the batch."""
    lines = []
    for tensor in tensors:
        kind = _TYPES[tensor.type.removeprefix("tensor(").removesuffix(")")]
        sides = [side if isinstance(side, int) else -1 for side in tensor.shape[1:]]
        # Triton needs at least one side, so numbers of a batch get one that the graph lacks.
        dims = f"dims: {sides}" if sides else "dims: [ 1 ] reshape: { shape: [ ] }"
        lines.append(f'  {{ name: "{tensor.name}" data_type: {kind} {dims} }}')
    return f"{what} [\n" + ",\n".join(lines) + "\n]\n"
