"""Whole files through the GPU's code: the same bytes as on the CPU, the same pictures back.

In the simulator everything is as on a GPU but the networks, which onnxruntime runs on its CPU
provider, bound to the same arrays: kernels, tables, launches and plumbing are the real ones.
"""

import dataclasses
import gc
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("numba_cuda")

from tests.runtime.family import make_family, make_seeing

from trellic import bitstream
from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.errors import (
    BadImage,
    BadParameter,
    CorruptStream,
    EngineError,
    ImageTooLarge,
    TrellicWarning,
)
from trellic.geometry import Plane
from trellic.gpu import dlpack
from trellic.gpu.batch import Image, Images, Slices
from trellic.gpu.codec import GpuCodec
from trellic.gpu.device import Device
from trellic.gpu.engines import HostEngine, ProbedEngines
from trellic.gpu.ort import OrtDeviceEngine
from trellic.latents.quantizer import Quantizer

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
TINY = Path(__file__).parent.parent / "data" / "tiny.zip"


@pytest.fixture(scope="module")
def cpu():
    return Codec.load(str(TINY), device="cpu", threads=1)


def engine(graph, device, exact):
    """Make an engine of onnxruntime or, on a GPU without its CUDA build, of PyTorch."""
    if SIMULATED or "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return OrtDeviceEngine(graph, device, exact=exact)
    from trellic_export.torch_engine import engines_on

    return engines_on(device)("", graph, exact)


@pytest.fixture(scope="module")
def gpu(cpu):
    device = Device()
    engines = ProbedEngines(
        cpu.bundle, device, lambda _, graph, exact: engine(graph, device, exact)
    )
    return GpuCodec(cpu.bundle, device, engines)


def picture(rng, *shape):
    """A slope with noise: something in every channel of latents, but little."""
    slope = np.linspace(40, 200, shape[1])[None, :, *[None] * (len(shape) - 2)]
    return np.clip(slope + rng.normal(0, 12, shape), 0, 255).astype(np.uint8)


def test_files_are_those_of_the_cpu(cpu, gpu):
    """Three sizes, a grey one among them, three qualities, two trellises and none: one batch."""
    rng = np.random.default_rng(0)
    shapes, quality, trellis = [(32, 48, 3), (20, 35), (15, 32, 3)], [60, 20, 95], [4, 0, 8]
    pictures = [picture(rng, *shape) for shape in shapes]
    files = gpu.encode_batch(pictures, [16 * q for q in quality], trellis)
    for one, data, q, states in zip(pictures, files, quality, trellis, strict=True):
        if SIMULATED:  # another g_a differs in its last bits, and so may the file
            assert data == cpu.encode(one, quality=q, trellis=states)
    decoded = gpu.decode_batch(files, "quality", 2**20)
    for data, array in zip(files, decoded, strict=True):
        expected = cpu.decode(data)
        assert array.shape == expected.shape
        difference = np.abs(array.copy_to_host().astype(int) - expected)
        assert difference.max() <= (0 if SIMULATED else 3)  # of rounding in g_s


def test_other_strides():
    """The shipped model of stride 4, whose hyper-latents are 2 x 2 latents."""
    fine = Codec.load("cifar", device="cpu", threads=1)
    device = Device()
    engines = ProbedEngines(
        fine.bundle, device, lambda _, graph, exact: engine(graph, device, exact)
    )
    made, one = GpuCodec(fine.bundle, device, engines), picture(np.random.default_rng(2), 5, 13, 3)
    files = made.encode_batch([one], [640], [8])
    if SIMULATED:
        assert files == [fine.encode(one, quality=40, trellis=8)]
    (array,) = made.decode_batch(files, "quality", 2**20)
    difference = np.abs(array.copy_to_host().astype(int) - fine.decode(files[0]))
    assert difference.max() <= (0 if SIMULATED else 3)


def test_each_picture_has_its_own_quality(tmp_path):
    """A model that sees the quality: pictures of one size are one run of a network."""
    seeing = Codec.load(str(make_seeing(TINY, tmp_path / "seeing.zip")), device="cpu", threads=1)
    device, rng = Device(), np.random.default_rng(3)
    engines = ProbedEngines(
        seeing.bundle, device, lambda _, graph, exact: engine(graph, device, exact)
    )
    made = GpuCodec(seeing.bundle, device, engines)
    pictures = [picture(rng, *shape) for shape in [(32, 32, 3), (32, 48, 3), (25, 30, 3)]]
    quality = [80, 30, 45]
    files = made.encode_batch(pictures, [16 * q for q in quality], [8, 0, 0])
    if SIMULATED:
        trellis = {"trellis": 8}, {"trellis": 0}, {"trellis": 0}
        zipped = zip(pictures, quality, trellis, strict=True)
        assert files == [seeing.encode(p, quality=q, **t) for p, q, t in zipped]
    for data, array in zip(files, made.decode_batch(files, "quality", 2**20), strict=True):
        difference = np.abs(array.copy_to_host().astype(int) - seeing.decode(data))
        assert difference.max() <= (0 if SIMULATED else 3)


def test_decoders_by_name(tmp_path):
    """Those that a batch can have on the device; the others are refused before any work."""
    family = Codec.load(str(make_family(TINY, tmp_path / "family.zip")), device="cpu", threads=1)
    device = Device()
    engines = ProbedEngines(
        family.bundle, device, lambda _, graph, exact: engine(graph, device, exact)
    )
    data = family.encode(picture(np.random.default_rng(1), 20, 30, 3))
    made = GpuCodec(family.bundle, device, engines)
    for name in ("perceptual", "perceptual:0"):
        (array,) = made.decode_batch([data], name, 2**20)
        difference = np.abs(array.copy_to_host().astype(int) - family.decode(data, decoder=name))
        assert difference.max() <= (0 if SIMULATED else 3)  # of rounding in g_s
    for name in ("preview", "half", "class", "perceptual:0.5"):
        with pytest.raises(BadParameter, match="decode with out='host'"):
            made.decode_batch([data], name, 2**20)


def test_several_slices_and_wrongly_guessed_lanes(cpu, gpu):
    """Latents from nowhere: loud ones, whose sizes no guess foresees, in slices of 16 latents."""
    rng = np.random.default_rng(1)
    layout, search = cpu.bundle.manifest.layout, cpu.bundle.manifest.search
    specs = [(300, 64, 1500, 0), (64, 64, 16, 0)]
    images, flat = [], {"f": [], "h": []}
    expected = []
    for width, height, quality16, states in specs:
        plane, level = Plane(width, height), cpu.bundle.levels.at(quality16, states)
        f = rng.laplace(0, 3.0, (layout.latents, *plane.latents)).astype(np.float32)
        h = rng.normal(0, 2, (layout.hyper, *plane.hyper)).astype(np.float32)
        lam = search["scalar"].lam
        images.append(Image(plane, level, states, lam))
        flat["f"].append(f.ravel())
        flat["h"].append(h.ravel())
        quantizer = Quantizer(states, lam)
        expected.append(
            cpu._encoding.latents().encode(f, h, plane, level, quantizer, slice_side=16)
        )
    batch = Images(images, layout)
    f, h = (gpu.device.upload(name, np.concatenate(flat[name])) for name in ("f", "h"))
    slices = Slices.all(batch, [16, 16])
    staged = gpu.device.stage("of pictures", gpu.encoder.tables(slices))
    asked = gpu.encoder.ask_sizes(slices, staged, f)
    coded = gpu.encoder.finish(gpu.encoder.launch(gpu.encoder.begin(slices, staged, f, h, asked)))
    assert coded == expected
    assert max(max(one.lanes) for one in coded) > 1


def test_damage_is_found(gpu):
    data = gpu.encode_batch([picture(np.random.default_rng(2), 32, 32, 3)], [960], [4])[0]
    stream = bitstream.read(data)
    for number, segment in enumerate(stream.segments):
        if not segment:
            continue
        broken = bytearray(segment)
        broken[len(broken) // 2] ^= 0x10
        segments = [*stream.segments]
        segments[number] = bytes(broken)
        with pytest.raises(CorruptStream):
            gpu.decode_batch(
                [bitstream.write(bitstream.Stream(stream.header, segments))], "quality", 2**20
            )
    with pytest.raises(ImageTooLarge):
        gpu.decode_batch([data], "quality", 100)


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"dither": 1}, "a dithered stream"), ({"still": True}, "a stream with a still lattice")],
)
def test_other_lattices_are_refused(gpu, fields, named):
    one = picture(np.random.default_rng(4), 32, 32, 3)
    stream = bitstream.read(gpu.encode_batch([one], [960], [0])[0])
    header = dataclasses.replace(stream.header, **fields)
    with pytest.raises(EngineError, match=f"{named} in a batch on the GPU.*out='host'"):
        gpu.decode_batch(
            [bitstream.write(bitstream.Stream(header, stream.segments))], "quality", 2**20
        )


def test_pictures_on_the_device_are_taken_as_they_are(gpu):
    one = picture(np.random.default_rng(3), 20, 30, 3)
    on_device = gpu.device.upload("a picture", one)
    assert gpu.encode_batch([on_device], [160], [0]) == gpu.encode_batch([one], [160], [0])
    for bad in (one.astype(np.float32), one[:, :, :2], one[None]):
        with pytest.raises(BadImage):
            gpu.encode_batch([bad], [160], [0])


class OnlyDlpack:
    """An array of a library that has DLPack and nothing else; of the host, in the simulator."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_in_and_out(gpu):
    one = picture(np.random.default_rng(5), 20, 30, 3)
    (data,) = gpu.encode_batch([one], [160], [0])
    (decoded,) = gpu.decode_batch([data], "quality", 2**20)
    for _ in range(3):  # ours out, and in again
        again = dlpack.taken(OnlyDlpack(decoded), gpu.device.stream_address).copy_to_host()
        assert np.array_equal(again, decoded.copy_to_host())
    both = gpu.encode_batch([OnlyDlpack(decoded), decoded], [160] * 2, [0] * 2)
    assert both[0] == both[1]
    if SIMULATED:  # there NumPy can look at what a GPU's libraries would get, and lend its own
        taken = np.from_dlpack(decoded)
        assert np.array_equal(taken, decoded.copy_to_host())
        assert gpu.encode_batch([OnlyDlpack(one)], [160], [0]) == [data]
        for bad in (one.astype(np.float32), one[:, ::2], one.transpose(1, 0, 2)):
            with pytest.raises(BadImage, match="DLPack"):
                gpu.encode_batch([OnlyDlpack(bad)], [160], [0])
        del taken
    gc.collect()
    assert not dlpack._lent


def test_the_stream_is_handed_over(gpu, monkeypatch):
    """The other library learns who will read, so that its own pending work comes first."""
    asked = []

    class Pending:
        """An array of a GPU, still being made on another stream; DLPack goes before the rest."""

        __cuda_array_interface__ = {}  # noqa: RUF012 - stands for an attribute of arrays

        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, *, stream):
            asked.append(stream)
            raise BufferError("seen")

    monkeypatch.setattr(dlpack, "KINDS", (2, 13))
    monkeypatch.setattr(type(gpu.device), "stream_address", 0x1234)
    with pytest.raises(BufferError, match="seen"):
        gpu.encode_batch([Pending()], [160], [0])
    assert asked == [0x1234]


def test_dlpack_makes_no_copies(gpu):
    image = dlpack.DeviceImage(gpu.device.upload("a picture", np.zeros((2, 3, 3), np.uint8)))
    for wrong in ({"copy": True}, {"dl_device": (99, 0)}):
        with pytest.raises(BufferError, match="no copy"):
            image.__dlpack__(**wrong)


def test_an_engine_with_wrong_integers_is_not_used(cpu):
    device = Device()

    class Wrong(HostEngine):
        def __call__(self, inputs, outputs):
            super().__call__(inputs, outputs)
            outputs[0].copy_to_device(device.fetch(outputs[0]) + np.float32(1))

    def load(name, graph, exact):
        return (Wrong if exact else HostEngine)(device, OrtEngine(graph, threads=1))

    with pytest.warns(TrellicWarning, match="integers of"):
        codec = GpuCodec(cpu.bundle, device, ProbedEngines(cpu.bundle, device, load))
    one = picture(np.random.default_rng(4), 16, 16, 3)
    assert codec.encode_batch([one], [960], [0])[0] == cpu.encode(one, quality=60, trellis=0)


def test_an_engine_that_is_wrong_at_large_shapes_is_not_used(cpu):
    """Its probe of 12 x 12 is right; a library may choose another algorithm for 64 x 64."""
    device = Device()

    class Wrong(HostEngine):
        def __call__(self, inputs, outputs):
            super().__call__(inputs, outputs)
            if max(inputs["x"].shape[2:]) > 12:
                outputs[0].copy_to_device(device.fetch(outputs[0]) + np.float32(1))

    def load(name, graph, exact):
        return (Wrong if exact else HostEngine)(device, OrtEngine(graph, threads=1))

    with pytest.warns(TrellicWarning, match="are wrong on this machine for inputs of") as seen:
        exact = ProbedEngines(cpu.bundle, device, load).exact()
    assert len(seen) == len(cpu.bundle.networks) == len(exact)
    assert not any(isinstance(one, Wrong) for one in exact.values())


def test_algorithms_of_exact_graphs_are_not_searched(monkeypatch):
    from trellic.gpu import ort

    monkeypatch.setattr(ort, "ON_CPU", False)
    monkeypatch.setattr(Device, "stream_address", 7)
    found = {}
    for exact in (True, False):
        ((_, options),) = ort._providers(Device(), exact, "cuda", "")
        assert (options["user_compute_stream"], options["use_tf32"]) == ("7", str(int(not exact)))
        assert options["arena_extend_strategy"] == "kSameAsRequested"
        found[exact] = options["cudnn_conv_algo_search"]
    assert found == {True: "DEFAULT", False: "HEURISTIC"}
