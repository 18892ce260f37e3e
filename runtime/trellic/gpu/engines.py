"""Engines whose inputs and outputs are arrays in the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from trellic._device import Device, DeviceArray
from trellic.engines import Engine


class DeviceEngine(Protocol):
    """One graph, loaded on a GPU. What it does is done in the order of the device's stream."""

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the graph; `outputs`, in graph order, are C contiguous and of the right shapes."""


class HostEngine:
    """An engine of the host behind the same calls, through copies.

    With NumPy behind the device (numba's simulator) this is how the plumbing is tested; on a GPU it
    is the fall-back for an exact network whose probe gave other integers.
    """

    def __init__(self, device: Device, engine: Engine | Callable[[Any], list[Any]]) -> None:
        self._device, self._engine = device, engine

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the graph."""
        results = self._engine({name: self._device.fetch(array) for name, array in inputs.items()})
        for result, output in zip(results, outputs, strict=True):
            host = np.ascontiguousarray(result, output.dtype)
            output.copy_to_device(host, stream=self._device.stream)
