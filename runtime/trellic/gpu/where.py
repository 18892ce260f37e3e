"""Whether an array is in a GPU's memory, found without any GPU library."""

from __future__ import annotations

from typing import Any

DLPACK_CUDA = (2, 13)  # its device types of a GPU's own and of managed memory


def on_gpu(image: Any) -> bool:
    """Whether an array lies in a GPU's memory: by its interface, or by DLPack's device types."""
    if hasattr(image, "__cuda_array_interface__"):
        return True
    place = getattr(image, "__dlpack_device__", None)
    return place is not None and int(place()[0]) in DLPACK_CUDA
