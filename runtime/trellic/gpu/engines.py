"""Engines whose inputs and outputs are arrays in the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from trellic.engines import Arrays
from trellic.engines.exact import ExactNetwork
from trellic.engines.pool import find_decoder
from trellic.gpu.device import Device, DeviceArray
from trellic.integer.networks import IntegerNetwork, outputs
from trellic.model.bundle import Bundle
from trellic.model.decoders import Graph


class DeviceEngine(Protocol):
    """One graph, loaded on a GPU. What it does is done in the order of the device's stream."""

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the graph; `outputs`, in graph order, are C contiguous and of the right shapes.

        Of the inputs the graph gets those that it has.
        """


class HostEngine:
    """An engine of the host behind the same calls, through copies.

    With NumPy behind the device (numba's simulator) this is how the plumbing is tested; on a GPU it
    is the fall-back for an exact network whose probe gave other integers.
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
        load: Callable[[str, bytes, bool], DeviceEngine],
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
        return engine if checked.exact_engine else HostEngine(self._device, _Batched(checked))


class _Lifted:
    """An engine on the device behind the calls of one on the host, for the probe."""

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
    """A network of one input behind the calls of an engine."""

    def __init__(self, network: ExactNetwork) -> None:
        self._network = network

    def __call__(self, inputs: Arrays) -> list[Any]:
        results = [self._network(x) for x in inputs["x"]]
        return [np.stack(column) for column in zip(*results, strict=True)]
