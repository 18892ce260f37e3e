"""Engines whose inputs and outputs are arrays in the device's memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from trellic.engines import Arrays
from trellic.engines.exact import ExactNetwork
from trellic.engines.pool import find_decoder
from trellic.errors import TrellicWarning
from trellic.gpu.device import Device
from trellic.gpu.given import DeviceArray
from trellic.integer.compiled import CompiledNetwork, gives_bytes, runs_compiled
from trellic.integer.networks import IntegerNetwork, outputs
from trellic.model.bundle import Bundle
from trellic.model.decoders import Graph

LARGE: Final = 64  # of the second probe's planes: those of a whole slice of latents
LARGE_HYPER: Final = 32  # hyper-latents of twice that


class DeviceEngine(Protocol):
    """One graph, loaded on a GPU. Its work is in the order of the device's stream."""

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the graph; `outputs`, in graph order, are C contiguous and of the right shapes.

        The graph gets only the inputs that it has.
        """


Loader = Callable[[str, bytes, bool], DeviceEngine]  # name, ONNX file, whether it must be exact


class HostEngine:
    """An engine of the host with the same interface, through copies.

    With NumPy as the device (numba's simulator), tests use it. On a GPU it is the fallback for an
    exact network whose probe gave other integers.
    """

    def __init__(self, device: Device, engine: Callable[[Arrays], list[Any]]) -> None:
        self._device, self._engine = device, engine

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the graph."""
        results = self._engine({name: self._device.fetch(array) for name, array in inputs.items()})
        for result, output in zip(results, outputs, strict=True):
            host = np.ascontiguousarray(result, output.dtype)
            output.copy_to_device(host, stream=self._device.stream)


class ProbedEngines:
    """The engines of a bundle, each made once; integer networks must pass their probes.

    Parameters
    ----------
    bundle
    device
    load : makes an engine of a graph: its name, the bytes of its ONNX file, and whether it must be
        exact (float32, no TF32)
    precision : "fp32" or "fp16", of the free transforms
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        load: Loader,
        precision: str = "fp32",
    ) -> None:
        self._bundle, self._device, self._load = bundle, device, load
        self._precision = precision
        self._made: dict[str, DeviceEngine] = {}

    def graph(self, name: str) -> DeviceEngine:
        """Return "encoder", "hyper_encoder" or "decoder NAME".

        Raises
        ------
        UnknownDecoder
            When the bundle has no decoder of that name.
        """
        if name not in self._made:
            graph = self._bundle.graph(self._graph(name), self._precision)
            self._made[name] = self._load(name, graph, False)
        return self._made[name]

    def _graph(self, name: str) -> Graph:
        manifest = self._bundle.manifest
        if name == "encoder":
            return manifest.encoder
        if name == "hyper_encoder":
            return manifest.hyper_encoder
        return find_decoder(self._bundle, name.removeprefix("decoder "))

    def exact(self) -> dict[str, DeviceEngine]:
        """Return the integer networks; one whose probe fails runs as plain integers on the host."""
        return {name: self._probed(name) for name in self._bundle.networks}

    def _probed(self, name: str) -> DeviceEngine:
        manifest, network = self._bundle.manifest, self._bundle.networks[name]
        engine = self._load(name, self._bundle.graph(manifest.exact[name]), True)
        checked = ExactNetwork(
            name, network, manifest.probes[name], lambda: _Lifted(self._device, engine, network)
        )
        lifted = _Lifted(self._device, engine, network)
        if checked.exact_engine and self._is_exact_at_large(name, lifted):
            return engine
        return HostEngine(self._device, _Batched(network))

    def _is_exact_at_large(self, name: str, engine: _Lifted) -> bool:
        """Check an engine at the shape of a real picture, where it may choose other algorithms."""
        network = self._bundle.networks[name]
        side = LARGE_HYPER if name == "h_s" else LARGE
        values = np.random.default_rng(0).integers(-127, 128, (network.channels_in, side, side))
        x = values.astype(np.float32)
        in_bytes = name == "h_s" or gives_bytes(self._bundle.networks["h_s"])
        if in_bytes and runs_compiled(network):
            right = [one[0] for one in CompiledNetwork(network)({"x": x[None]})]
        else:
            right = network(x)
        found = engine({"x": x[None]})
        if all(np.array_equal(a[0], b) for a, b in zip(found, right, strict=True)):
            return True
        warnings.warn(
            f"the engine's integers of {name!r} are wrong on this machine for inputs of"
            f" {side} x {side}; using the plain integer network, which is slower",
            TrellicWarning,
            stacklevel=2,
        )
        return False


class _Lifted:
    """An engine on the device with the interface of one on the host, for the probe."""

    def __init__(self, device: Device, engine: DeviceEngine, network: IntegerNetwork) -> None:
        self._device, self._engine, self._channels = device, engine, outputs(network)
        self._scale = 1 << sum(layer.kind == "shuffle" for layer in network.layers)

    def __call__(self, inputs: Arrays) -> list[Any]:
        x = np.ascontiguousarray(inputs["x"], np.float32)
        sides = [self._scale * side for side in x.shape[2:]]
        made = [
            self._device.empty(f"probed {i}", (len(x), channels, *sides), np.float32)
            for i, channels in enumerate(self._channels)
        ]
        self._engine({"x": self._device.upload("probe", x)}, made)
        return [self._device.fetch(one) for one in made]


class _Batched:
    """The plain integers of a network with the interface of an engine."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._network = network

    def __call__(self, inputs: Arrays) -> list[Any]:
        results = [self._network(x) for x in inputs["x"]]
        return [np.stack(column) for column in zip(*results, strict=True)]
