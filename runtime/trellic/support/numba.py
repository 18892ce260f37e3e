"""The one way Trellic compiles a kernel: no GIL, kept on disk between processes where possible."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., object])


def njit(function: _Function) -> _Function:
    """Compile a function with numba on its first call.

    The machine code is cached beside the module, or in the user's cache folder where an installed
    package is read-only; where neither can be written it lives in memory only, and each process
    compiles anew. ``NUMBA_CACHE_DIR`` names another folder.

    Notes
    -----
    numba renews a cached kernel when the kernel's own file changes, not when a function or constant
    of another module does; touch the file, or delete ``__pycache__``, after such a change.
    """
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba: "no locator available", no folder can be written
        return cast(_Function, numba.njit(nogil=True)(function))
