"""Batches of a codec on a GPU: nothing is lost, whatever lies where, and the order is kept.

In the simulator the codec says "cuda" of itself; its networks run in onnxruntime's CPU provider.
"""

import gc
import io
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from PIL import Image
from tests.data import make_dither
from tests.runtime.family import make_family

from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter, CorruptStream, EngineError, UnknownDecoder
from trellic.gpu import batches
from trellic.gpu.codec import GpuCodec
from trellic.gpu.dlpack import DeviceImage
from trellic.gpu.engines import HostEngine
from trellic.images import Picture

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
TINY = Path(__file__).parent.parent / "data" / "tiny.zip"
ORIENTATION = 0x112
SMALL = {"quality": 40, "trellis": 0}


class OnDevice(DeviceImage):
    """An array in the GPU's memory; the simulator's lack the attribute that says so."""

    __cuda_array_interface__ = {}  # noqa: RUF012 - stands for an attribute of arrays


@pytest.fixture(scope="module")
def cpu(tmp_path_factory):
    path = make_family(TINY, tmp_path_factory.mktemp("model") / "family.zip")
    return Codec.load(str(path), device="cpu", threads=1)


class OnGpu(Codec):
    """A codec that runs on a GPU, or in the simulator."""

    device = "cuda"


@pytest.fixture(scope="module")
def gpu(cpu):
    if not SIMULATED:
        return Codec.load(str(cpu.bundle.path), device="cuda")
    return OnGpu(str(cpu.bundle.path), device="cpu", threads=1)


@pytest.fixture
def ways(gpu, monkeypatch):
    """The sizes of the batches that the GPU was given, and of what went one by one."""
    seen = []
    codec, one_encoded, one_decoded = gpu.on_gpu(), gpu._encoding.picture, gpu._decoding.picture
    parts_encoded, batch_decoded = codec.encode_parts, codec.decode_streams

    def noted(name, work):
        def run(first, *rest, **options):
            seen.append((name, len(first) if name == "batch" else 1))
            return work(first, *rest, **options)

        return run

    def encode_parts(parts):
        parts = list(parts)
        seen.extend(("batch", len(part.pictures)) for part in parts)
        return parts_encoded(parts)

    monkeypatch.setattr(codec, "encode_parts", encode_parts)
    monkeypatch.setattr(codec, "decode_streams", noted("batch", batch_decoded))
    monkeypatch.setattr(gpu._encoding, "picture", noted("one", one_encoded))
    monkeypatch.setattr(gpu._decoding, "picture", noted("one", one_decoded))
    return seen


def pixels(seed, *shape):
    slope = np.linspace(40, 200, shape[1])[None, :, *[None] * (len(shape) - 2)]
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    return np.clip(slope + noise, 0, 255).astype(np.uint8)


def there(gpu, array):
    """Put an array into the GPU's memory."""
    return OnDevice(gpu.on_gpu().device.upload(f"there {array.shape}", array))


def photo(seed):
    """A PIL image that lies on its side, with EXIF, XMP and an ICC profile."""
    from PIL import ImageCms

    image = Image.fromarray(pixels(seed, 20, 30, 3))
    exif = image.getexif()
    exif[ORIENTATION] = 6
    exif[0x10E] = "a description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif.tobytes(), icc_profile=profile)
    return Image.open(io.BytesIO(file.getvalue()))


def clear_corner(seed):
    picture = pixels(seed, 24, 40, 4)
    picture[..., 3] = 255
    picture[:10, :12, 3] = 0
    return picture


def test_a_mixed_batch_loses_nothing(cpu, gpu, ways):
    """Metadata, orientation and alpha are those of the ordinary way, and so is the order."""
    device_array, grey = pixels(0, 16, 32, 3), pixels(1, 18, 21)
    beside = Picture(pixels(2, 16, 16, 3), xmp=b"<x/>")
    host = [photo(3), clear_corner(4), grey, beside]
    files = gpu.encode_batch([host[0], there(gpu, device_array), *host[1:]], **SMALL)
    assert ways == [("batch", 5)]
    expected = cpu.encode_batch([host[0], device_array, *host[1:]], **SMALL)
    if SIMULATED:  # another g_a differs in its last bits, and so may the file
        assert files == expected
    decoded = [cpu.decode_picture(data) for data in files]
    assert (decoded[0].height, decoded[0].width) == (30, 20)  # upright
    assert b"a description" in decoded[0].exif
    assert decoded[0].icc
    assert decoded[2].alpha.tolist() == host[1][..., 3].tolist()
    assert decoded[3].grey
    assert decoded[4].xmp == b"<x/>"


def test_strip_leaves_metadata_out(cpu, gpu):
    (data,) = gpu.encode_batch([photo(3)], strip=True, **SMALL)
    if SIMULATED:
        assert data == cpu.encode(photo(3), strip=True, **SMALL)
    picture = cpu.decode_picture(data)
    assert (picture.height, picture.exif, picture.icc) == (30, None, None)


@pytest.mark.parametrize(
    "options",
    [{"bpp": 1.0}, {"max_bytes": 4000}, {"search": "round"}, {"max_memory": 2**40}],
    ids=lambda options: next(iter(options)),
)
def test_what_a_batch_cannot_do(cpu, gpu, ways, options):
    """An error by name for an array on the device, before any work; the ordinary way otherwise."""
    host = pixels(5, 20, 30, 3)
    name = next(iter(options))
    with pytest.raises(BadParameter, match=name):
        gpu.encode_batch([host, there(gpu, host)], trellis=0, **options)
    assert ways == []
    files = gpu.encode_batch([host, host[::-1]], trellis=0, **options)
    assert ways == [("one", 1)] * 2
    if SIMULATED:
        assert files == cpu.encode_batch([host, host[::-1]], trellis=0, **options)


@pytest.mark.parametrize(
    "options", [{"dither": 1, "trellis": 0}, {"steady": True}, {"refine": True}]
)
def test_other_lattices_are_not_for_batches(gpu, options):
    with pytest.raises(BadParameter, match=f"{next(iter(options))} for arrays on the GPU"):
        gpu.encode_batch([there(gpu, pixels(5, 20, 30, 3))], **options)


def test_steady_files_go_one_by_one(tmp_path):
    """The ordinary way to the host, there and back; others of the batch stay on the GPU."""
    path = make_dither.BUNDLE
    cpu = Codec.load(str(path), device="cpu", threads=1)
    gpu = OnGpu(str(path), device="cpu" if SIMULATED else "cuda", threads=1)
    one = pixels(6, 20, 30, 3)
    files = [cpu.encode(one, steady=True), cpu.encode(one[:16], **SMALL)]
    decoded = gpu.decode_batch(files)
    assert [array.shape for array in decoded] == [(20, 30, 3), (16, 30, 3)]
    assert np.abs(decoded[0].astype(int) - cpu.decode(files[0])).max() <= (0 if SIMULATED else 3)
    (made,) = gpu.encode_batch([one], steady=True)
    if SIMULATED:
        assert made == files[0]
    with pytest.raises(EngineError, match="a stream with a still lattice in a batch on the GPU"):
        gpu.decode_batch(files, out="cuda")


def test_large_batches_are_cut(gpu, ways, monkeypatch):
    """Where they would exceed the limit; a picture beyond it goes alone."""
    monkeypatch.setattr(batches, "MOST_PIXELS", 500)
    sizes = [(16, 16), (14, 16), (32, 16), (3, 3)]
    files = gpu.encode_batch([pixels(i, *size) for i, size in enumerate(sizes)], **SMALL)
    assert ways == [("batch", 2), ("batch", 1), ("batch", 1)]
    ways.clear()
    assert [array.shape for array in gpu.decode_batch(files)] == sizes
    assert ways == [("batch", 2), ("batch", 1), ("batch", 1)]


def test_decoding_to_the_host(cpu, gpu, ways, tmp_path):
    """Alpha and grey as of the ordinary way; the order is kept."""
    files = cpu.encode_batch([clear_corner(4), pixels(1, 18, 21), pixels(0, 16, 32, 3)], **SMALL)
    decoded = gpu.decode_batch(files)
    assert ways == [("batch", 3)]
    for array, data in zip(decoded, files, strict=True):
        expected = cpu.decode(data)
        assert isinstance(array, np.ndarray)
        assert (array.dtype, array.shape) == (np.uint8, expected.shape)
        assert np.abs(array.astype(int) - expected).max() <= (0 if SIMULATED else 3)
    assert gpu.decode_batch([]) == []


@pytest.mark.parametrize(
    "options",
    [
        {"region": (0, 0, 9, 8)},
        {"best_effort": True},
        {"max_memory": 2**40},
        {"decoder": "half"},
        {"decoder": "preview"},
        {"decoder": "perceptual:0.5"},
    ],
    ids=lambda options: str(next(iter(options.values()))),
)
def test_what_a_decoding_batch_cannot_do(cpu, gpu, ways, options):
    """The ordinary way on the host; an error by name where pictures are to stay on the GPU."""
    data = cpu.encode(pixels(1, 18, 21), **SMALL)
    (array,) = gpu.decode_batch([data], **options)
    assert ways == [("one", 1)]
    assert array.tolist() == cpu.decode(data, **options).tolist()
    with pytest.raises(BadParameter, match=next(iter(options))):
        gpu.decode_batch([data], out="cuda", **options)


def test_streams_of_other_models_go_one_by_one(cpu, gpu, ways):
    other = Codec.load("cifar", device="cpu", threads=1)
    one = pixels(6, 16, 16, 3)
    files = [cpu.encode(one, **SMALL), other.encode(one, **SMALL), cpu.encode(one[:8], **SMALL)]
    decoded = gpu.decode_batch(files)
    assert ways == [("batch", 2)]  # and one in the other model's codec
    assert [array.shape[0] for array in decoded] == [16, 16, 8]
    assert decoded[1].tolist() == other.decode(files[1]).tolist()


def test_errors_are_those_of_the_ordinary_way(cpu, gpu):
    data = bytearray(cpu.encode(pixels(7, 40, 60, 3)))
    data[len(data) // 2] ^= 1
    with pytest.raises(CorruptStream):
        gpu.decode_batch([bytes(data)])
    with pytest.raises(UnknownDecoder, match="'nothing'"):
        gpu.decode_batch([cpu.encode(pixels(7, 16, 16, 3))], decoder="nothing")


def test_a_device_array_needs_a_gpu(cpu, gpu):
    with pytest.raises(EngineError, match="device='cuda'"):
        cpu.encode_batch([pixels(0, 16, 16, 3), there(gpu, pixels(0, 16, 16, 3))])


def test_one_picture_is_coded_there_as_well(cpu, gpu, ways):
    one = photo(3)
    data = gpu.encode(one, **SMALL)
    array = gpu.decode(data)
    assert ways == [("batch", 1)] * 2
    if SIMULATED:
        assert data == cpu.encode(one, **SMALL)
    assert np.abs(array.astype(int) - cpu.decode(data)).max() <= (0 if SIMULATED else 3)


def test_engines_of_another_library(cpu, gpu):
    """What PyTorch is where onnxruntime has no GPU: given the device, they make its engines."""
    asked = []

    def engines(device):
        def load(name, graph, exact):
            asked.append((name, exact))
            return HostEngine(device, OrtEngine(graph, threads=1))

        return load

    made = GpuCodec.load(cpu.bundle, "cuda", engines=engines)
    one = pixels(8, 16, 16, 3)
    assert made.encode_batch([one], [640], [0]) == [cpu.encode(one, **SMALL)]
    assert ("h_s", True) in asked
    assert ("encoder", False) in asked


def test_a_device_ends_with_its_codec(cpu):
    """Its memory is no thread's for ever."""
    codec = OnGpu(str(cpu.bundle.path), device="cpu" if SIMULATED else "cuda", threads=1)
    device = weakref.ref(codec.on_gpu().device)
    assert codec.encode_batch([pixels(0, 16, 16, 3)], **SMALL)
    del codec
    gc.collect()
    assert device() is None
