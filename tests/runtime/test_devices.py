"""Where there is no GPU: what then runs on the CPU, and what is refused in one sentence."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from trellic.codec import Codec
from trellic.engines import cuda, ort
from trellic.errors import EngineError, MissingExtra, TrellicError


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine with onnxruntime's CUDA build but without a GPU."""
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    module = SimpleNamespace(get_available_providers=lambda: providers)
    monkeypatch.setattr(ort, "onnxruntime", lambda: module)
    monkeypatch.setattr(ort, "missing_gpu", lambda: "there is no NVIDIA driver")


def test_auto_uses_the_cpu_where_only_the_gpu_is_missing(no_gpu):
    assert ort.resolve_device("auto") == "cpu"


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_missing_gpu_is_named(no_gpu, device):
    with pytest.raises(EngineError, match=f"{device}.*no NVIDIA driver") as error:
        ort.resolve_device(device)
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_there_is_used(no_gpu, monkeypatch):
    monkeypatch.setattr(ort, "missing_gpu", lambda: "")
    assert [ort.resolve_device(d) for d in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_why_the_provider_cannot_be_loaded_is_said(tmp_path, monkeypatch):
    """onnxruntime would take the CPU, and tell a log that is off."""
    (tmp_path / "capi").mkdir()
    for name in ("shared", "cuda"):
        (tmp_path / "capi" / f"libonnxruntime_providers_{name}.so").write_bytes(b"no library")
    module = SimpleNamespace(
        __file__=str(tmp_path / "__init__.py"),
        get_available_providers=lambda: ["CUDAExecutionProvider"],
    )
    found = cuda.fault_of_provider(module, "cuda")
    assert "cannot load libonnxruntime_providers_cuda.so" in found
    assert "libonnxruntime_providers_shared.so" in found  # the system's own words
    monkeypatch.setattr(ort, "onnxruntime", lambda: module)
    monkeypatch.setattr(ort, "missing_gpu", lambda: "")
    with pytest.raises(EngineError, match="cannot load libonnxruntime_providers_cuda"):
        ort.resolve_device("cuda")


def test_pytorch_serves_where_onnxruntime_has_no_gpu(monkeypatch):
    """The GPU's batches run in PyTorch then, and single graphs on the CPU."""
    module = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "onnxruntime", lambda: module)
    monkeypatch.setattr(ort, "missing_gpu", lambda: "")
    monkeypatch.setattr(ort, "torch_serves", lambda: True)
    assert (ort.resolve_device("cuda"), ort.host_of("cuda")) == ("cuda", "cpu")
    monkeypatch.setattr(ort, "torch_serves", lambda: False)
    with pytest.raises(EngineError, match="no CUDAExecutionProvider"):
        ort.resolve_device("cuda")


def test_single_graphs_on_a_gpu_search_no_algorithms(monkeypatch, tiny):
    """A search may find Winograd or FFT, which are not exact."""
    seen = []

    class Session:
        def __init__(self, graph, options, providers):
            seen.extend(providers)

        def get_inputs(self):
            return []

    real = ort.onnxruntime()
    module = SimpleNamespace(InferenceSession=Session, SessionOptions=real.SessionOptions)
    monkeypatch.setattr(ort, "onnxruntime", lambda: module)
    ort.OrtEngine(b"", "cuda")
    options = dict(seen)["CUDAExecutionProvider"]
    assert (options["use_tf32"], options["cudnn_conv_algo_search"]) == ("0", "DEFAULT")


def test_asking_for_a_gpus_tests_alone_is_an_error_without_one(monkeypatch):
    """They are not skipped silently; beside others each says why it is skipped."""
    from tests import conftest

    monkeypatch.setattr(conftest, "missing_gpu", lambda: "no NVIDIA driver")
    asked = SimpleNamespace(option=SimpleNamespace(markexpr="gpu"))
    with pytest.raises(pytest.UsageError, match="no test of a GPU can run here: no NVIDIA driver"):
        conftest.pytest_collection_modifyitems(asked, [])
    marks = []
    item = SimpleNamespace(get_closest_marker=lambda name: name == "gpu", add_marker=marks.append)
    asked.option.markexpr = "not network"
    conftest.pytest_collection_modifyitems(asked, [item])
    assert [mark.kwargs["reason"] for mark in marks] == ["no GPU: no NVIDIA driver"]
    assert conftest.pytest_report_header() == "tests of a GPU: no NVIDIA driver"


@pytest.mark.skipif(not ort.missing_gpu(), reason="this machine has a GPU")
def test_command_line_without_a_gpu(trellic, tiny_path, tmp_path):
    from PIL import Image

    picture, file = tmp_path / "a.png", tmp_path / "a.tlc"
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(picture)
    run = trellic("encode", picture, file, "--model", tiny_path, "--device", "cuda")
    assert run.code == 1
    assert run.err.startswith("error: device 'cuda' cannot be used here: ")
    assert run.err.count("\n") == 1
    assert not file.exists()
    run = trellic("encode", picture, file, "--model", tiny_path, "--device", "auto")
    assert (run.code, run.err) == (0, "")


def test_arrays_on_a_gpu_need_a_codec_on_a_gpu(tiny):
    class Array:
        __cuda_array_interface__ = {}  # noqa: RUF012 - stands for an attribute of arrays

    with pytest.raises(EngineError, match="device='cuda'"):
        tiny.encode_batch([Array()])
    with pytest.raises(EngineError, match="device='cuda'"):
        tiny.decode_batch([b""], out="cuda")
    with pytest.raises(TrellicError, match="'host' or 'cuda'"):
        tiny.decode_batch([b""], out="gpu")


def test_batches_on_the_cpu(tiny: Codec):
    one = np.full((20, 30, 3), 90, np.uint8)
    files = tiny.encode_batch([one, one[:9]], quality=40, trellis=0)
    assert [picture.shape for picture in tiny.decode_batch(files)] == [(20, 30, 3), (9, 30, 3)]


def test_export_refuses_before_it_begins(monkeypatch, tmp_path, tiny_path):
    pytest.importorskip("numba_cuda")
    cli = pytest.importorskip("trellic_export.cli")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    out = tmp_path / "a.engines"
    with pytest.raises(MissingExtra, match="TensorRT needs the package 'tensorrt'"):
        cli.main([str(tiny_path), "--tensorrt", str(out)])
    assert not out.exists()


def test_engines_are_cached_by_all_that_decides_them(monkeypatch, tmp_path):
    pytest.importorskip("numba_cuda")
    from trellic.gpu import cache

    monkeypatch.setenv("TRELLIC_CACHE", str(tmp_path))
    base = ("77e74bf4", b"graph", {"image": [1]}, "free", "a GPU")
    folder = cache.folder(*base)
    assert folder.is_dir()
    assert cache.folder(*base) == folder
    for i, other in enumerate(("00000000", b"other", {"image": [2]}, "exact", "another")):
        assert cache.folder(*(other if i == j else part for j, part in enumerate(base))) != folder
    monkeypatch.setattr(cache, "_version", lambda name: "9")
    assert cache.folder(*base) != folder
