"""How Trellic compiles all kernels: without the GIL, and kept on disk between processes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core.caching import FunctionCache, NullCache

from trellic.errors import TrellicWarning
from trellic.support import cache

_Function = TypeVar("_Function", bound=Callable[..., object])


def njit(function: _Function) -> _Function:
    """Compile a function with numba on its first call, or load what an earlier process compiled.

    Machine code is kept in a private folder (see `trellic.support.cache`) and renewed when the
    kernel, a kernel that it calls, or a constant that it uses has changed. Without such a folder
    each process compiles again, and a `TrellicWarning` says so.
    """
    made = numba.njit(nogil=True)(function)
    keep(made, function, FunctionCache)
    return cast(_Function, made)


def keep(dispatcher: Any, function: Callable[..., object], kind: Any) -> None:
    """Let a compiled function of numba keep its machine code in the private folder.

    numba's own ``cache=True`` would fall back to folders of others: ``$HOME/.cache/numba``, whoever
    can write there, or ``./~/.cache/numba``; and its files are pickles.

    Parameters
    ----------
    dispatcher : numba's form of the function, with nothing compiled yet
    function : the kernel
    kind : numba's class of caches for it
    """
    folder = cache.folder(cache.KERNELS)
    dispatcher._cache = _Forgetful() if folder is None else _kept(kind)(function)


class _Forgetful(NullCache):  # type: ignore[misc]  # numba has no types
    """Keeps nothing, and warns when a kernel is lost."""

    def save_overload(self, sig: Any, data: Any) -> None:
        """Warn, once in a process."""
        _warn()


@functools.cache
def _warn() -> None:
    warnings.warn(
        "every process compiles its kernels again, which takes half a minute: there is no private"
        f" folder to keep them in ({cache.missing(cache.KERNELS)}); name one with {cache.VARIABLE}",
        TrellicWarning,
        stacklevel=2,
    )


class _Place:
    """Where numba keeps a function, and when it is stale; it replaces numba's own locators."""

    def __init__(self, folder: Path, stamp: str, file: str) -> None:
        self._folder, self._stamp, self._py_file = folder, stamp, file

    @classmethod
    def from_function(cls, function: Callable[..., object], file: str) -> _Place | None:
        """Return the place, or None if there is no private folder."""
        folder = cache.folder(cache.KERNELS)
        return None if folder is None else cls(folder, _stamp(function), file)

    def ensure_cache_path(self) -> None:
        """Do nothing: the folder was made and checked."""

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """Return a stamp that changes with the machine code."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """Return a text that distinguishes versions of a function, which may lie side by side."""
        return self._stamp[:16]


@functools.cache
def _kept(kind: Any) -> Any:
    """Return a class of caches like ``kind`` that uses only `_Place` and tolerates bad disks."""

    class Kept(kind):  # type: ignore[misc]
        _impl_class = type("Impl", (kind._impl_class,), {"_locator_classes": [_Place]})

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception:  # a damaged pickle raises anything; compile again, and replace it
                with contextlib.suppress(OSError):
                    self.flush()
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            with contextlib.suppress(OSError):  # such as a full disk: the kernel runs all the same
                super().save_overload(sig, data)

    return Kept


def _stamp(function: Callable[..., object]) -> str:
    """Hash all that decides a kernel's machine code: its file, what it calls, its constants."""
    total = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for part in sorted(set(_parts(function, set()))):
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def _parts(function: Any, seen: set[Any]) -> Iterator[bytes]:
    if function in seen:
        return
    seen.add(function)
    yield _content(function.__code__.co_filename)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if hasattr(value, "py_func"):  # another kernel
            yield from _parts(value.py_func, seen)
        elif isinstance(value, (bool, int, float, np.generic, np.ndarray)):
            array = np.asarray(value)
            yield f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes()
        elif getattr(value, "__module__", None) in sys.modules:  # such as an intrinsic
            yield _content(getattr(sys.modules[value.__module__], "__file__", None))


@functools.cache
def _content(file: str | None) -> bytes:
    return Path(file).read_bytes() if file else b""
