"""Finds what can run graphs on a GPU: onnxruntime's CUDA provider, or PyTorch instead."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
from pathlib import Path
from types import ModuleType

SHARED, PROVIDERS = "libonnxruntime_providers_shared.so", "libonnxruntime_providers_{}.so"
OTHERS = "trellic_export.torch_engine"  # never imported here: it needs torch


TO_SERVE = ("torch", "onnx", "numba_cuda", "trellic_export")


def fault_of_provider(module: ModuleType, device: str) -> str:
    """Return why onnxruntime cannot load its provider; empty if it can or may.

    Onnxruntime itself would silently use the CPU. The libraries of CUDA and cuDNN are also searched
    in their wheels.

    Parameters
    ----------
    module : onnxruntime
    device : "cuda" or "tensorrt"
    """
    said = io.StringIO()
    with contextlib.suppress(Exception), contextlib.redirect_stdout(said):
        module.preload_dlls()  # from version 1.21 on
    folder = Path(getattr(module, "__file__", "")).parent / "capi"
    library = folder / PROVIDERS.format(device)
    if not library.is_file():  # another system, or built in another way
        return ""
    try:
        ctypes.CDLL(str(folder / SHARED), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"onnxruntime cannot load {library.name}: {error}"
    return ""


def torch_serves() -> bool:
    """Whether PyTorch can run the graphs, because `trellic_export` is installed too."""
    if any(importlib.util.find_spec(name) is None for name in TO_SERVE):
        return False
    torch = importlib.import_module("torch")
    return bool(torch.cuda.is_available())
