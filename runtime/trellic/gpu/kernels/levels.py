"""The reconstruction of an index, for the kernels that choose indices and that decode them."""

from __future__ import annotations

from typing import Any

import numpy as np

from trellic.gpu.kernels.kernel import device
from trellic.limits import STEP32


@device
def level(k: Any, cls: Any, table: Any, off: Any, step: Any) -> Any:
    """Return the reconstruction of an index, in 1/32 step."""
    magnitude = np.int32(abs(k))
    base = np.int32(STEP32 * magnitude if cls == 0 else (2 * magnitude - (cls - 1)) * step)
    value = np.int32(base - off[4 * table + min(magnitude, 3)])
    if k == 0:
        value = np.int32(0)
    return value if k > 0 else np.int32(-value)
