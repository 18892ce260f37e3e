"""How Trellic compiles all CUDA kernels, and how the lanes of a warp exchange values.

A kernel is an ordinary function with an explicit signature. So it can be compiled to PTX without a
GPU (`Kernel.ptx`, ``make ptx``), and run in numba's simulator (``NUMBA_ENABLE_CUDASIM=1``), which
has no warp intrinsics: `ballot` and `shuffle` are written twice here, over shared memory for the
simulator, and nothing else in the kernels differs.

Rules of the kernels, so that both give the same integers: widths are explicit (numba would make
64-bit integers of 32-bit ones), every thread of a block reaches every collective, and no float is
added to a product, which a GPU would contract to one rounding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import config, types
from numba.core import sigutils
from numba.np import numpy_support

from trellic.gpu.kernels.launch import Launcher
from trellic.gpu.toolkit import cuda
from trellic.support.numba import keep

SIMULATED: Final = bool(config.ENABLE_CUDASIM)  # the one switch
WARP: Final = 32
FULL: Final = 0xFFFFFFFF
MAX_REGISTERS: Final = 144  # a thread, of 65,536 a multiprocessor: 14 warps at once
SCRATCH: Final = 256  # int32 of shared memory that a kernel gives its collectives

KERNELS: dict[str, Kernel] = {}  # all kernels of the modules imported so far, by name


class Kernel:
    """A kernel: compiled for the device it runs on at its first launch, or to PTX for any.

    Parameters
    ----------
    function : the kernel
    signature : numba's, such as ``"void(int32[::1], int32)"``
    """

    def __init__(self, function: Callable[..., None], signature: str) -> None:
        self.name = function.__name__
        self.signature = signature
        self._function = function
        self._compiled: Any = None
        self._lock = threading.Lock()

    def __call__(
        self, blocks: int | tuple[int, int], threads: int, stream: Any, *arguments: Any
    ) -> None:
        """Launch; nothing happens for no blocks."""
        if SIMULATED:
            self._check(arguments)
        if blocks and SIMULATED:
            self._ready()[blocks, threads, stream](*arguments)
        elif blocks:
            self._ready()(blocks, threads, stream, arguments)

    def ptx(self, capability: tuple[int, int]) -> str:
        """Compile to PTX; needs NVVM (``numba-cuda[cu13]``) but no GPU."""
        code, _ = cuda.compile_ptx(self._function, self.signature, cc=capability)
        return str(code)

    def _check(self, arguments: tuple[Any, ...]) -> None:
        """Raise TypeError for an argument that a GPU would misread; numba launches unchecked."""
        expected, _ = sigutils.normalize_signature(self.signature)
        for i, (kind, value) in enumerate(zip(expected, arguments, strict=True)):
            wanted = np.ndarray if isinstance(kind, types.Array) else (int, np.integer)
            array = getattr(value, "_ary", value)
            good = isinstance(array, wanted)
            if good and isinstance(kind, types.Array):
                dtype = numpy_support.as_dtype(kind.dtype)
                good = (array.dtype, array.ndim) == (dtype, kind.ndim) and array.flags.c_contiguous
            elif good:
                low, high = np.iinfo(str(kind)).min, np.iinfo(str(kind)).max
                good = low <= int(value) <= high
            if not good:
                raise TypeError(f"{self.name}: argument {i} is {value!r}, not {kind}")

    def _ready(self) -> Any:
        with self._lock:
            if self._compiled is None:
                self._compiled = _compile(self._function, self.signature)
            return self._compiled


def _compile(function: Callable[..., None], signature: str) -> Any:
    if SIMULATED:
        return cuda.jit(function)
    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a single small picture is not a mistake
    from numba.cuda.dispatcher import CUDACache  # not in the simulator

    made = cuda.jit(function, max_registers=MAX_REGISTERS)
    keep(made, function, CUDACache)
    kinds, _ = sigutils.normalize_signature(signature)
    made.compile(kinds)
    ranks = [kind.ndim if isinstance(kind, types.Array) else None for kind in kinds]
    return Launcher(function.__name__, made, ranks)


def kernel(signature: str) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of a function."""

    def make(function: Callable[..., None]) -> Kernel:
        made = Kernel(function, signature)
        KERNELS[made.name] = made
        return made

    return make


def device(function: Callable[..., Any]) -> Any:
    """Make a function that kernels may call; it is always inlined."""
    return cuda.jit(device=True, inline="always")(function)


# ---- how the lanes of a warp exchange values ----
# `shared` is `SCRATCH` int32 of the block's shared memory, which only the simulator uses. There a
# block may have fewer threads than a warp, which costs less time.


def _ballot(flag: Any, shared: Any) -> Any:
    """Return the flags of the warp's lanes as bits, uint32."""
    return np.uint32(cuda.ballot_sync(FULL, flag))


def _shuffle(value: Any, source: Any, shared: Any) -> Any:
    """Return the int32 `value` of lane `source` of the warp."""
    return cuda.shfl_sync(FULL, value, source)


def _simulated_ballot(flag: Any, shared: Any) -> Any:
    me = cuda.threadIdx.x
    shared[me] = 1 if flag else 0
    cuda.syncthreads()
    bits, first = 0, me & ~(WARP - 1)
    for other in range(first, min(first + WARP, cuda.blockDim.x)):
        bits |= int(shared[other]) << (other - first)
    cuda.syncthreads()
    return np.uint32(bits)


def _simulated_shuffle(value: Any, source: Any, shared: Any) -> Any:
    me = cuda.threadIdx.x
    shared[me] = value
    cuda.syncthreads()
    taken = shared[(me & ~(WARP - 1)) + (source & (WARP - 1))]
    cuda.syncthreads()
    return taken


def _product(a: Any, b: Any) -> Any:
    """Return the float32 product rounded on its own, whatever it is added to."""
    return cuda.libdevice.fmul_rn(a, b)


def _simulated_product(a: Any, b: Any) -> Any:
    return np.float32(a) * np.float32(b)


ballot: Final = device(_simulated_ballot if SIMULATED else _ballot)
shuffle: Final = device(_simulated_shuffle if SIMULATED else _shuffle)
product: Final = device(_simulated_product if SIMULATED else _product)
