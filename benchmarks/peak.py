"""How near to the processor's limit the networks run: multiplications a second, on one thread.

::

    python -m benchmarks.peak

Bare 1x1 convolutions of the sizes that g_a and g_s are made of set the limit: they do nothing else.
Beside them whole networks, on latents and pixels of a photo of 768x512, in each precision, and the
integer networks; their multiplications are those of the manifest. The least of many runs each.
Writes benchmarks/results/peak.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks import _machine, precisions
from benchmarks.speed_tables import table
from trellic.codec import Codec
from trellic.engines import Engine
from trellic.engines.ort import OrtEngine
from trellic.integer.compiled import CompiledNetwork, runs_compiled

WIDTH, HEIGHT = 768, 512
LAYERS = ((128, 128, 8), (128, 256, 8), (192, 384, 16))  # channels in and out, pixels a position
RUNS = 60

Floats = npt.NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peak", description=__doc__)
    parser.add_argument("--model", default="photo", metavar="NAME|PATH")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peak.json"))
    options = parser.parse_args(arguments)
    rows = [layer(*sizes) for sizes in LAYERS]
    rows += networks(options.model) + integer_networks(options.model)
    machine = _machine.describe(("numpy", "numba", "onnxruntime", "openvino"))
    result = {"benchmark": "peak", "machine": machine, "pixels": [WIDTH, HEIGHT], "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    lines = [[row["name"], f"{row['ms']:.1f}", f"{row['gmac_per_s']:.1f}"] for row in rows]
    Console().print(table(("what", "ms", "GMAC/s"), lines), markup=False, highlight=False)
    return 0


def layer(before: int, after: int, stride: int) -> dict[str, float | str]:
    """Measure one bare convolution."""
    rng = np.random.default_rng(1)
    height, width = HEIGHT // stride, WIDTH // stride
    weights = numpy_helper.from_array(rng.normal(size=(after, before, 1, 1)).astype("f4"), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, height, width])
        for name, count in (("x", before), ("y", after))
    ]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], [weights])
    opset = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=9)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    x: Floats = rng.normal(size=(1, before, height, width)).astype("f4")
    seconds = least(lambda: session.run(None, {"x": x}))
    return _row(f"1x1, {before} to {after} at 1/{stride}", seconds, before * after * height * width)


def networks(model: str) -> list[dict[str, float | str]]:
    """Measure g_a and every decoder of the whole picture, in each precision that they have."""
    rows = []
    codecs = precisions.load(model, 1)
    manifest = codecs[precisions.REFERENCE].bundle.manifest
    for precision, codec in codecs.items():
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
        stride = manifest.layout.stride
        shape = (1, manifest.layout.latents, HEIGHT // stride, WIDTH // stride)
        quality = np.array([60], "f4")
        inputs = {"g_a": {"image": pixels, "quality": quality}}
        graphs = {"g_a": manifest.encoder}
        for name, info in codec.decoders.items():
            if info.kind == "picture" and info.scale == 1:
                graphs[name] = info.graph
                latents = rng.normal(size=shape).astype("f4")
                inputs[name] = {"latents": latents, "quality": quality}
        for name, graph in graphs.items():
            if precision != "int8" or graph.int8:
                engine = codec._pool.encoder() if name == "g_a" else codec._pool.decoder(name)
                seconds = least(lambda e=engine, i=inputs[name]: e(i))  # type: ignore[misc]
                count = 1e3 * graph.kmac_per_pixel * WIDTH * HEIGHT
                rows.append(_row(f"{name}, {precision}", seconds, count))
    return rows


def integer_networks(model: str) -> list[dict[str, float | str]]:
    """Measure all integer networks of the whole picture, in onnxruntime and in bytes."""
    bundle = Codec(model, "cpu", 1).bundle
    manifest, layout = bundle.manifest, bundle.manifest.layout
    rng = np.random.default_rng(1)
    inputs: dict[str, Floats] = {}
    for name, network in bundle.networks.items():
        stride = layout.stride * (layout.cell if name == "h_s" else 1)
        shape = (1, network.channels_in, HEIGHT // stride, WIDTH // stride)
        inputs[name] = rng.integers(-127, 128, shape).astype("f4")
    kinds: dict[str, dict[str, Engine]] = {
        "onnxruntime": {n: OrtEngine(bundle.graph(manifest.exact[n]), "cpu", 1) for n in inputs}
    }
    if all(runs_compiled(network) for network in bundle.networks.values()):
        kinds["bytes"] = {n: CompiledNetwork(bundle.networks[n]) for n in inputs}
    count = sum(1e3 * manifest.exact[name].kmac_per_pixel for name in inputs) * WIDTH * HEIGHT
    rows = []
    for kind, engines in kinds.items():
        seconds = sum(
            least(lambda e=engine, n=name: e({"x": inputs[n]}))  # type: ignore[misc]
            for name, engine in engines.items()
        )
        rows.append(_row(f"integer networks, {kind}", seconds, count))
    return rows


def least(work: Callable[[], object]) -> float:
    """Return the least of many times, in seconds, after a few runs that do not count."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[3:])


def _row(name: str, seconds: float, count: float) -> dict[str, float | str]:
    return {
        "name": name,
        "ms": round(1e3 * seconds, 3),
        "gmac_per_s": round(count / seconds / 1e9, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
