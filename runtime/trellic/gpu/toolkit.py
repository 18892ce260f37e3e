"""numba's CUDA, for versions of NumPy that are newer than it: imported here and nowhere else."""

from __future__ import annotations

import importlib
import importlib.util
import warnings

import numpy as np
from numba import config


def _load_arrays() -> None:
    """Load numba-cuda's part for arrays, which looks for a function that NumPy 2.5 dropped.

    It is loaded with the first kernel otherwise; the name is gone again afterwards.
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
