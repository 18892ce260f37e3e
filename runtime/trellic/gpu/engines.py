"""Engines whose inputs and outputs are arrays in the device's memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from trellic.engines import Arrays
from trellic.engines.exact import PROBE_SIZE, digest, probe_input
from trellic.engines.pool import find_decoder
from trellic.errors import TrellicWarning
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
        scale = PROBE_SIZE << sum(layer.kind == "shuffle" for layer in network.layers)
        shapes = [(1, channels, scale, scale) for channels in outputs(network)]
        probe = self._device.upload("probe", probe_input(network.channels_in)[None])
        made = [
            self._device.empty(f"probed {i}", shape, np.float32) for i, shape in enumerate(shapes)
        ]
        engine({"x": probe}, made)
        if digest([self._device.fetch(one)[0] for one in made]) == manifest.probes[name]:
            return engine
        warnings.warn(
            f"the GPU's integers of {name!r} are wrong on this machine; "
            "using the plain integer network on the CPU, which is much slower",
            TrellicWarning,
            stacklevel=2,
        )
        return HostEngine(self._device, _Plain(network))


class _Plain:
    """An integer network behind the calls of an engine."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._network = network

    def __call__(self, inputs: Arrays) -> list[Any]:
        results = [self._network(x) for x in inputs["x"]]
        return [np.stack(column) for column in zip(*results, strict=True)]
