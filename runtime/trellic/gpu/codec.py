"""Pictures of a batch to files and back, as `trellic.codec.Codec` does, on a GPU."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from trellic import bitstream
from trellic.bitstream import Chunks, Stream
from trellic.errors import BadParameter, EngineError, UnknownModel
from trellic.gpu import cache, tensorrt, tensorrt_file
from trellic.gpu.decoder import Arranged, BatchDecoder, Decoding
from trellic.gpu.device import Device, gpu_name
from trellic.gpu.dlpack import DeviceImage
from trellic.gpu.encoder import BatchEncoder
from trellic.gpu.engines import DeviceEngine, Loader, ProbedEngines
from trellic.gpu.given import DeviceArray
from trellic.gpu.ort import OrtDeviceEngine
from trellic.gpu.pictures import Part, PictureEncoder, images_of
from trellic.gpu.predictor import BatchPredictor
from trellic.gpu.replays import Capture, Replays
from trellic.gpu.toolkit import cuda
from trellic.gpu.transforms import BatchTransforms, Graphs, parts
from trellic.integer.networks import outputs
from trellic.model.bundle import Bundle
from trellic.model.choice import choose


class Engines(Graphs, Protocol):
    """All engines of one bundle on a device."""

    def exact(self) -> dict[str, DeviceEngine]:
        """Return the integer networks, each checked by its probe."""


class GpuCodec:
    """One model on one GPU: batches of pictures to bytes and back. For one thread at a time.

    Parameters
    ----------
    bundle : the model
    device
    engines : of the bundle, on that device
    capture : of that device, for decodes as CUDA graphs; None to launch them in parts

    Raises
    ------
    EngineError
        When the model has no context networks.
    """

    def __init__(
        self, bundle: Bundle, device: Device, engines: Engines, capture: Capture | None = None
    ) -> None:
        if "context_0" not in bundle.networks:
            raise EngineError(
                f"model {bundle.manifest.name!r} has no context networks, which the GPU path needs",
                remedy="use --device cpu for it",
            )
        self.bundle, self.device = bundle, device
        self._layout = bundle.manifest.layout
        features = outputs(bundle.networks["h_s"])[0]
        predictor = BatchPredictor(device, self._layout, bundle.tables, engines.exact(), features)
        self.transforms = BatchTransforms(device, self._layout, engines)
        self.encoder, self.decoder = BatchEncoder(predictor), BatchDecoder(predictor)
        self._pictures = PictureEncoder(bundle, device, self.transforms, self.encoder)
        self._replays = None if capture is None else Replays[Decoding](device, capture)

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        kind: str,
        precision: str = "fp32",
        engines: Callable[[Device], Loader] | None = None,
        capture: Callable[[Device], Capture] | None = None,
    ) -> GpuCodec:
        """Load a model on the GPU.

        Parameters
        ----------
        kind : "cuda": all graphs in onnxruntime; "tensorrt": the exact ones there, the others in
            TensorRT if its Python package is there (from the file of engines beside the bundle, if
            there is one), or else through onnxruntime's provider
        precision : "fp32" or "fp16", of the free transforms
        engines : of another library: from the device to a function that makes an engine of a graph
            (its name, the bytes of its ONNX file, whether it must be exact); None for those of
            `kind`
        capture : of the same library: decodes run as one CUDA graph for each layout. This has never
            run on a GPU, so nothing asks for it but benchmarks and tests
        """
        device = Device()
        if engines is not None:
            own = ProbedEngines(bundle, device, engines(device), precision)
            return cls(bundle, device, own, None if capture is None else capture(device))

        def engine(name: str, graph: bytes, exact: bool) -> DeviceEngine:
            if kind != "tensorrt" or exact:
                return OrtDeviceEngine(graph, device, exact=exact)
            if importlib.util.find_spec("tensorrt") is not None:
                made = tensorrt_file.shipped(bundle, graph, device)
                return made or tensorrt.engine_of(bundle, name, graph, device)
            folder = cache.folder(bundle.manifest.stream_id, graph, "dynamic", "free", gpu_name())
            return OrtDeviceEngine(graph, device, exact=False, provider=kind, cache=str(folder))

        return cls(bundle, device, ProbedEngines(bundle, device, engine, precision))

    @property
    def graphs(self) -> bool:
        """Whether decodes are CUDA graphs."""
        return self._replays is not None and self._replays.works

    # ---- encoding ----

    def encode_batch(
        self,
        pictures: Sequence[Any],
        quality16: Sequence[int],
        trellis: Sequence[int],
        chunks: Sequence[Chunks] | None = None,
    ) -> list[bytes]:
        """Encode pictures.

        Parameters
        ----------
        pictures : uint8 (H, W, 3) or (H, W): NumPy arrays, or anything that has
            ``__cuda_array_interface__`` (torch, CuPy, numba) or, on the GPU, ``__dlpack__``; C
            contiguous; of any sizes
        quality16 : quality of each, in 1/16
        trellis : states of each one's trellis, 0 for scalar quantization
        chunks : alpha and metadata of each; none if left out

        Returns
        -------
        the bytes of a ``.tlc`` file for each

        Raises
        ------
        BadImage
            When an array has another type or shape.
        """
        beside = [Chunks()] * len(pictures) if chunks is None else chunks
        return self.encode_parts([Part(pictures, quality16, trellis, beside)])

    def encode_parts(self, parts: Iterable[Part]) -> list[bytes]:
        """Encode parts of a batch, two of which are in flight; the rest is as in `encode_batch`."""
        return self._pictures.encode(parts)

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
        EngineError
            When one is dithered, has layers or patches, or another adapter than the codec.
        UnknownDecoder
            When the model has no such decoder.
        BadParameter
            When the decoder is of another kind.
        """
        name = self.decoder_name(decoder)
        read = [self._read(data, max_pixels) for data in streams]
        return [DeviceImage(array) for array in self.decode_streams(read, name)]

    def decode_streams(self, streams: Sequence[Stream], name: str) -> list[DeviceArray]:
        """Decode streams of this model without dither; see `decode_batch`.

        Parameters
        ----------
        name : from `decoder_name`
        """
        if not streams:
            return []
        headers = [stream.header for stream in streams]
        images = images_of(
            self.bundle,
            [(header.height, header.width) for header in headers],
            [header.quality16 for header in headers],
            [header.trellis for header in headers],
        )
        planes = [image.plane for image in images.images]
        side = [h.slice_side * plane.block for h, plane in zip(headers, planes, strict=True)]
        lanes = [header.lanes for header in headers]
        shapes = [(h.height, h.width) if h.grey else (h.height, h.width, 3) for h in headers]
        segments, beside = [s.segments for s in streams], self.transforms.tables(shapes, images)
        arranged = self.decoder.arrange(images, side, lanes, segments, beside)
        layout = name, tuple(shapes), tuple(side), tuple(lanes), arranged.filled
        pixels, decoding = self._launch(name, arranged, sum(map(math.prod, shapes)), layout)
        decoding.check()
        return parts(pixels, shapes)

    def _launch(
        self, name: str, arranged: Arranged, size: int, layout: Hashable
    ) -> tuple[DeviceArray, Decoding]:
        """Launch a decode; return its pixels, in new memory, which belongs to the caller."""
        device, work = self.device, partial(self._work, name, arranged)
        if self._replays is None:
            pixels = cuda.device_array(size, np.uint8, stream=device.stream)
            return pixels, work(pixels)
        inside = device.empty("decoded pixels", size, np.uint8)
        decoding = self._replays.run(layout, arranged.filled, partial(work, inside))
        pixels = cuda.device_array(size, np.uint8, stream=device.stream)
        pixels.copy_to_device(inside, stream=device.stream)
        return pixels, decoding

    def _work(self, name: str, arranged: Arranged, pixels: DeviceArray) -> Decoding:
        """Do all that the device does in a decode."""
        images = arranged.images
        size = self._layout.latents * images.latent_total
        latents = self.device.empty("latents", size, np.float32)
        decoding = self.decoder.launch(arranged, latents)
        self.transforms.synthesise(name, latents, pixels, images, decoding.staged)
        return decoding

    def decoder_name(self, decoder: str) -> str:
        """Return the name of the one decoder that a text names.

        Raises
        ------
        UnknownDecoder
            When the model has no such decoder.
        BadParameter
            When a batch does not support it, because it is mixed, makes labels, or makes smaller
            pictures.
        """
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

    def _read(self, data: bytes, max_pixels: int) -> Stream:
        stream = bitstream.read(data, max_pixels=max_pixels)
        header, wanted = stream.header, self.bundle.manifest.stream_id
        if header.stream_id.hex() != wanted:
            raise UnknownModel(
                f"a stream with stream id {header.stream_id.hex()} in a batch of model {wanted}",
                remedy="decode the streams of each model in a batch of their own",
            )
        if header.adapter != self.bundle.adapter_id:
            raise EngineError(
                "a stream with an adapter in a batch on the GPU that has another one, or none",
                remedy="decode it with out='host'",
            )
        if header.dither is not None or header.still:
            kind = "a dithered stream" if not header.still else "a stream with a still lattice"
            raise EngineError(
                f"{kind} in a batch on the GPU, which has none of them",
                remedy="decode it with out='host'",
            )
        if stream.patches is not None:
            raise EngineError(
                "a stream with patches in a batch that stays on the GPU, which pastes none",
                remedy="decode it with out='host'",
            )
        if header.layering is not None:
            raise EngineError(
                "a stream with layers in a batch on the GPU, which has none",
                remedy="decode it with out='host'",
            )
        return stream
