"""A loaded model: its engines, the other models that streams name, and its GPU."""

from __future__ import annotations

import importlib.util
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from trellic import bitstream
from trellic.constants import COLOURS, DEFAULT_MODEL, Device, Precision, Trellis
from trellic.engines.cuda import OTHERS
from trellic.engines.ort import torch_stands_in
from trellic.engines.pool import EnginePool
from trellic.errors import BadAdapter, EngineError, MissingExtra
from trellic.images import Picture
from trellic.model import adapters, bundle
from trellic.model.adapter import Adapter
from trellic.model.decoders import DecoderInfo
from trellic.pipeline.again import Resaver
from trellic.pipeline.decoder import WARM_SIDE, StreamDecoder
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.transcode import Transcoder
from trellic.quantize.cpu import warm_up as warm_up_search
from trellic.support.bounds import Limits, limited

if TYPE_CHECKING:
    from trellic.gpu.codec import GpuCodec

MOST_ADAPTERS = 4  # that stay loaded, because each stream of a stranger may hold another one


class Loaded:
    """The part of `Codec` that all its calls share; its parameters are those of `Codec`."""

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        device: Device = "auto",
        threads: int = 0,
        precision: Precision = "fp32",
        limits: Limits | str | None = None,
        adapter: Adapter | str | os.PathLike[str] | None = None,
        embed_adapter: bool = False,
    ) -> None:
        self._within = partial(limited, Limits() if limits is None else limits)
        with self._within():  # an unknown name is an error here
            self.bundle = bundle.Bundle(bundle.find(model))
            if adapter is not None:
                if not isinstance(adapter, Adapter):
                    adapter = adapters.find(adapter, self.bundle.manifest)
                self.bundle = self.bundle.with_adapter(adapter, embed=embed_adapter)
        self._asked = (device, threads, precision, limits)
        self._pool = EnginePool(self.bundle, device, threads, precision)
        self._encoding = StreamEncoder(self.bundle, self._pool)
        self._decoding = StreamDecoder(self.bundle, self._pool)
        self._transcoding = Transcoder(self.bundle, self._pool)
        self._resaving = Resaver(self._encoding, self._decoding)
        self._others: dict[tuple[str, bytes | None], Self] = {}
        self._local = threading.local()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        device: Device = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        limits: Limits | str | None = None,
        adapter: Adapter | str | os.PathLike[str] | None = None,
        embed_adapter: bool = False,
    ) -> Self:
        """Load a model, as the constructor does."""
        return cls(model, device, threads or 0, precision, limits, adapter, embed_adapter)

    def __repr__(self) -> str:
        device, threads, precision, limits = self._asked
        held = "" if limits is None else f", limits={limits!r}"
        if self.bundle.adapter is not None:
            held += f", adapter={self.bundle.adapter.name!r}"
            held += f", embed_adapter={self.bundle.embedded is not None}"
        return (
            f"Codec({str(self.bundle.path)!r}, device={device!r}, threads={threads},"
            f" precision={precision!r}{held})"
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """Pickle the arguments: a copy loads its own engines from the same bundle."""
        used = self.bundle.adapter, self.bundle.embedded is not None
        return type(self), (os.path.abspath(self.bundle.path), *self._asked, *used)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.bundle.manifest.name

    @property
    def device(self) -> str:
        """Device that the engines run on."""
        return self._pool.device

    @property
    def precision(self) -> str:
        """Precision of the encoder and the decoders: "fp32", "bf16", "int8" or "fp16"."""
        return self._pool.precision

    @property
    def decoders(self) -> dict[str, DecoderInfo]:
        """Decoders of the model, by name."""
        return dict(self.bundle.manifest.decoders)

    def warm_up(self, *, trellis: Trellis | None = None, decoder: str | None = None) -> None:
        """Load engines, integer networks and kernels now, so that the first calls are fast.

        Parameters
        ----------
        trellis : number of trellis states for encoding; None if you will not encode
        decoder : name of the decoder; None if you will not decode
        """
        if trellis is not None:
            bands = self.bundle.manifest.layout.bands
            blank = Picture(np.zeros((WARM_SIDE, WARM_SIDE, bands), np.uint8))
            self._encoding.picture(blank, EncodeOptions(trellis=trellis))
            warm_up_search(trellis, self.bundle.tables)
        if decoder is not None:
            self._decoding.warm_up(decoder)

    def _improves(self, data: bytes | memoryview) -> bool:
        """Whether a stream names no adapter, and the codec has one that changes decoders alone.

        Latents are the same with such an adapter and without it.
        """
        own = self.bundle.adapter
        if own is None or own.encoder is not None:
            return False
        header = bitstream.read_header(data)
        ours = header.stream_id.hex() == self.bundle.manifest.stream_id
        return ours and header.adapter is None

    def _codec_for(self, data: bytes | memoryview, *, best_effort: bool = False) -> Self:
        """Return the codec of a stream's model and adapter, loaded like this one."""
        header = bitstream.read_header(data)
        wanted, own = header.stream_id.hex(), self.bundle.manifest.stream_id
        if (wanted, header.adapter) == (own, self.bundle.adapter_id):
            return self
        adapter = adapters.of_stream(data, header, best_effort=best_effort)
        try:
            return self._other(wanted, adapter)
        except BadAdapter as error:
            adapters.do_without(f"an adapter that does not fit ({error})")
            return self._other(wanted, None)

    def _other(self, stream_id: str, adapter: Adapter | None) -> Self:
        """Return the codec of a model and an adapter; codecs of adapters stay loaded for a while.

        Ids of adapters are short enough to be forged, so whole digests are compared.
        """
        own = stream_id == self.bundle.manifest.stream_id
        if own and adapter is self.bundle.adapter:
            return self
        key = stream_id, None if adapter is None else adapter.digest
        codec = self._others.get(key)
        if codec is None:
            path = self.bundle.path if own else bundle.find_stream(stream_id)
            codec = type(self)(path, *self._asked, adapter)
            adapted = [known for known in list(self._others) if known[1] is not None]
            if adapter is not None and len(adapted) >= MOST_ADAPTERS:
                self._others.pop(adapted[0], None)
            self._others[key] = codec
        return codec

    # ---- on a GPU ----

    def _batches_on_gpu(self) -> bool:
        """Whether pictures of the host can be coded in batches on a GPU."""
        if self.device == "cpu" or "context_0" not in self.bundle.networks:
            return False
        if self.bundle.manifest.layout.bands != COLOURS:
            return False
        return importlib.util.find_spec("numba_cuda") is not None

    def on_gpu(self) -> GpuCodec:
        """Return this model on the codec's GPU, for the calling thread.

        Raises
        ------
        EngineError
            If the codec was loaded for the CPU, or the model is of other bands than red, green and
            blue.
        MissingExtra
            If numba-cuda is not installed.
        """
        if self.device == "cpu":
            raise EngineError(
                "arrays on a GPU with a codec that runs on the CPU",
                remedy="load it with device='cuda', on a machine with a GPU and trellic[gpu]",
            )
        if self.bundle.manifest.layout.bands != COLOURS:
            raise EngineError(
                f"a batch on a GPU of a model of {self.bundle.manifest.layout.bands} bands",
                remedy="encode and decode one by one",
            )
        try:
            from trellic.gpu.codec import GpuCodec
        except ImportError as error:
            raise MissingExtra.of(error.name or "numba_cuda", "gpu", "a batch on a GPU") from error
        if not hasattr(self._local, "gpu"):
            outside = self.device == "cuda" and torch_stands_in()
            engines = importlib.import_module(OTHERS).engines_on if outside else None
            self._local.gpu = GpuCodec.load(self.bundle, self.device, self.precision, engines)
        gpu: GpuCodec = self._local.gpu
        return gpu
