"""A GPU as the rest of Trellic sees it: a stream, memory that is used again, copies, tables.

Under numba's simulator the same code runs on arrays of NumPy: that is the fake device of the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.errors import EngineError
from trellic.gpu.kernels.kernel import SIMULATED
from trellic.gpu.kernels.memory import clear
from trellic.gpu.toolkit import cuda
from trellic.quantize.search_tables import SearchTables

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

DeviceArray = Any  # numba's device array: C contiguous, with __cuda_array_interface__
THREADS: Final = 4 if SIMULATED else 256  # of a block of kernels whose threads are independent
ROWS: Final = 1 if SIMULATED else 64  # blocks that share a row of such a kernel's table
MAX_BLOCKS: Final = 1 if SIMULATED else 4096  # enough to fill any GPU; threads take strides
GROWTH: Final = 1.25  # a buffer that must grow gets so much more than it was asked for


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


class Device:
    """One GPU, for one thread at a time; its memory goes with it.

    Raises
    ------
    EngineError
        When there is no GPU, no driver, or not the libraries that kernels need.
    """

    def __init__(self) -> None:
        try:
            self.stream = cuda.stream()
        except Exception as error:  # numba's errors here share no base class
            raise EngineError(
                "no CUDA device can be used",
                expected="an NVIDIA GPU, its driver, and the extra trellic[gpu]",
            ) from error
        self.marks: list[tuple[str, Any]] | None = None  # a list here turns stage times on
        self._buffers: dict[str, DeviceArray] = {}
        self._tables: dict[int, tuple[Tables, DeviceTables]] = {}

    def empty(self, name: str, shape: int | tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return memory of this name, with whatever is in it; the last array of the name is gone.

        Memory grows and is never given back: a batch like the one before takes none.
        """
        shape = (shape,) if isinstance(shape, int) else shape
        size = int(np.prod(shape))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.dtype != dtype or buffer.shape[0] < size:
            room = max(int(size * GROWTH), 1)
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = cuda.device_array(room, dtype, stream=self.stream)
        return buffer[:size].reshape(shape)

    def upload(self, name: str, array: npt.NDArray[Any]) -> DeviceArray:
        """Copy an array to memory of this name."""
        array = np.ascontiguousarray(array)
        if 0 in array.strides:  # of a side of length 1; numba takes that for a broadcast
            array = array.copy()
        target = self.empty(name, array.shape, array.dtype)
        if array.size:
            target.copy_to_device(array, stream=self.stream)
        return target

    def zeros(self, name: str, shape: int | tuple[int, ...], dtype: Any = np.int32) -> DeviceArray:
        """Return memory of this name full of zeros; the item size must be 4 bytes."""
        shape = (shape,) if isinstance(shape, int) else shape
        flat = self.empty(name, int(np.prod(shape)), dtype)
        clear(*self.spread(flat.shape[0]), self.stream, flat.view(np.int32))
        return flat.reshape(shape)

    def fetch(self, array: DeviceArray) -> npt.NDArray[Any]:
        """Copy an array to the host, after all that was launched before."""
        if not array.size:
            return np.empty(array.shape, array.dtype)
        host: npt.NDArray[Any] = array.copy_to_host(stream=self.stream)
        self.stream.synchronize()
        return host

    @property
    def stream_address(self) -> int:
        """Address of the stream, for libraries that work on it."""
        return 0 if SIMULATED else int(self.stream.handle)

    def mark(self, stage: str) -> None:
        """Note the end of a stage on the device's clock, where `marks` is a list."""
        if self.marks is not None:
            event = cuda.event()
            event.record(self.stream)
            self.marks.append((stage, event))

    def spread(self, count: int) -> tuple[int, int]:
        """Return blocks and threads for so many independent elements, taken in strides."""
        return min(-(-count // THREADS), MAX_BLOCKS), THREADS

    def grid(self, rows: int) -> tuple[tuple[int, int], int, Any]:
        """Return blocks, threads and stream of a kernel whose blocks (x, y) share row x."""
        return (rows, ROWS), THREADS, self.stream

    def tables(self, tables: Tables) -> DeviceTables:
        """Return a bundle's tables in the device's memory, put there once."""
        found = self._tables.get(id(tables))
        if found is None:
            found = self._tables[id(tables)] = (tables, self._upload_tables(tables))
        return found[1]

    def _upload_tables(self, tables: Tables) -> DeviceTables:
        levels = SearchTables.of(tables)
        arrays = tables.coding._asdict() | {
            "rate": levels.rate,
            "rate_zero": levels.zero.ravel(),
            "off": levels.off.ravel(),
        }
        on = {
            name: cuda.to_device(np.ascontiguousarray(array), self.stream)
            for name, array in arrays.items()
        }
        return DeviceTables(**on, max_off=levels.max_off, step=levels.step, scales=tables.scales)


def address(array: DeviceArray) -> int:
    """Return where an array lies in the device's memory."""
    if SIMULATED:
        return int(array.ctypes.data)
    return int(array.__cuda_array_interface__["data"][0])


def gpu_name() -> str:
    """Return the GPU's name and compute capability."""
    if SIMULATED:
        return "simulator"
    found = cuda.get_current_device()
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return f"{name} {found.compute_capability}"


def available() -> bool:
    """Whether kernels can run here."""
    try:
        return bool(cuda.is_available())
    except Exception:  # a driver that is there but broken
        return False
