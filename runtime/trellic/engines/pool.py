"""The engines of one bundle, each made once, when it is first needed."""

from __future__ import annotations

import threading

from trellic.constants import MAX_THREADS
from trellic.engines import Engine
from trellic.engines.exact import ExactNetwork
from trellic.engines.openvino import OpenVinoEngine
from trellic.engines.ort import OrtEngine, host_of, resolve_device
from trellic.engines.precision import choose
from trellic.errors import BadParameter
from trellic.integer.compiled import CompiledNetwork, gives_bytes, runs_compiled
from trellic.model import choice
from trellic.model.bundle import Bundle
from trellic.model.decoders import Graph
from trellic.support import heap
from trellic.support.numeric import is_whole


def find_decoder(bundle: Bundle, name: str) -> Graph:
    """Return the graph of a decoder.

    Raises
    ------
    UnknownDecoder
        When the bundle has no decoder of that name.
    """
    return choice.find(bundle.manifest.decoders, name, bundle.manifest.name).graph


class EnginePool:
    """Loads the graphs of a bundle on one device.

    Parameters
    ----------
    bundle : Bundle
    device : "auto", "cpu", "cuda" or "tensorrt"
    threads : threads of each engine, 0 for the engine's own choice
    precision : "auto", "fp32", "bf16", "int8" or "fp16": of encoder and decoders (see `choose`)

    Attributes
    ----------
    precision : the chosen one: "fp32", "bf16", "int8" or "fp16"

    Raises
    ------
    BadParameter
        When ``threads`` is not a whole number from 0 to 1024, or the precision does not fit the
        device.
    EngineError
        When the bundle or the processor does not support the precision.
    MissingExtra
        When it is "bf16" and OpenVINO is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        threads: int = 0,
        precision: str = "fp32",
    ) -> None:
        if not is_whole(threads) or not 0 <= threads <= MAX_THREADS:
            raise BadParameter(
                f"threads {threads!r}",
                expected=f"a whole number up to {MAX_THREADS}, 0 for automatic",
            )
        self.bundle, self.threads = bundle, int(threads)
        self.device = resolve_device(device)
        self._host = host_of(self.device)
        self.precision = choose(precision, bundle, self.device)
        self._engines: dict[str, Engine] = {}
        self._exact: dict[str, ExactNetwork] = {}
        self._lock = threading.RLock()
        heap.keep_freed()

    def encoder(self) -> Engine:
        """Return g_a: "image", and "quality" if it sees that, to "latents"."""
        return self._once("encoder", self.bundle.manifest.encoder)

    def hyper_encoder(self) -> Engine:
        """Return h_a: "latents" to "hyper"."""
        return self._once("hyper_encoder", self.bundle.manifest.hyper_encoder)

    def decoder(self, name: str) -> Engine:
        """Return a g_s: "latents", and "quality" if it sees that, to "image" or "logits".

        Raises
        ------
        UnknownDecoder
            When the bundle has no decoder of that name.
        """
        return self._once(f"decoder {name}", find_decoder(self.bundle, name))

    def exact(self, steps: int | None = None) -> dict[str, ExactNetwork]:
        """Return the integer networks, each in an engine that passed its probe.

        Parameters
        ----------
        steps : leading context steps that they are needed for; None for all
        """
        names = self.bundle.network_names[: None if steps is None else 1 + steps]
        with self._lock:
            for name in names:
                if name not in self._exact:
                    self._exact[name] = self._exact_network(name)
            return {name: self._exact[name] for name in names}

    def _exact_network(self, name: str) -> ExactNetwork:
        manifest, network = self.bundle.manifest, self.bundle.networks[name]
        in_bytes = name == "h_s" or gives_bytes(self.bundle.networks["h_s"])

        def load() -> Engine:
            if self._host == "cpu" and in_bytes and runs_compiled(network):
                return CompiledNetwork(network, self.threads)
            graph = self.bundle.graph(manifest.exact[name])
            return OrtEngine(graph, self._host, self.threads)

        return ExactNetwork(name, network, manifest.probes[name], load)

    def _once(self, key: str, graph: Graph) -> Engine:
        with self._lock:
            if key not in self._engines:
                self._engines[key] = self._load(graph)
            return self._engines[key]

    def _load(self, graph: Graph) -> Engine:
        data = self.bundle.graph(graph, self.precision)
        if self.precision == "bf16":
            return OpenVinoEngine(data, self.threads)
        return OrtEngine(data, self._host, self.threads)
