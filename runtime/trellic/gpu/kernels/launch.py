"""Launches of compiled kernels with little Python.

numba wraps and checks each argument anew at each launch, some forty for a context step, and those
of one picture then take longer than the device needs. The arrays of a batch are like those of the
batch before, so here their numbers are kept with them, and a launch only packs them.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
import threading
from collections.abc import Sequence
from typing import Any, Final

from trellic.errors import EngineError

NUMBERS: Final = "_trellic_numbers"  # attribute of an array that has been an argument
NO_OBJECTS: Final = (0, 0)  # Python's objects behind an array: there are none on a device


class Launcher:
    """A kernel that numba has compiled, ready to be launched.

    Parameters
    ----------
    name : of the kernel
    compiled : numba's dispatcher, with one signature
    ranks : for each argument the number of dimensions of an array, or None for an integer
    """

    def __init__(self, name: str, compiled: Any, ranks: Sequence[int | None]) -> None:
        (overload,) = compiled.overloads.values()
        self._library, self._name, self._ranks = overload._codelibrary, name, tuple(ranks)
        self._driver: Any = importlib.import_module("cuda.bindings.driver")
        # An array is seven numbers if it has one dimension, and two more for each other one.
        count = sum(1 if rank is None else len(NO_OBJECTS) + 3 + 2 * rank for rank in ranks)
        self._format = struct.Struct(f"={count}q")
        self._values = (ctypes.c_int64 * count)()
        first, size = ctypes.addressof(self._values), ctypes.sizeof(ctypes.c_int64)
        self._places = (ctypes.c_void_p * count)(*(first + size * i for i in range(count)))
        self._lock = threading.Lock()  # of the values, which the driver copies in a launch

    def __call__(
        self, blocks: int | tuple[int, int], threads: int, stream: Any, arguments: tuple[Any, ...]
    ) -> None:
        """Launch.

        Raises
        ------
        EngineError
            When the driver refuses.
        """
        flat: list[int] = []
        for rank, argument in zip(self._ranks, arguments, strict=True):
            if rank is None:
                flat.append(argument)
            else:
                flat += _numbers(argument)
        x, y = blocks if isinstance(blocks, tuple) else (blocks, 1)
        driver = self._driver
        function = driver.CUfunction(_integer(self._library.get_cufunc().handle))
        on = driver.CUstream(_integer(stream.handle))
        with self._lock:
            self._format.pack_into(self._values, 0, *flat)
            places = ctypes.addressof(self._places)
            (code,) = driver.cuLaunchKernel(function, x, y, 1, threads, 1, 1, 0, on, places, 0)
        if int(code) != 0:
            raise EngineError(f"the kernel {self._name} could not be launched: {code.name}")


def _numbers(array: Any) -> tuple[int, ...]:
    """Return what kernels are told of an array: numba's order, which `ptx` shows as parameters."""
    try:
        found: tuple[int, ...] = array.__dict__[NUMBERS]
    except KeyError:
        size, item = int(array.size), int(array.dtype.itemsize)
        at = array.device_ctypes_pointer.value or 0
        found = (*NO_OBJECTS, size, item, at, *array.shape, *array.strides)
        setattr(array, NUMBERS, found)
    return found


def _integer(handle: Any) -> int:
    """Return a handle of a driver's object, whichever library made it."""
    value = getattr(handle, "value", handle)  # of ctypes, in older versions of numba-cuda
    return int(value or 0)
