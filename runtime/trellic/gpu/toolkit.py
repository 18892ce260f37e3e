"""numba's CUDA, made to work with newer versions of NumPy; only this module imports it."""

from __future__ import annotations

import importlib
import importlib.util
import warnings

import numpy as np
from numba import config


def _load_arrays() -> None:
    """Load numba-cuda's part for arrays, which looks for a function that NumPy 2.5 dropped.

    Otherwise it would be loaded with the first kernel. The name is removed again afterwards.
    """
    if config.ENABLE_CUDASIM or hasattr(np, "row_stack"):
        return
    if importlib.util.find_spec("numba.cuda.np") is None:  # numba's own CUDA knows NumPy 2.5
        return
    setattr(np, "row_stack", np.vstack)  # noqa: B010 - mypy knows that there is none
    try:
        importlib.import_module("numba.cuda.np.arrayobj")
    finally:
        delattr(np, "row_stack")


with warnings.catch_warnings():
    # numba-cuda 0.30 makes a time without a unit while it is imported.
    warnings.filterwarnings("ignore", "The 'generic' unit", DeprecationWarning)
    from numba import cuda as cuda

    _load_arrays()
