"""Launches without numba's part: what the driver is given for each argument."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from trellic.errors import EngineError
from trellic.gpu.kernels.launch import Launcher

RANKS = (1, None, 2, None)
COUNT = 7 + 1 + 9 + 1


class Compiled:
    """Stands for what numba makes of a kernel with one signature."""

    def __init__(self, handle):
        library = SimpleNamespace(get_cufunc=lambda: SimpleNamespace(handle=handle))
        self.overloads = {"its signature": SimpleNamespace(_codelibrary=library)}


class Array:
    """Stands for an array in a device's memory."""

    def __init__(self, shape, dtype, at):
        host = np.zeros(shape, dtype)
        self.shape, self.strides, self.size, self.dtype = shape, host.strides, host.size, host.dtype
        self.device_ctypes_pointer = ctypes.c_void_p(at)
        self.asked = 0

    def __getattribute__(self, name):
        if name == "strides":
            self.asked += 1
        return super().__getattribute__(name)


@pytest.fixture
def driver(monkeypatch):
    """A driver that notes launches; its `code` is what it answers."""
    made = SimpleNamespace(CUfunction=int, CUstream=int, code=0, seen=[])

    def launch(function, *rest):
        *sizes, stream, places, extra = rest
        pointers = (ctypes.c_void_p * COUNT).from_address(places)
        values = [ctypes.c_int64.from_address(one).value for one in pointers]
        made.seen.append((function, sizes, stream, values, extra))
        return (Code(made.code),)

    made.cuLaunchKernel = launch
    monkeypatch.setattr("importlib.import_module", {"cuda.bindings.driver": made}.__getitem__)
    return made


class Code(int):
    """The driver's answer."""

    name = "CUDA_ERROR_INVALID_VALUE"


@pytest.mark.parametrize("handle", [77, ctypes.c_void_p(77)], ids=["number", "ctypes"])
def test_arguments_are_packed_as_numba_does(driver, handle):
    """No objects, items, bytes of an item, address, shape, strides; an integer is itself."""
    launch = Launcher("one", Compiled(handle), RANKS)
    flat, table = Array((5,), np.float32, 4096), Array((2, 3), np.int64, 8192)
    for blocks, sizes in ((9, [9, 1]), ((2, 64), [2, 64])):
        launch(blocks, 32, SimpleNamespace(handle=5), (flat, -3, table, np.int64(8)))
        found, of_grid, stream, values, extra = driver.seen[-1]
        assert (found, stream, extra) == (77, 5, 0)
        assert of_grid == [*sizes, 1, 32, 1, 1, 0]
        assert values == [0, 0, 5, 4, 4096, 5, 4, -3, 0, 0, 6, 8, 8192, 2, 3, 24, 8, 8]
    assert flat.asked == 1  # its numbers stay with it


def test_a_refused_launch_is_an_error(driver):
    driver.code = 1
    arguments = Array((1,), np.uint8, 1), 0, Array((1, 1), np.uint8, 2), 0
    with pytest.raises(EngineError, match="kernel one could not be launched: CUDA_ERROR_INVALID"):
        Launcher("one", Compiled(1), RANKS)(1, 32, SimpleNamespace(handle=0), arguments)
