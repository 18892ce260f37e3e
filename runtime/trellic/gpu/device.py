"""A GPU as the rest of Trellic sees it: a stream, memory that is used again, copies, tables.

Under numba's simulator the same code runs on arrays of NumPy, which is the fake device of tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trellic.errors import EngineError
from trellic.gpu.given import Asked, DeviceArray, DeviceTables, Filled
from trellic.gpu.kernels.kernel import SIMULATED
from trellic.gpu.kernels.memory import clear
from trellic.gpu.toolkit import cuda
from trellic.quantize.search_tables import SearchTables

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

THREADS: Final = 4 if SIMULATED else 256  # of a block of kernels whose threads are independent
ROWS: Final = 1 if SIMULATED else 64  # blocks that share a row of such a kernel's table
MAX_BLOCKS: Final = 1 if SIMULATED else 4096  # enough to fill any GPU; threads take strides
ALIGNED: Final = 256  # bytes: arrays within staged memory begin at multiples
MOST_VIEWS: Final = 4096  # that are kept
GROWTH: Final = 1.25  # a buffer that must grow gets this much more than requested


class Device:
    """One GPU, for one thread at a time; its memory is freed with it.

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
        self.turn = 0  # of two batches in flight: each has memory of its own under every name
        self.moved = 0  # how often memory of a name was replaced by other memory
        self.capturing = False  # whether launches and copies go into a CUDA graph
        self._buffers: dict[tuple[int, str], DeviceArray] = {}
        self._pinned: dict[tuple[int, str], npt.NDArray[np.uint8]] = {}
        self._sent: dict[tuple[int, str], Any] = {}  # events: when it may be written again
        self._views: dict[tuple[Any, ...], DeviceArray] = {}
        self._parts: dict[tuple[Any, ...], tuple[DeviceArray, DeviceArray]] = {}
        self._tables: dict[int, tuple[Tables, DeviceTables]] = {}

    def empty(self, name: str, shape: int | tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return memory of this name with arbitrary content; the last array of the name is invalid.

        Memory grows and is never freed, so a batch like the one before needs no new memory.
        """
        shape = (shape,) if isinstance(shape, int) else shape
        size, key = math.prod(shape), (self.turn, name)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.dtype != dtype or buffer.shape[0] < size:
            room = max(int(size * GROWTH), 1)
            self._move()
            self._forget(self._buffers.pop(key, None))
            buffer = self._buffers[key] = cuda.device_array(room, dtype, stream=self.stream)
        return self.part(buffer, 0, size, shape)

    def part(
        self, array: DeviceArray, start: int, stop: int, shape: tuple[int, ...]
    ) -> DeviceArray:
        """Return a part of a flat array as an array of this shape, the same one each time.

        Making one costs Python more than a launch; those of a batch like the one before are kept.
        """
        key = id(array), start, stop, shape
        found = self._parts.get(key)
        if found is None:
            if len(self._parts) >= MOST_VIEWS:
                self._parts.clear()
            # The array is kept with its part: while it is there no other has its id.
            found = self._parts[key] = array, array[start:stop].reshape(shape)
        return found[1]

    def _forget(self, buffer: DeviceArray | None) -> None:
        """Let go of what keeps an array's memory, and of the parts of its parts."""
        gone = {id(buffer)}
        gone |= {id(part) for array, part in self._parts.values() if array is buffer}
        self._parts = {key: both for key, both in self._parts.items() if key[0] not in gone}
        self._views = {key: one for key, one in self._views.items() if key[1] != id(buffer)}

    def upload(self, name: str, array: npt.NDArray[Any]) -> DeviceArray:
        """Copy an array to memory of this name."""
        array = np.ascontiguousarray(array)
        if 0 in array.strides:  # of a side of length 1, which numba mistakes for a broadcast
            array = array.copy()
        target = self.empty(name, array.shape, array.dtype)
        if array.size:
            target.copy_to_device(array, stream=self.stream)
        return target

    def stage(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, DeviceArray]:
        """Copy many arrays to memory of this name, all in one copy, from pinned memory.

        Arrays of the last call with this name are invalid.
        """
        return self.send(self.fill(name, arrays))

    def fill(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Filled:
        """Put many arrays into pinned memory of this name, once its content has been read."""
        sizes = [array.nbytes for array in arrays.values()]
        ends = np.cumsum([-(-size // ALIGNED) * ALIGNED for size in sizes]).tolist()
        total = max(ends[-1], ALIGNED)
        host, places = self._pinned_memory(name, total), []
        self.empty(name, total, np.uint8)
        for (key, array), size, end in zip(arrays.items(), sizes, ends, strict=True):
            at = end - -(-size // ALIGNED) * ALIGNED
            host[at : at + size] = np.frombuffer(np.ascontiguousarray(array), np.uint8)
            places.append((key, at, array.shape, array.dtype))
        return Filled(name, total, tuple(places))

    def send(self, filled: Filled) -> dict[str, DeviceArray]:
        """Copy what was filled in to the device; return the arrays there."""
        host = self._pinned[self.turn, filled.name][: filled.size]
        self.empty(filled.name, filled.size, np.uint8).copy_to_device(host, stream=self.stream)
        if not self.capturing:
            self.sent(filled)
        return {
            key: self._view(filled.name, at, shape, dtype)
            for key, at, shape, dtype in filled.places
        }

    def sent(self, filled: Filled) -> None:
        """Note that the pinned memory can be filled again as soon as the device gets here."""
        self._sent[self.turn, filled.name].record(self.stream)

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Let no memory move and nothing wait while work goes into a CUDA graph."""
        self.capturing = True
        try:
            with cuda.defer_cleanup():
                yield
        finally:
            self.capturing = False

    def _move(self) -> None:
        self._refuse("new memory")
        self.moved += 1

    def _refuse(self, what: str) -> None:
        if self.capturing:
            raise EngineError(f"{what} while a CUDA graph is captured")

    def _pinned_memory(self, name: str, size: int) -> npt.NDArray[np.uint8]:
        """Return pinned memory of the host, once the device has read its earlier content."""
        key = self.turn, name
        if key in self._sent:
            if not SIMULATED and not self._sent[key].query():
                self._sent[key].synchronize()
        else:
            self._sent[key] = cuda.event()
        return self._pinned_array(name, size)

    def _pinned_array(self, name: str, size: int) -> npt.NDArray[np.uint8]:
        key = self.turn, name
        if key not in self._pinned or len(self._pinned[key]) < size:
            self._move()
            self._pinned[key] = cuda.pinned_array(int(size * GROWTH), np.uint8)
        return self._pinned[key]

    def _view(self, name: str, at: int, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return an array within memory of this name; making one costs more than keeping it."""
        buffer = self._buffers[self.turn, name]
        key = (name, id(buffer), at, shape, dtype)
        if key not in self._views:
            if len(self._views) >= MOST_VIEWS:
                self._views.clear()
            part = buffer[at : at + math.prod(shape) * np.dtype(dtype).itemsize]
            if SIMULATED:
                self._views[key] = type(buffer)(part._ary.view(dtype).reshape(shape))
            else:
                self._views[key] = part.view(dtype).reshape(shape)
        return self._views[key]

    def zeros(self, name: str, shape: int | tuple[int, ...], dtype: Any = np.int32) -> DeviceArray:
        """Return memory of this name full of zeros; the item size must be 4 bytes."""
        shape = (shape,) if isinstance(shape, int) else shape
        flat = self.empty(name, math.prod(shape), dtype)
        clear(*self.spread(flat.shape[0]), self.stream, flat.view(np.int32))
        return flat.reshape(shape)

    def fetch(self, array: DeviceArray) -> npt.NDArray[Any]:
        """Copy an array to the host, after all earlier launches."""
        return self.fetch_all(array)[0]

    def fetch_all(self, *arrays: DeviceArray) -> list[npt.NDArray[Any]]:
        """Copy arrays to the host, after all earlier launches, and wait once."""
        return self.ask("fetched", *arrays).wait()

    def ask(self, key: str, *arrays: DeviceArray) -> Asked:
        """Start copies of arrays to the host, after all earlier launches; do not wait.

        What was asked for with the same key before must have been waited for.
        """
        self._refuse("a copy to the host")
        sizes = [int(array.size) * array.dtype.itemsize for array in arrays]
        ends = np.cumsum([-(-size // ALIGNED) * ALIGNED for size in sizes]).tolist()
        pinned, found = self._pinned_array(key, ends[-1] + ALIGNED), []
        for array, size, end in zip(arrays, sizes, ends, strict=True):
            at = end - -(-size // ALIGNED) * ALIGNED
            host = pinned[at : at + size].view(array.dtype).reshape(array.shape)
            if size:
                array.copy_to_host(host, stream=self.stream)
            found.append(host)
        arrived = cuda.event()
        arrived.record(self.stream)
        return Asked(found, arrived)

    @property
    def stream_address(self) -> int:
        """Address of the stream, for libraries that work on it."""
        return 0 if SIMULATED else int(self.stream.handle)

    def mark(self, stage: str) -> None:
        """Note the end of a stage on the device's clock, if `marks` is a list."""
        if self.marks is not None:
            event = cuda.event()
            event.record(self.stream)
            self.marks.append((stage, event))

    def spread(self, count: int) -> tuple[int, int]:
        """Return blocks and threads for this many independent elements, taken in strides."""
        return min(-(-count // THREADS), MAX_BLOCKS), THREADS

    def grid(self, rows: int) -> tuple[tuple[int, int], int, Any]:
        """Return blocks, threads and stream of a kernel whose blocks (x, y) share row x."""
        return (rows, ROWS), THREADS, self.stream

    def tables(self, tables: Tables) -> DeviceTables:
        """Return a bundle's tables in the device's memory; they are copied once."""
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
    except Exception:  # a driver that is installed but broken
        return False
