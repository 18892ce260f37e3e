"""What a `trellic.gpu.device.Device` gives out beside arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

DeviceArray = Any  # numba's device array: C contiguous, with __cuda_array_interface__


class DeviceTables(NamedTuple):
    """The tables of a bundle in the device's memory."""

    entry: DeviceArray  # see `trellic.entropy.tables.CodingTables`
    zero: DeviceArray
    half_width: DeviceArray
    first: DeviceArray
    rate: DeviceArray  # see `trellic.quantize.search_tables.SearchTables`; flat, as all of these
    rate_zero: DeviceArray
    off: DeviceArray
    max_off: int
    step: int
    scales: int


@dataclass(frozen=True)
class Asked:
    """Arrays on their way to the host; what is launched behind them keeps the device busy.

    Attributes
    ----------
    arrays : pinned memory of the host, not to be read before `wait`
    arrived : the event behind the copies
    """

    arrays: list[npt.NDArray[Any]]
    arrived: Any

    def wait(self) -> list[npt.NDArray[Any]]:
        """Wait until they are there; return copies."""
        self.arrived.synchronize()
        return [array.copy() for array in self.arrays]


@dataclass(frozen=True)
class Filled:
    """Arrays in pinned memory of the host, in one piece.

    Attributes
    ----------
    name : of that memory, and of the memory on the device that it is meant for
    size : bytes
    places : name, first byte, shape and type of each array
    """

    name: str
    size: int
    places: tuple[tuple[str, int, tuple[int, ...], np.dtype[Any]], ...]
