"""The engines of one bundle, made when they are first needed, each once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from ..bundle import Bundle, Graph
from ..errors import BadParameter, UnknownDecoder
from . import Engine
from .exact import ExactNetwork
from .ort import OrtEngine, resolve_device


def find_decoder(bundle: Bundle, name: str) -> Graph:
    """Return the graph of a decoder.

    Raises
    ------
    UnknownDecoder
        When the bundle has no decoder of that name.
    """
    decoders = bundle.manifest.decoders
    if name not in decoders:
        raise UnknownDecoder(
            f"model {bundle.manifest.name!r} has no decoder {name!r}",
            remedy=f"it has: {', '.join(sorted(decoders))}",
        )
    return decoders[name].graph


class EnginePool:
    """Loads the graphs of a bundle on one device.

    Parameters
    ----------
    bundle : Bundle
    device : "auto", "cpu", "cuda" or "tensorrt"
    threads : threads of each engine, 0 for the engine's own choice

    Raises
    ------
    BadParameter
        When ``threads`` is no whole number, or below 0.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int = 0) -> None:
        if not isinstance(threads, (int, np.integer)) or threads < 0:
            raise BadParameter(f"threads {threads!r}", expected="a whole number, 0 for automatic")
        self.bundle, self.threads = bundle, int(threads)
        self.device = resolve_device(device)
        self._engines: dict[str, Engine] = {}
        self._exact: dict[str, ExactNetwork] | None = None
        self._lock = threading.RLock()

    def encoder(self) -> Engine:
        """Return g_a: "image" to "latents"."""
        return self._once("encoder", self.bundle.manifest.encoder)

    def hyper_encoder(self) -> Engine:
        """Return h_a: "latents" to "hyper"."""
        return self._once("hyper_encoder", self.bundle.manifest.hyper_encoder)

    def decoder(self, name: str) -> Engine:
        """Return a g_s: "latents" to "image".

        Raises
        ------
        UnknownDecoder
            When the bundle has no decoder of that name.
        """
        return self._once(f"decoder {name}", find_decoder(self.bundle, name))

    def exact(self) -> dict[str, ExactNetwork]:
        """Return the integer networks, each in an engine that passed its probe."""
        with self._lock:
            if self._exact is None:
                self._exact = {name: self._exact_network(name) for name in self.bundle.networks}
            return self._exact

    def _exact_network(self, name: str) -> ExactNetwork:
        manifest = self.bundle.manifest
        load: Callable[[], Engine] = lambda: self._load(manifest.exact[name])  # noqa: E731
        return ExactNetwork(name, self.bundle.networks[name], manifest.probes[name], load)

    def _once(self, key: str, graph: Graph) -> Engine:
        with self._lock:
            if key not in self._engines:
                self._engines[key] = self._load(graph)
            return self._engines[key]

    def _load(self, graph: Graph) -> Engine:
        return OrtEngine(self.bundle.graph(graph), self.device, self.threads)
