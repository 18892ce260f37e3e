"""A model repository: what is in it, and a Triton server that serves from it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from trellic.codec import Codec
from trellic.engines.ort import onnxruntime
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic_export.triton import export_triton

MISSING = "NOT CHECKED: tritonclient is not installed here; `make triton-check` runs this"
SLOW = pytest.mark.slow("a Triton server starts, and two processes load a model")


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def codec(tiny_path):
    return Codec.load(tiny_path, device="cpu", threads=1)


def test_the_repository(tiny_path, tmp_path):
    names = export_triton(Bundle(tiny_path), tmp_path / "models", instances=3)
    assert names == [f"trellic_{name}" for name in ("decode", "encode", "g_a", "h_a", "quality")]
    assert (tmp_path / "models" / "trellic_encode" / "1" / "tiny.zip").is_file()
    assert "count: 3 " in (tmp_path / "models" / "trellic_decode" / "config.pbtxt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]
    with pytest.raises(BadParameter, match="not empty"):
        export_triton(Bundle(tiny_path), tmp_path / "models")


def test_configurations_are_those_of_triton(tiny_path, tmp_path):
    """Networks run with what their configurations say; the wheel's server has no onnxruntime."""
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=MISSING)
    from google.protobuf import text_format

    names = export_triton(Bundle(tiny_path), tmp_path / "models", instances=1)
    configs = {}
    for name in names:
        text = (tmp_path / "models" / name / "config.pbtxt").read_text()
        configs[name] = text_format.Parse(text, pb2.ModelConfig())
        assert configs[name].name == name
    kinds = {pb2.TYPE_UINT8: np.uint8, pb2.TYPE_FP32: np.float32}
    for name in ("trellic_g_a", "trellic_h_a", "trellic_quality"):
        path = tmp_path / "models" / name / "1" / "model.onnx"
        inputs = {}
        for one in configs[name].input:
            shape = one.reshape.shape if one.HasField("reshape") else one.dims
            sides = [64 if side < 0 else side for side in shape]
            inputs[one.name] = np.ones((2, *sides), kinds[one.data_type])
        outputs = onnxruntime().InferenceSession(path).run(None, inputs)
        for one, made in zip(configs[name].output, outputs, strict=True):
            assert made.dtype == kinds[one.data_type]
            assert made.shape[0] == 2
            fits = zip(one.dims, made.shape[1:], strict=True)
            assert all(side in (-1, got) for side, got in fits)


def infer(triton, model, output, **inputs):
    """Ask the server; bytes of strings, arrays of others."""
    http = pytest.importorskip("tritonclient.http", reason=MISSING)
    from tritonclient.utils import np_to_triton_dtype

    with http.InferenceServerClient(triton, network_timeout=120) as client:
        asked = []
        for name, value in inputs.items():
            asked.append(http.InferInput(name, value.shape, np_to_triton_dtype(value.dtype)))
            asked[-1].set_data_from_numpy(value)
        return client.infer(model, asked).as_numpy(output)


def strings(*values: bytes) -> np.ndarray:
    return np.array(values, dtype=object).reshape(-1, 1)


@SLOW
def test_pictures_there_and_back(triton, codec):
    pixels = picture(0)
    wanted = codec.encode(pixels)
    stream = infer(triton, "trellic_encode", "STREAM", IMAGE=pixels[None])[0, 0]
    assert stream == wanted
    shown = infer(triton, "trellic_decode", "IMAGE", STREAM=strings(wanted))
    np.testing.assert_array_equal(shown[0], codec.decode(wanted))
    quality = np.array([[20.0]], np.float32)
    lower = infer(triton, "trellic_encode", "STREAM", IMAGE=pixels[None], QUALITY=quality)[0, 0]
    assert lower == codec.encode(pixels, quality=20)
    grey = infer(triton, "trellic_encode", "STREAM", IMAGE=pixels[None, :, :, :1])[0, 0]
    assert grey == codec.encode(pixels[:, :, 0])
    shown = infer(triton, "trellic_decode", "IMAGE", STREAM=strings(grey))
    assert shown.shape == (1, 40, 56, 1)


@SLOW
def test_batches_of_a_request_and_of_many(triton, codec):
    pictures = [picture(seed) for seed in range(3)]
    wanted = codec.encode_batch(pictures)
    made = infer(triton, "trellic_encode", "STREAM", IMAGE=np.stack(pictures))
    assert made[:, 0].tolist() == wanted
    shown = infer(triton, "trellic_decode", "IMAGE", STREAM=strings(*wanted))
    np.testing.assert_array_equal(shown, np.stack(codec.decode_batch(wanted)))
    several = [picture(seed, 24 + seed, 32) for seed in range(12)]  # sizes differ within a batch
    with ThreadPoolExecutor(12) as clients:
        made = list(
            clients.map(
                lambda one: infer(triton, "trellic_encode", "STREAM", IMAGE=one[None])[0, 0],
                several,
            )
        )
    assert made == codec.encode_batch(several)


@SLOW
def test_bad_requests_get_an_error_and_the_server_goes_on(triton, codec):
    from tritonclient.utils import InferenceServerException

    stream = codec.encode(picture(1))
    cases = [
        ({"STREAM": strings(b"no stream")}, "NotATrellicFile"),
        ({"STREAM": strings(stream[:-9])}, "Truncated|Damaged|Corrupt|Bad"),
        ({"STREAM": strings(stream), "DECODER": strings(b"none")}, "UnknownDecoder"),
        ({"STREAM": strings(stream, codec.encode(picture(1, 24)))}, "several sizes"),
    ]
    for inputs, message in cases:
        with pytest.raises(InferenceServerException) as caught:
            infer(triton, "trellic_decode", "IMAGE", **inputs)
        assert re.search(message, str(caught.value)), caught.value
    with pytest.raises(InferenceServerException, match="quality"):
        infer(
            triton, "trellic_encode", "STREAM",
            IMAGE=picture(1)[None], QUALITY=np.array([[500.0]], np.float32),
        )  # fmt: skip
    assert infer(triton, "trellic_decode", "IMAGE", STREAM=strings(stream)).shape == (1, 40, 56, 3)
