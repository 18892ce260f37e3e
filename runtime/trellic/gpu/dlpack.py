"""DLPack: arrays in a GPU's memory from and for libraries that support only this interface.

The structures are those of DLPack 0.8 (https://dmlc.github.io/dlpack, "C API"), which every later
version's ``dltensor`` capsule keeps. Under numba's simulator memory is that of the host, so the
same code works on arrays of NumPy, and tests run it so.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic.errors import BadImage
from trellic.gpu.device import address
from trellic.gpu.given import DeviceArray
from trellic.gpu.kernels.kernel import SIMULATED
from trellic.gpu.toolkit import cuda
from trellic.gpu.where import DLPACK_CUDA

CPU: Final = 1  # DLDeviceType
KINDS: Final = (CPU,) if SIMULATED else DLPACK_CUDA
UNSIGNED: Final = 1  # DLDataTypeCode
NAME: Final = b"dltensor"


class _Place(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("place", _Place),
        ("ndim", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # in elements; NULL is C contiguous
        ("offset", ctypes.c_uint64),  # bytes
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_lent: dict[int, tuple[Any, ...]] = {}  # memory of capsules, kept until their users are done


class _View:
    """An array of another library, for numba; it keeps the capsule, and so the memory."""

    def __init__(self, capsule: Any, tensor: _Tensor, shape: tuple[int, ...]) -> None:
        self._capsule = capsule
        self.at = int(tensor.data or 0) + int(tensor.offset)
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (self.at, False),
            "strides": None,
            "version": 3,
        }


def lies_there(source: Any) -> bool:
    """Whether something is an array in a GPU's memory that DLPack can pass on."""
    place = getattr(source, "__dlpack_device__", None)
    return place is not None and int(place()[0]) in KINDS


def taken(source: Any, stream: int) -> DeviceArray:
    """Return another library's array as numba's, without a copy.

    Parameters
    ----------
    source : with ``__dlpack__``; uint8, C contiguous, where `lies_there`
    stream : address of the CUDA stream that will read it; the other library's pending work ends
        first

    Raises
    ------
    BadImage
        When it is of another type, or not contiguous.
    """
    on_host = int(source.__dlpack_device__()[0]) == CPU
    capsule = source.__dlpack__() if on_host else source.__dlpack__(stream=stream)
    managed = ctypes.cast(_pointer(capsule, NAME), ctypes.POINTER(_Managed)).contents
    tensor: _Tensor = managed.tensor
    shape = tuple(int(tensor.shape[i]) for i in range(tensor.ndim))
    kind = (tensor.type.code, tensor.type.bits, tensor.type.lanes)
    strides = [int(tensor.strides[i]) for i in range(tensor.ndim)] if tensor.strides else None
    if kind != (UNSIGNED, 8, 1) or not _contiguous(shape, strides):
        raise BadImage(
            f"a DLPack array of type {kind}, shape {shape}, strides {strides}",
            expected="uint8, C contiguous",
        )
    view = _View(capsule, tensor, shape)
    if SIMULATED:
        return cuda.to_device(_of_host(view.at, shape))
    return cuda.as_cuda_array(view)


def _contiguous(shape: tuple[int, ...], strides: list[int] | None) -> bool:
    wanted = 1
    for side, stride in reversed(list(zip(shape, strides or (), strict=False))):
        if side != 1 and stride != wanted:
            return False
        wanted *= side
    return True


def _of_host(where: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    whole = memoryview((ctypes.c_uint8 * size).from_address(where)) if size else b""
    return np.frombuffer(whole, np.uint8).reshape(shape)


class DeviceImage:
    """A picture in the GPU's memory, for any library: uint8 (H, W, 3), or (H, W) if grey.

    It has ``__cuda_array_interface__`` (torch, CuPy, numba) and ``__dlpack__`` (the rest). The work
    that made it has ended.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        if hasattr(array, "__cuda_array_interface__"):
            self.__cuda_array_interface__ = array.__cuda_array_interface__

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides and channels."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes: 3, or 2 if grey."""
        return len(self.shape)

    def copy_to_host(self) -> npt.NDArray[np.uint8]:
        """Return a copy in the host's memory."""
        host: npt.NDArray[np.uint8] = self.array.copy_to_host()
        return host

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's device type and the number of the GPU."""
        return KINDS[0], 0 if SIMULATED else int(cuda.get_current_device().id)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a capsule of this memory.

        Nothing is pending on any stream, so `stream` need not wait. A capsule of the first version
        suits every `max_version`.

        Raises
        ------
        BufferError
            When a copy, or another device, is requested.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"no copy is made here (copy={copy}, dl_device={dl_device})")
        shape = (ctypes.c_int64 * self.ndim)(*self.shape)
        tensor = _Tensor(
            address(self.array),
            _Place(*self.__dlpack_device__()),
            self.ndim,
            _Type(UNSIGNED, 8, 1),
            ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
            None,
            0,
        )
        managed = _Managed(tensor, None, _deleter)
        at = ctypes.addressof(managed)
        _lent[at] = (managed, shape, self.array)
        return _new(at, NAME, _destructor)


def _delete(managed: Any) -> None:
    """Release memory that its user is done with."""
    _lent.pop(ctypes.addressof(managed.contents), None)


def _destroy(capsule: int) -> None:
    """Release the memory of a deleted capsule, if nobody has used it."""
    if _is_valid(capsule, NAME):
        _lent.pop(_raw_pointer(capsule, NAME), None)


_deleter: Final = _Deleter(_delete)
_destructor: Final = _Destructor(_destroy)
