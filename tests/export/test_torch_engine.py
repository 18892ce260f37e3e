"""Graphs in PyTorch: the same integers, and nearly the same floats, as in onnxruntime."""

import contextlib
import gc
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from trellic.codec import Codec
from trellic.engines.exact import digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.model.bundle import Bundle, find
from trellic_export import graphs, torch_engine
from trellic_export.torch_engine import Replays, precision
from trellic_export.torch_graph import TorchGraph

from .conftest import ATTENDING, COUPLED, DETAILED, EVERYWHERE, shaken


def test_exact_networks_pass_their_probes(tiny: Codec):
    bundles = [tiny.bundle, Bundle(find("photo"))]
    networks = [(bundle, *named) for bundle in bundles for named in bundle.networks.items()]
    for bundle, name, network in networks:
        manifest = bundle.manifest
        graph = TorchGraph(bundle.graph(manifest.exact[name]))
        probe = torch.from_numpy(probe_input(network.channels_in)[None])
        outputs = [output[0].numpy() for output in graph({"x": probe})]
        assert digest(outputs) == manifest.probes[name]


@pytest.mark.parametrize(
    "config",
    [DETAILED, ATTENDING, EVERYWHERE, COUPLED],
    ids=["plain", "attending", "everywhere", "coupled"],
)
def test_graphs_that_see_the_quality(config):
    model = shaken(config.model_copy(update={"modulated": True}))
    rng = np.random.default_rng(0)
    quality = np.array([12.5, 88], np.float32)
    image = rng.integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    latents = rng.normal(0, 1, (2, config.latents, 4, 8)).astype(np.float32)
    for data, name, x, most in (
        (graphs.encoder_graph(model.g_a), "image", image, 1e-3),
        (graphs.hyper_encoder_graph(model.h_a), "latents", latents, 1e-3),
        (graphs.decoder_graph(model.g_s, config.latents), "latents", latents, 1),
    ):
        expected = OrtEngine(data, threads=1)({name: x, "quality": quality})[0]
        inputs = {name: torch.from_numpy(x), "quality": torch.from_numpy(quality)}
        found = TorchGraph(data)(inputs)[0].numpy()
        assert np.abs(found.astype(np.float64) - expected).max() <= most


@pytest.mark.parametrize("model", ["tiny", "photo"])
def test_free_graphs(tiny: Codec, model):
    bundle = tiny.bundle if model == "tiny" else Bundle(find(model))
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    latents = rng.normal(0, 1, (2, manifest.layout.latents, 4, 8)).astype(np.float32)
    decoder = manifest.decoders["quality"].graph
    quality = np.array([12.5, 88], np.float32)
    for graph, name, x, most in (
        (manifest.encoder, "image", image, 1e-3),
        (manifest.hyper_encoder, "latents", latents, 1e-3),
        (decoder, "latents", latents, 1),
    ):
        data = bundle.graph(graph)
        expected = OrtEngine(data, threads=1)({name: x, "quality": quality})[0]
        inputs = {name: torch.from_numpy(x), "quality": torch.from_numpy(quality)}
        found = TorchGraph(data)(inputs)[0].numpy()
        assert found.dtype == expected.dtype
        assert np.abs(found.astype(np.float64) - expected).max() <= most


def test_tensors_go_when_last_used(tiny: Codec, monkeypatch):
    """Of a chain of layers a few are there at once, not all that were ever made."""
    graph = TorchGraph(tiny.bundle.graph(tiny.bundle.manifest.encoder))
    alive: list[weakref.ref] = []
    most = 0

    def watched(run):
        def call(*arguments):
            nonlocal most
            results = run(*arguments)
            many = results if isinstance(results, tuple) else (results,)
            alive.extend(weakref.ref(one) for one in many)
            most = max(most, sum(ref() is not None for ref in alive))
            return results

        return call

    monkeypatch.setattr(graph, "_nodes", [(watched(run), *rest) for run, *rest in graph._nodes])
    image = np.zeros((1, 64, 64, 3), np.uint8)
    (found,) = graph({"image": torch.from_numpy(image), "quality": torch.tensor([50.0])})
    assert found.shape[2:] == (4, 4)
    assert len(alive) > 10
    assert most <= 6


def test_labels_are_pooled_over_the_picture():
    """GlobalAveragePool, which decoders of labels end with."""
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    shape = ["n", "c", "h", "w"]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy"]
    data = helper.make_model(
        helper.make_graph([node], "pool", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString()
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    (expected,) = OrtEngine(data, threads=1)({"x": x})
    (found,) = TorchGraph(data)({"x": torch.from_numpy(x)})
    assert found.numpy() == pytest.approx(expected, abs=1e-6)


class Capture:
    """A stand-in for a CUDA graph: a capture notes the work and does not do it."""

    def __init__(self, work):
        self.replay = work
        self.collecting = gc.isenabled()


def do(replays, key, work):
    """Do work as an engine does."""
    if not replays.again(key):
        replays.do(key, work)


def test_work_is_done_then_captured_then_replayed():
    done, made = [], []

    def capture(work):
        made.append(Capture(work))
        return made[-1]

    replays = Replays(capture, most=1)
    for turn in range(4):
        do(replays, "one", lambda: done.append("one"))
        assert len(done) == turn + 1
        assert len(made) == min(turn, 1)
    assert not made[0].collecting
    assert gc.isenabled()
    for _ in range(3):  # beyond the most, plainly
        do(replays, "two", lambda: done.append("two"))
    assert (len(made), done.count("two")) == (1, 3)


def test_a_failed_capture_leaves_nothing_behind():
    done, fail = [], [True]

    def capture(work):
        if fail.pop():
            raise RuntimeError("out of memory")
        fail.append(False)
        return Capture(work)

    replays = Replays(capture)

    def work():
        done.append(1)

    do(replays, "key", work)
    with pytest.raises(RuntimeError, match="out of memory"):
        do(replays, "key", work)
    assert gc.isenabled()
    fail.append(False)
    do(replays, "key", work)  # an empty graph, kept by mistake, would do nothing here
    assert len(done) == 2


def test_engines_share_one_pool_of_memory(monkeypatch):
    """Or each CUDA graph would keep memory of its own."""
    handles, pools = iter(["first", "second"]), []
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(handles))
    monkeypatch.setattr(
        torch_engine, "TorchDeviceEngine", lambda *_, pool, **__: pools.append(pool)
    )
    load = torch_engine.engines_on(SimpleNamespace(stream_address=0), fused=False)
    load("encoder", b"", False)
    load("h_s", b"", True)
    assert pools == ["first", "first"]


@pytest.fixture
def fake_cuda(monkeypatch):
    """The calls of ``torch.cuda`` that captures need, noted."""
    noted: list[Any] = []

    class Graph:
        def replay(self):
            noted.append("replay")

    @contextlib.contextmanager
    def around(name, *_, **options):
        noted.append((name, options.get("capture_error_mode"), gc.isenabled()))
        yield
        noted.append(f"end of {name}")

    fakes = {
        "CUDAGraph": Graph,
        "ExternalStream": lambda address: address,
        "graph_pool_handle": lambda: "pool",
        "graph": partial(around, "graph"),
        "stream": partial(around, "stream"),
        "is_current_stream_capturing": lambda: True,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return noted


def test_whole_decodes_are_captured_on_the_stream(fake_cuda):
    capture = torch_engine.capture_on(SimpleNamespace(stream_address=7))
    replay = capture(lambda: fake_cuda.append("work"))
    began = [("stream", None, True), ("graph", "thread_local", False)]
    assert fake_cuda == [*began, "work", "end of graph", "end of stream"]
    fake_cuda.clear()
    replay()  # a graph is launched on the stream that is current
    assert fake_cuda == [("stream", None, True), "replay", "end of stream"]
    with pytest.raises(ZeroDivisionError):
        capture(lambda: 1 // 0)
    assert gc.isenabled()


def test_an_engine_inside_a_capture_runs_plainly(fake_cuda, monkeypatch):
    ran = []
    monkeypatch.setattr(torch_engine, "TorchGraph", lambda *_: lambda _: ran.append(1) or [])
    made = torch_engine.TorchDeviceEngine(b"", 7, exact=False)
    for _ in range(3):
        made({}, [])
    assert len(ran) == 3
    assert not made._replays._made
    assert not any(one[0] == "graph" for one in fake_cuda if isinstance(one, tuple))


def test_precision_is_set_and_taken_back():
    """Without the old switches, which warn (and warnings are errors)."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark
    for exact, kind in ((True, "ieee"), (False, "tf32")):
        with precision(exact=exact):
            assert (matmul.fp32_precision, conv.fp32_precision) == (kind, kind)
            assert torch.backends.cudnn.benchmark is not exact
        assert (matmul.fp32_precision, conv.fp32_precision) == before[:2]
    assert torch.backends.cudnn.benchmark == before[2]


def test_float16_has_its_channels_last(tiny: Codec, monkeypatch):
    """So that tensor cores read them as they lie; results are near those of float32."""
    bundle = tiny.bundle
    graph = bundle.graph(bundle.manifest.encoder)
    narrow, seen = TorchGraph(graph, dtype=torch.float16), []

    def watched(run):
        def call(dtype, attributes, x, *rest):
            result = run(dtype, attributes, x, *rest)
            seen.append(
                [t.is_contiguous(memory_format=torch.channels_last) for t in (rest[0], result)]
            )
            return result

        return call

    nodes = zip(narrow.operators, narrow._nodes, strict=True)
    monkeypatch.setattr(
        narrow, "_nodes", [(watched(n[0]), *n[1:]) if op == "Conv" else n for op, n in nodes]
    )
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    inputs = {"image": torch.from_numpy(image), "quality": torch.tensor([12.5, 88.0])}
    (found,), (expected,) = narrow(inputs), TorchGraph(graph)(inputs)
    assert seen == [[True, True]] * narrow.operators.count("Conv")
    assert found.dtype == torch.float16
    assert (found.float() - expected).abs().max() <= 0.02 * expected.abs().max()
