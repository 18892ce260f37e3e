"""The TensorRT path against a fake with the documented names and arguments; no GPU, no TensorRT."""

from __future__ import annotations

import itertools
import json
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from tests.runtime import tensorrt_fake
from tests.runtime.tensorrt_fake import Fake

from trellic.errors import BadParameter, EngineError, MissingExtra

pytest.importorskip("numba_cuda")

from trellic.gpu import tensorrt, tensorrt_engine, tensorrt_file
from trellic.gpu.tensorrt import Target
from trellic.model.bundle import Bundle

SMALL = Target(256, 4)


class Array:
    """An array of the device: a shape and an address, cut along its first axis."""

    def __init__(self, shape, at=0):
        self.shape, self.at = tuple(shape), at

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        size = int(np.prod(self.shape[1:]))
        return Array((part.stop - part.start, *self.shape[1:]), self.at + part.start * size)


class FakeDevice:
    """The stream and the memory of a device."""

    stream_address = 77

    def __init__(self):
        self.asked = []

    def empty(self, name, shape, dtype):
        self.asked.append((name, shape, dtype))
        return Array((shape,), 1 << 20)


@pytest.fixture(params=["10.1.0", "11.4.0"])
def fake(request, monkeypatch, tmp_path):
    made = Fake(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", made.module)
    monkeypatch.setenv("TRELLIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "available", lambda: True)
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "a GPU 8.7")
    monkeypatch.setattr(tensorrt_file, "gpu_name", lambda: "a GPU 8.7")
    monkeypatch.setattr(tensorrt_engine, "address", lambda array: array.at)
    return made


@pytest.fixture
def bundle(tiny_path, tmp_path):
    path = tmp_path / "tiny.zip"
    path.write_bytes(tiny_path.read_bytes())
    return Bundle(path)


def profiles(largest):
    return [
        {"latents": ((1, 2, 4, 4), (1, 2, 4, 4), shape), "quality": ((1,), (1,), shape[:1])}
        for shape in largest
    ]


def engine(fake, largest=((3, 2, 8, 8), (1, 2, 64, 64))):
    device = FakeDevice()
    plan = tensorrt.build(b"graph", profiles(largest))
    fake.calls.clear()
    return tensorrt_engine.TensorRtEngine(fake.module, plan, device), device


def call(made, count, side):
    inputs = {"latents": Array((count, 2, side, side)), "quality": Array((count,), 1000)}
    made(inputs | {"more": Array((1,))}, [Array((count, 4 * side, 4 * side, 3), 5000)])


# ---- what is built ----


def test_profiles_are_sized_by_the_target(tiny):
    layout = tiny.bundle.manifest.layout
    unit, stride = layout.stride * layout.cell, layout.stride
    (one,) = tensorrt.profiles_of(tiny.bundle, "encoder", SMALL)
    assert one["image"] == ((1, unit, unit, 3), (1, 256, 256, 3), (4, 256, 256, 3))
    usual, large = tensorrt.profiles_of(tiny.bundle, "decoder quality", Target(4096, 2))
    rows = -(-1088 // unit) * unit // stride
    assert usual["latents"][1:] == (
        (1, layout.latents, rows, 1920 // stride),
        (2, layout.latents, 1920 // stride, 1920 // stride),
    )
    assert large["latents"][2] == (1, layout.latents, 4096 // stride, 4096 // stride)
    assert usual["latents"][0] == large["latents"][0] == (1, layout.latents, 4, 4)
    hyper = tensorrt.profiles_of(tiny.bundle, "hyper_encoder", SMALL)
    assert list(hyper[0]) == ["latents"]


def test_the_quality_is_an_input_of_graphs_that_see_it(tiny, monkeypatch):
    monkeypatch.setattr(tensorrt, "graph_of", lambda *_: SimpleNamespace(sees_quality=True))
    (one,) = tensorrt.profiles_of(tiny.bundle, "encoder", SMALL)
    assert one["quality"] == ((1,), (1,), (4,))
    (hyper,) = tensorrt.profiles_of(tiny.bundle, "hyper_encoder", SMALL)
    assert list(hyper) == ["latents"]  # it is not asked


@pytest.mark.parametrize("target", [(0, 1), (1 << 17, 1), (512, 0), (512, 2000)])
def test_targets_without_a_picture_are_refused(tiny, target):
    with pytest.raises(BadParameter, match="pixels a side"):
        tensorrt.check_target(Target(*target), tiny.bundle.manifest.layout)


def test_sides_are_rounded_up_to_what_the_model_needs(tiny):
    layout = tiny.bundle.manifest.layout
    assert tensorrt.check_target(Target(1001, 3), layout) == (1024, 3)
    assert tensorrt.check_target(Target(64, 1), layout) == (64, 1)


def test_the_largest_targets_and_the_first_of_two_profiles(tiny):
    layout = tiny.bundle.manifest.layout
    assert tensorrt.check_target(Target(1 << 16, 1024), layout) == (1 << 16, 1024)
    with pytest.raises(BadParameter, match="expected 1 to 1024 pictures, 64 to 65536 pixels"):
        tensorrt.check_target(Target(512, 1025), layout)
    assert [len(tensorrt.profiles_of(tiny.bundle, "encoder", Target(n))) for n in (1920, 1984)] == [
        1,
        2,
    ]


def test_shapes_are_whole_numbers_and_channels_those_of_the_decoder(tiny, monkeypatch):
    made = {
        name: tensorrt.profiles_of(tiny.bundle, name, Target(4096, 2))
        for name in ("encoder", "hyper_encoder", "decoder quality")
    }
    shapes = [
        shape
        for found in made.values()
        for one in found
        for three in one.values()
        for shape in three
    ]
    assert all(type(side) is int for shape in shapes for side in shape)
    assert list(made["encoder"][0]) == ["image"]
    decoders = {"quality": SimpleNamespace(channels=5)}
    manifest = SimpleNamespace(layout=tiny.bundle.manifest.layout, decoders=decoders)
    monkeypatch.setattr(tensorrt, "graph_of", lambda *_: SimpleNamespace(sees_quality=False))
    (one,) = tensorrt.profiles_of(SimpleNamespace(manifest=manifest), "decoder quality", SMALL)
    assert [shape[1] for shape in one["latents"]] == [5, 5, 5]


def test_networks_are_strongly_typed(fake):
    tensorrt.build(b"graph", profiles([(3, 2, 8, 8)]))
    assert fake.named("network") == [(2 if fake.module.__version__[:2] == "10" else 0,)]
    (built,) = fake.named("build")
    assert [shapes["latents"][2] for shapes in built[0]] == [[3, 2, 8, 8]]


def test_what_cannot_be_built_is_one_error(fake):
    with pytest.raises(EngineError, match="no operator of that name"):
        tensorrt.build(b"no graph", profiles([(3, 2, 8, 8)]))
    with pytest.raises(EngineError, match="built no engine"):
        tensorrt.build(b"too much", profiles([(3, 2, 8, 8)]))


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("add_optimization_profile", -1, r"refuses the shapes .*latents.*3, 2, 8, 8"),
        ("create_timing_cache", None, "takes no timing cache"),
        ("set_timing_cache", False, "takes no timing cache"),
    ],
)
def test_settings_that_the_library_refuses_are_an_error(fake, monkeypatch, method, answer, message):
    monkeypatch.setattr(tensorrt_fake._Config, method, lambda *_, **__: answer)
    with pytest.raises(EngineError, match=message):
        tensorrt.build(b"graph", profiles([(3, 2, 8, 8)]))


def test_the_timing_cache_is_used_and_one_of_another_machine_replaced(fake, tmp_path):
    timing, shapes = tmp_path / "timing.cache", profiles([(3, 2, 8, 8)])
    tensorrt.build(b"graph", shapes, timing)
    assert timing.read_bytes() == b"timings of this machine"
    tensorrt.build(b"graph", shapes, timing)
    timing.write_bytes(b"timings of another")
    tensorrt.build(b"graph", shapes, timing)
    assert timing.read_bytes() == b"timings of this machine"
    here, other = b"timings of this machine", b"timings of another"
    assert fake.named("timing cache") == [(b"",), (here,), (other,), (b"",)]


def test_engines_are_built_once(fake, bundle):
    one = tensorrt.plan_of(bundle, "encoder", b"graph", SMALL)
    assert tensorrt.plan_of(bundle, "encoder", b"graph", SMALL) == one
    assert len(fake.named("build")) == 1
    tensorrt.plan_of(bundle, "encoder", b"graph", Target(512, 4))
    assert len(fake.named("build")) == 2
    here = b"timings of this machine"
    assert fake.named("timing cache") == [(b"",), (here,)]  # kept for the next engine


def test_an_engine_of_another_gpu_is_built_anew(fake, bundle, monkeypatch):
    tensorrt.plan_of(bundle, "encoder", b"graph", SMALL)
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "a GPU 9.0")
    tensorrt.plan_of(bundle, "encoder", b"graph", SMALL)
    assert len(fake.named("build")) == 2


def test_an_engine_has_the_device_that_it_is_made_for(fake, bundle, monkeypatch):
    monkeypatch.setattr(tensorrt, "TensorRtEngine", lambda *given: given)
    device = FakeDevice()
    module, plan, given = tensorrt.engine_of(bundle, "encoder", b"graph", device, SMALL)
    assert (module, given) == (fake.module, device)
    assert plan == tensorrt.plan_of(bundle, "encoder", b"graph", SMALL)


# ---- what runs ----


def test_memory_is_the_callers_and_sized_by_the_profile(fake):
    made, device = engine(fake)
    assert fake.named("context") == [("USER_MANAGED",)]
    call(made, 2, 8)
    call(made, 2, 8)
    call(made, 1, 32)
    assert fake.named("profile") == [(0, 77), (1, 77)]
    sizes = [3 * 2 * 8 * 8] * 2 + [2 * 64 * 64]
    assert device.asked == [("for TensorRT", size, np.uint8) for size in sizes]
    assert fake.named("memory") == [(1 << 20, size) for size in sizes]


def test_a_batch_runs_in_parts_that_the_profile_takes(fake):
    made, _ = engine(fake)
    call(made, 7, 8)
    counts, places = [], []
    for shapes, at, stream in fake.named("run"):
        assert shapes["quality"] == shapes["latents"][:1]
        assert stream == 77
        counts.append(shapes["latents"][0])
        places.append((at["latents"], at["quality"], at["out"]))
    assert counts == [3, 3, 1]
    steps = (2 * 8 * 8, 1, 32 * 32 * 3)
    starts = (0, 1000, 5000)
    assert places == [
        tuple(start + first * step for start, step in zip(starts, steps, strict=True))
        for first in (0, 3, 6)
    ]


def test_a_picture_that_is_too_large_is_refused_in_a_sentence(fake):
    made, _ = engine(fake)
    with pytest.raises(EngineError, match=r"latents of shape \(2, 65, 65\).*--max-size"):
        call(made, 1, 65)
    assert not fake.named("run")


def test_the_first_picture_may_choose_another_profile_than_the_first(fake):
    made, _ = engine(fake)
    call(made, 1, 32)
    assert fake.named("profile") == [(1, 77)]


def test_the_largest_profile_is_named_where_a_picture_is_too_large(fake):
    shapes = profiles([(3, 2, 8, 8), (2, 2, 32, 32), (1, 2, 64, 64)])
    plan = tensorrt.build(b"graph", [dict(reversed(one.items())) for one in shapes])
    made = tensorrt_engine.TensorRtEngine(fake.module, plan, FakeDevice())
    with pytest.raises(EngineError, match=r"no latents of .* expected \(2, 64, 64\) at most"):
        call(made, 1, 65)


@pytest.mark.parametrize(
    ("kind", "method", "answer", "message"),
    [
        ("_Engine", "create_execution_context", None, "makes no context"),
        ("_Context", "set_optimization_profile_async", False, "refuses profile 0"),
        ("_Context", "set_tensor_address", False, "takes no memory for latents"),
    ],
)
def test_what_the_library_refuses_is_an_error(fake, monkeypatch, kind, method, answer, message):
    monkeypatch.setattr(getattr(tensorrt_fake, kind), method, lambda *_: answer)
    with pytest.raises(EngineError, match=message):
        call(engine(fake)[0], 1, 8)


def test_outputs_that_the_engine_does_not_have_are_a_fault_of_ours(fake):
    made, _ = engine(fake)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        made({"latents": Array((1, 2, 8, 8)), "quality": Array((1,))}, [Array((1,)), Array((1,))])


def test_failures_of_the_library_are_errors(fake):
    made, _ = engine(fake)
    with pytest.raises(EngineError, match=r"takes no latents of shape \(1, 2, 3, 3\)"):
        call(made, 1, 3)
    fake.breaks = True
    with pytest.raises(EngineError, match="failed to run"):
        call(made, 1, 8)
    with pytest.raises(EngineError, match="cannot read an engine"):
        tensorrt_engine.TensorRtEngine(fake.module, b"junk", FakeDevice())


# ---- a file that ships ----


def test_engines_of_a_file_are_found_by_its_name(fake, bundle):
    out = bundle.path.with_suffix(".engines")
    graph = bundle.graph(bundle.manifest.encoder)
    assert tensorrt_file.shipped(bundle, graph, FakeDevice()) is None
    names = tensorrt_file.write_engines(bundle, out, SMALL)
    assert {"encoder fp32", "hyper_encoder fp32", "decoder quality fp32"} <= set(names)
    built = len(fake.named("build"))
    device = FakeDevice()
    made = tensorrt_file.shipped(bundle, graph, device)
    assert isinstance(made, tensorrt_engine.TensorRtEngine)
    assert made._device is device
    assert len(fake.named("build")) == built
    with zipfile.ZipFile(out) as file:
        facts = json.loads(file.read("engines.json"))
    assert (facts["side"], facts["batch"], facts["gpu"]) == (256, 4, "a GPU 8.7")
    assert facts["tensorrt"] == fake.module.__version__
    assert facts["stream_id"] == bundle.manifest.stream_id
    assert sorted(facts["engines"].values()) == sorted(names)
    with pytest.raises(EngineError, match="no engine of a graph of this bundle"):
        tensorrt_file.shipped(bundle, b"another graph", FakeDevice())


def test_each_engine_is_built_of_the_graph_of_its_precision(fake, bundle, monkeypatch):
    both = SimpleNamespace(precisions=("fp32", "fp16"))
    monkeypatch.setattr(tensorrt_file, "graph_of", lambda bundle, name: both)
    count = itertools.count()
    graph = lambda self, info, precision="fp32": f"{precision} {next(count)}".encode()  # noqa: E731
    monkeypatch.setattr(type(bundle), "graph", graph)
    monkeypatch.setattr(tensorrt_file, "plan_of", lambda bundle, name, graph, target: graph)
    out = bundle.path.with_suffix(".engines")
    names = tensorrt_file.write_engines(bundle, out, SMALL)
    assert {"encoder fp32", "encoder fp16", "hyper_encoder fp16"} <= set(names)
    with zipfile.ZipFile(out) as file:
        for digest, name in json.loads(file.read("engines.json"))["engines"].items():
            assert file.read(digest).decode().split()[0] == name.split()[-1]


def test_the_codec_takes_engines_of_the_file(fake, bundle, monkeypatch):
    from trellic.gpu import codec

    loaders = []
    monkeypatch.setattr(codec, "Device", FakeDevice)
    monkeypatch.setattr(codec, "ProbedEngines", lambda *a: loaders.append(a[2]))
    monkeypatch.setattr(codec.GpuCodec, "__init__", lambda self, *_: None)
    monkeypatch.setattr(codec.importlib.util, "find_spec", lambda name: name)
    tensorrt_file.write_engines(bundle, bundle.path.with_suffix(".engines"), SMALL)
    built = len(fake.named("build"))
    codec.GpuCodec.load(bundle, "tensorrt")
    (load,) = loaders
    load("encoder", bundle.graph(bundle.manifest.encoder), False)
    assert len(fake.named("build")) == built
    bundle.path.with_suffix(".engines").unlink()
    load("encoder", bundle.graph(bundle.manifest.encoder), False)
    assert len(fake.named("build")) == built + 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tensorrt", "9.9", "made for TensorRT 9.9, and here is 1"),
        ("gpu", "a GPU 9.0", "made for the GPU a GPU 9.0, and here is a GPU 8.7"),
        ("stream_id", "00000000", "made for streams 00000000"),
        ("engines", {}, "has no engine of a graph"),
        ("engines", None, "cannot be read"),
    ],
)
def test_a_file_for_another_machine_is_refused_in_a_sentence(fake, bundle, key, value, message):
    out, changed = bundle.path.with_suffix(".engines"), bundle.path.with_suffix(".new")
    tensorrt_file.write_engines(bundle, out, SMALL)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(changed, "w") as new:
        facts = json.loads(old.read("engines.json")) | {key: value}
        new.writestr("engines.json", json.dumps(facts))
    changed.replace(out)
    with pytest.raises(EngineError, match=message) as caught:
        tensorrt_file.shipped(bundle, bundle.graph(bundle.manifest.encoder), FakeDevice())
    assert "trellic export BUNDLE --tensorrt FILE" in str(caught.value)
    assert f"engines {str(out)!r} " in str(caught.value)


def test_an_engine_that_is_too_large_is_not_read(fake, bundle, monkeypatch):
    graph = bundle.graph(bundle.manifest.encoder)
    out = bundle.path.with_suffix(".engines")
    tensorrt_file.write_engines(bundle, out, SMALL)
    with zipfile.ZipFile(out) as file:
        size = file.getinfo(tensorrt_file._digest(graph)).file_size
    monkeypatch.setattr(tensorrt_file, "LARGEST", size)
    assert tensorrt_file.shipped(bundle, graph, FakeDevice()) is not None
    monkeypatch.setattr(tensorrt_file, "LARGEST", size - 1)
    with pytest.raises(EngineError, match=f"engine of over {size - 1} bytes"):
        tensorrt_file.shipped(bundle, graph, FakeDevice())


def test_a_file_that_others_can_change_is_refused(fake, bundle):
    out = bundle.path.with_suffix(".engines")
    tensorrt_file.write_engines(bundle, out, SMALL)
    for mode in (0o666, 0o620, 0o602):
        out.chmod(mode)  # the folder's name has "others" in it, so the whole sentence is asked for
        with pytest.raises(EngineError, match="can be changed by others, and an engine is code"):
            tensorrt_file.shipped(bundle, b"", FakeDevice())
    out.chmod(0o600)
    out.write_bytes(b"no zip")
    with pytest.raises(EngineError, match="cannot be read"):
        tensorrt_file.shipped(bundle, b"", FakeDevice())


# ---- where it cannot be used ----


def test_tensorrt_refuses_in_a_sentence(fake, monkeypatch):
    for version in (fake.module.__version__, "10.1.0rc1", "11"):
        fake.module.__version__ = version
        assert tensorrt.library() is fake.module
    fake.module.__version__ = "10.0.1"
    with pytest.raises(EngineError, match=r"10\.0\.1; expected version 10\.1"):
        tensorrt.library()
    monkeypatch.setattr(tensorrt, "available", lambda: False)
    with pytest.raises(EngineError, match="needs a GPU"):
        tensorrt.library()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtra, match=r"\[tensorrt\]"):
        tensorrt.library()


def test_the_command_writes_the_file(fake, bundle, command_line, monkeypatch):
    pytest.importorskip("onnx")
    out = bundle.path.with_name("edge.engines")
    arguments = ["export", bundle.path, "--tensorrt", out, "--max-size", 256, "--max-batch", 4]
    run = command_line(*arguments)
    assert (run.code, run.err) == (0, "")
    assert "encoder fp32" in run.out
    with zipfile.ZipFile(out) as file:
        assert json.loads(file.read("engines.json"))["side"] == 256
    wrong = command_line("export", bundle.path, "--tensorrt", out.with_suffix(".zip"))
    assert wrong.code == 1
    assert "ends in .engines" in wrong.err
