"""Load codecs for the commands, and tell the user if that compiles kernels."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

from trellic.cli.compiling import announced
from trellic.cli.report import CannotGoOn
from trellic.constants import Device, Precision, Trellis
from trellic.errors import TrellicError, UnknownModel
from trellic.support.cores import usable_cores
from trellic.support.quiet import hidden

if TYPE_CHECKING:
    from trellic.codec import Codec


def load_codec(
    model: str,
    device: Device,
    precision: Precision,
    threads: int = 0,
    adapter: str | None = None,
    embed_adapter: bool = False,
) -> Codec:
    """Load a model, and an adapter of it, by names or paths."""
    from trellic.codec import Codec

    return Codec.load(
        model, device, threads, precision, adapter=adapter, embed_adapter=embed_adapter
    )


def find_stream(stream_id: bytes) -> str:
    """Return the path of the installed model that a stream was made with."""
    from trellic.model import bundle

    return str(bundle.find_stream(stream_id.hex()))


class Engines:
    """The codecs of one command, each loaded when it is first needed; for several threads.

    Parameters
    ----------
    device : str
        Where they run.
    precision : "auto", "fp32", "bf16" or "int8"
        Of encoder and decoders.
    adapter : name or path, None for none
        Used to encode pictures, and to decode files that name none.
    embed_adapter : bool
        Put it into the files.

    Attributes
    ----------
    compiled : int
        Kernels that had to be compiled so far.
    """

    def __init__(
        self,
        device: Device,
        precision: Precision = "fp32",
        adapter: str | None = None,
        embed_adapter: bool = False,
    ) -> None:
        self._device, self._precision = device, precision
        self._used = () if adapter is None else (adapter, embed_adapter)
        self._threads = 0
        self.compiled = 0
        self._lock = threading.Lock()
        self._paths: dict[bytes, str] = {}
        self._only: tuple[str, str] | None = None
        self._codecs: dict[str, Codec] = {}
        self._ready: set[tuple[str, int | None, str | None]] = set()

    def share(self, at_once: int) -> None:
        """Divide the processors among this many pictures at the same time."""
        if at_once > 1:
            self._threads = max(1, usable_cores() // at_once)

    def decode_with(self, model: str, stream_id: str) -> None:
        """Decode with a bundle, by name or path, instead of what is installed for each stream.

        ``stream_id`` is the bundle's, in hex digits.
        """
        self._only = model, stream_id

    def encoder(self, model: str, trellis: Trellis) -> Codec:
        """Return a codec that is ready to encode.

        Raises
        ------
        CannotGoOn
            If it cannot be loaded.
        """
        return self.both(model, trellis, None)

    def both(self, model: str, trellis: Trellis, decoder: str | None) -> Codec:
        """Return a codec that is ready to encode and, if a decoder is named, to decode.

        Raises
        ------
        CannotGoOn
            If it cannot be loaded.
        """
        try:
            return self._get(model, trellis, decoder)
        except (TrellicError, OSError, MemoryError) as error:
            raise CannotGoOn(error) from error

    def decoder(self, stream_id: bytes, decoder: str) -> Codec:
        """Return a codec that is ready to decode the streams of an id.

        Raises
        ------
        UnknownModel, UnknownDecoder
            If there is none.
        """
        if self._only is not None:
            model, own = self._only
            if stream_id.hex() != own:
                raise UnknownModel(
                    f"the stream needs a model with stream id {stream_id.hex()}, and {model!r}"
                    f" has {own}",
                    remedy="leave out --model, or name the model that encoded the file",
                )
            return self._get(model, None, decoder)
        with self._lock:
            if stream_id not in self._paths:
                self._paths[stream_id] = find_stream(stream_id)
        return self._get(self._paths[stream_id], None, decoder)

    def _get(self, model: str, trellis: Trellis | None, decoder: str | None) -> Codec:
        with self._lock:
            return self._load(model, trellis, decoder)

    def _load(self, model: str, trellis: Trellis | None, decoder: str | None) -> Codec:
        if (model, trellis, decoder) not in self._ready:
            # Where it finds SciPy, numba imports all of its linear algebra on the first kernel:
            # 0.2 s of every command, for functions that ours do not use.
            with hidden("scipy"), announced() as compiled:
                if model not in self._codecs:
                    self._codecs[model] = load_codec(
                        model, self._device, self._precision, self._threads, *self._used
                    )
                self._codecs[model].warm_up(trellis=trellis, decoder=decoder)
            self.compiled += compiled.count
            self._ready.add((model, trellis, decoder))
            gc.freeze()  # what is loaded by now stays
            gc.enable()
        return self._codecs[model]
