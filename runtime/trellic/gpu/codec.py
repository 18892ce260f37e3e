"""Pictures of a batch to files and back: what `trellic.codec.Codec` does, on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numba import cuda

from trellic import bitstream
from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_QUALITY,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
    TRELLIS_STATES,
)
from trellic.errors import BadImage, BadParameter, CorruptStream, EngineError, UnknownModel
from trellic.geometry import DEFAULT_SLICE_SIDE, slice_grid
from trellic.gpu import cache, tensorrt
from trellic.gpu.batch import Image, Images, Run
from trellic.gpu.coder import BatchCoder, view
from trellic.gpu.device import Device, DeviceArray, default_device, gpu_name
from trellic.gpu.dlpack import DeviceImage, lies_there, taken
from trellic.gpu.engines import DeviceEngine, ProbedEngines
from trellic.gpu.kernels import pixels as pixel_kernels
from trellic.gpu.ort import OrtDeviceEngine
from trellic.gpu.search import ROWS
from trellic.integer.networks import outputs
from trellic.latents.encoder import CodedLatents
from trellic.model.bundle import Bundle
from trellic.model.choice import choose
from trellic.pipeline.rate_control import to_quality16


class Engines(Protocol):
    """The engines of one bundle on a device."""

    def graph(self, name: str) -> DeviceEngine:
        """Return "encoder", "hyper_encoder" or "decoder NAME"."""

    def exact(self) -> dict[str, DeviceEngine]:
        """Return the integer networks, each checked by its probe."""


class GpuCodec:
    """One model on one GPU: batches of pictures to bytes and back. For one thread at a time.

    Parameters
    ----------
    bundle : the model
    device
    engines : of the bundle, on that device
    """

    def __init__(self, bundle: Bundle, device: Device, engines: Engines) -> None:
        self.bundle, self.device, self._engines = bundle, device, engines
        self._layout = bundle.manifest.layout
        if "context_0" not in bundle.networks:
            raise EngineError(
                f"model {bundle.manifest.name!r} has no context networks, which the GPU path needs",
                remedy="use --device cpu for it",
            )
        features = outputs(bundle.networks["h_s"])[0]
        self.coder = BatchCoder(device, self._layout, bundle.tables, engines.exact(), features)

    @classmethod
    def load(cls, bundle: Bundle, kind: str, precision: str = "fp32") -> GpuCodec:
        """Load a model on this thread's GPU.

        Parameters
        ----------
        kind : "cuda": all graphs in onnxruntime; "tensorrt": the exact ones there, the others in
            TensorRT if its Python package is there, or else through onnxruntime's provider
        precision : "fp32" or "fp16", of the free transforms
        """
        device = default_device()

        def engine(name: str, graph: bytes, exact: bool) -> DeviceEngine:
            if kind != "tensorrt" or exact:
                return OrtDeviceEngine(graph, device, exact=exact)
            if importlib.util.find_spec("tensorrt") is not None:
                return tensorrt.engine_of(bundle, name, graph, device)
            folder = cache.folder(bundle.manifest.stream_id, graph, "dynamic", "free", gpu_name())
            return OrtDeviceEngine(graph, device, exact=False, provider=kind, cache=str(folder))

        return cls(bundle, device, ProbedEngines(bundle, device, engine, precision))

    def encode_all(
        self,
        pictures: Sequence[Any],
        *,
        quality: float = DEFAULT_QUALITY,
        trellis: int = DEFAULT_TRELLIS,
        dither: int | None = None,
    ) -> list[bytes]:
        """Encode pictures at one quality; see `encode_batch`."""
        if dither is not None:
            raise BadParameter(
                "dither for arrays on the GPU", remedy="leave it out, or encode arrays on the host"
            )
        if trellis not in TRELLIS_STATES:
            raise BadParameter(
                f"trellis {trellis!r}", expected=f"one of {', '.join(map(str, TRELLIS_STATES))}"
            )
        number = len(pictures)
        return self.encode_batch(pictures, [to_quality16(quality)] * number, [trellis] * number)

    def decode_all(
        self,
        streams: Sequence[bytes],
        *,
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
    ) -> list[DeviceImage]:
        """Decode files to the device; see `decode_batch`."""
        return self.decode_batch(streams, decoder, max_pixels)

    # ---- encoding ----

    def encode_batch(
        self, pictures: Sequence[Any], quality16: Sequence[int], trellis: Sequence[int]
    ) -> list[bytes]:
        """Encode pictures.

        Parameters
        ----------
        pictures : uint8 (H, W, 3) or (H, W): NumPy arrays, or anything that has
            ``__cuda_array_interface__`` (torch, CuPy, numba) or, on the GPU, ``__dlpack__``; C
            contiguous; of any sizes
        quality16 : quality of each, in 1/16
        trellis : states of each one's trellis, 0 for scalar quantization

        Returns
        -------
        the bytes of a ``.tlc`` file for each

        Raises
        ------
        BadImage
            When an array has another type or shape.
        """
        if not pictures:
            return []
        arrays = [_checked(picture) for picture in pictures]
        images = self._images([a.shape for a in arrays], quality16, trellis)
        f, h = self.analyse(arrays, images)
        side = [DEFAULT_SLICE_SIDE * image.plane.block for image in images.images]
        coded = self.coder.encode(images, side, f, h)
        headers = zip(arrays, quality16, trellis, coded, strict=True)
        return [self._file(a, q, states, c) for a, q, states, c in headers]

    def _images(
        self, shapes: Sequence[tuple[int, ...]], quality16: Sequence[int], trellis: Sequence[int]
    ) -> Images:
        search, levels = self.bundle.manifest.search, self.bundle.levels
        made = []
        for shape, quality, states in zip(shapes, quality16, trellis, strict=True):
            lam = search["trellis" if states else "scalar"].lam
            plane = self._layout.plane(shape[1], shape[0])
            made.append(Image(plane, levels.at(quality, states), states, lam))
        return Images(made, self._layout)

    def analyse(self, arrays: Sequence[Any], images: Images) -> tuple[DeviceArray, DeviceArray]:
        """Latents and hyper-latents before their gains, flat."""
        device, layout = self.device, self._layout
        pixels = self._pixels(arrays)
        padded = device.empty("padded", 3 * self._layout.stride**2 * images.latent_total, np.uint8)
        table = _pixel_table([a.shape for a in arrays], images)
        grid = ((len(arrays), ROWS), device.spread(1)[1], device.stream)
        pixel_kernels.pad_pixels(*grid, device.upload("pictures", table), pixels, padded)
        device.mark("pixels in")
        f = device.empty("latents", layout.latents * images.latent_total, np.float32)
        h = device.empty("hyper", layout.hyper * images.z_total, np.float32)
        g_a, h_a = self._engines.graph("encoder"), self._engines.graph("hyper_encoder")
        runs = zip(images.latent_runs, images.z_runs, self._qualities(images), strict=True)
        for run, z_run, quality in runs:
            latents = view(f, run, layout.latents)
            pixels = pixel_view(padded, run, self._layout.stride)
            g_a({"image": pixels, "quality": quality}, [latents])
            h_a({"latents": latents}, [view(h, z_run, layout.hyper)])
        device.mark("g_a and h_a")
        return f, h

    def _qualities(self, images: Images) -> list[DeviceArray]:
        """Bring the pictures' qualities to the device, run by run."""
        return [self.device.upload(f"quality {i}", own) for i, own in enumerate(images.qualities)]

    def _pixels(self, arrays: Sequence[Any]) -> DeviceArray:
        """Bring all pixels together: one copy for those on the host, one for each on the device."""
        device = self.device
        sizes = [int(np.prod(a.shape)) for a in arrays]
        ends = np.cumsum(sizes).tolist()
        if all(isinstance(a, np.ndarray) for a in arrays):
            return device.upload("pixels", np.concatenate([a.reshape(-1) for a in arrays]))
        flat = device.empty("pixels", ends[-1], np.uint8)
        for array, size, end in zip(arrays, sizes, ends, strict=True):
            flat[end - size : end].copy_to_device(array.ravel(), stream=device.stream)
        return flat

    def _file(self, array: Any, quality16: int, trellis: int, coded: CodedLatents) -> bytes:
        header = bitstream.Header(
            width=array.shape[1],
            height=array.shape[0],
            quality16=quality16,
            trellis=trellis,
            steps=len(self._layout.steps),
            stream_id=bytes.fromhex(self.bundle.manifest.stream_id),
            lanes=tuple(coded.lanes),
            grey=array.ndim == 2,
        )
        return bitstream.write(bitstream.Stream(header, coded.segments))

    # ---- decoding ----

    def decode_batch(
        self, streams: Sequence[bytes], decoder: str, max_pixels: int
    ) -> list[DeviceImage]:
        """Decode files.

        Parameters
        ----------
        streams : bytes of ``.tlc`` files of this model, of any sizes, qualities and trellises
        decoder : name of one of the model's picture decoders that reads all latents and makes
            pictures of the full size; those are not mixed here
        max_pixels : refuse larger pictures, each, before memory is taken

        Returns
        -------
        for each an array in the device's memory, uint8 (H, W, 3), or (H, W) where the picture is
        grey; without the alpha channel.

        Raises
        ------
        StreamError
            When one is damaged, too large, or of another model.
        UnknownDecoder
            When the model has no such decoder.
        BadParameter
            When the decoder is of another kind.
        """
        name = self._decoder_name(decoder)
        if not streams:
            return []
        read = [self._read(data, max_pixels) for data in streams]
        headers = [stream.header for stream in read]
        images = self._images(
            [(header.height, header.width) for header in headers],
            [header.quality16 for header in headers],
            [header.trellis for header in headers],
        )
        device, channels = self.device, self._layout.latents
        latents = device.empty("latents", channels * images.latent_total, np.float32)
        planes = [image.plane for image in images.images]
        side = [h.slice_side * plane.block for h, plane in zip(headers, planes, strict=True)]
        lanes = [header.lanes for header in headers]
        self.coder.decode(images, side, lanes, [s.segments for s in read], latents)
        padded = device.empty("padded", 3 * self._layout.stride**2 * images.latent_total, np.uint8)
        g_s = self._engines.graph(f"decoder {name}")
        for run, quality in zip(images.latent_runs, self._qualities(images), strict=True):
            g_s(
                {"latents": view(latents, run, channels), "quality": quality},
                [pixel_view(padded, run, self._layout.stride)],
            )
        device.mark("g_s")
        shapes = [(h.height, h.width) if h.grey else (h.height, h.width, 3) for h in headers]
        return self._crop(padded, shapes, images)

    def _decoder_name(self, decoder: str) -> str:
        manifest = self.bundle.manifest
        choice = choose(manifest.decoders, decoder, manifest.name)
        all_latents = self._layout.latents, len(self._layout.steps)
        read = choice.channels(self._layout), choice.steps(self._layout)
        whole = choice.scale == 1 and read == all_latents
        if len(choice.parts) > 1 or choice.kind != "picture" or not whole:
            raise BadParameter(
                f"decoder {decoder!r} for a batch that stays on the GPU",
                expected="one decoder of pictures of the full size, from all latents",
                remedy="decode with out='host'",
            )
        return choice.parts[0].name

    def _read(self, data: bytes, max_pixels: int) -> bitstream.Stream:
        stream = bitstream.read(data, max_pixels=max_pixels)
        header, wanted = stream.header, self.bundle.manifest.stream_id
        if header.stream_id.hex() != wanted:
            raise UnknownModel(
                f"a stream with stream id {header.stream_id.hex()} in a batch of model {wanted}",
                remedy="decode the streams of each model in a batch of their own",
            )
        plane = self._layout.plane(header.width, header.height)
        grid = slice_grid(*plane.latents, header.slice_side * plane.block)
        expected = 1 + len(self._layout.steps) * len(grid)
        if len(stream.segments) != expected or len(header.lanes) != len(grid):
            raise CorruptStream(
                f"the stream has {len(stream.segments)} segments",
                expected=f"{expected} for its size and model",
            )
        if header.dither is not None:
            raise EngineError(
                "a dithered stream in a batch on the GPU, which has no dither",
                remedy="decode it with out='host'",
            )
        return stream

    def _crop(
        self, padded: DeviceArray, shapes: Sequence[tuple[int, ...]], images: Images
    ) -> list[DeviceImage]:
        device = self.device
        table = _pixel_table(shapes, images)
        sizes = [int(np.prod(shape)) for shape in shapes]
        # Memory of its own: it belongs to the caller from here on.
        out = cuda.device_array(sum(sizes), np.uint8, stream=device.stream)
        grid = ((len(shapes), ROWS), device.spread(1)[1], device.stream)
        pixel_kernels.crop_pixels(*grid, device.upload("pictures", table), padded, out)
        device.mark("pixels out")
        device.stream.synchronize()
        ends = np.cumsum(sizes).tolist()
        parts = zip(shapes, sizes, ends, strict=True)
        return [DeviceImage(out[end - size : end].reshape(shape)) for shape, size, end in parts]


def pixel_view(flat: DeviceArray, run: Run, stride: int) -> DeviceArray:
    """Return the tensor of a run, (count, height, width, 3), in a flat buffer of pixels."""
    size = 3 * stride**2
    height, width = (stride * side for side in run.shape)
    part = flat[size * run.at : size * (run.at + run.count * run.shape[0] * run.shape[1])]
    return part.reshape((run.count, height, width, 3))


def _pixel_table(shapes: Sequence[tuple[int, ...]], images: Images) -> npt.NDArray[np.int64]:
    table = np.zeros((len(shapes), pixel_kernels.PIXEL_COLUMNS), np.int64)
    at = 0
    for row, shape, image in zip(table, shapes, images.images, strict=True):
        row[pixel_kernels.HEIGHT], row[pixel_kernels.WIDTH] = shape[:2]
        row[pixel_kernels.CHANNELS] = 3 if len(shape) == 3 else 1
        row[pixel_kernels.PIXEL_AT] = at
        row[[pixel_kernels.PADDED_HEIGHT, pixel_kernels.PADDED_WIDTH]] = image.plane.padded
        at += int(np.prod(shape))
    table[:, pixel_kernels.PADDED_AT] = 3 * images.layout.stride**2 * images.latent_at
    return table


def _checked(picture: Any) -> Any:
    """Return a picture as a NumPy array or a device array."""
    if isinstance(picture, np.ndarray):
        array = np.ascontiguousarray(picture)
    elif isinstance(picture, DeviceImage):
        array = picture.array
    elif hasattr(picture, "copy_to_host"):
        array = picture
    elif hasattr(picture, "__cuda_array_interface__"):
        array = cuda.as_cuda_array(picture)
    else:
        array = taken(picture) if lies_there(picture) else np.ascontiguousarray(picture)
    good = array.dtype == np.uint8 and array.size and array.ndim in (2, 3)
    if not good or (array.ndim == 3 and array.shape[2] != 3):
        raise BadImage(
            f"a picture of {array.dtype} {tuple(array.shape)}",
            expected="uint8 (H, W, 3) or (H, W), C contiguous, on the host or the GPU",
        )
    return array
