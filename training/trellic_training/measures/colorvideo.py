"""CVVDP (ColorVideoVDP) from its own package, of pictures that do not move.

References
----------
R. Mantiuk, P. Hanji, M. Ashraf, Y. Asano, A. Chapiro, "ColorVideoVDP: a visual difference predictor
for image, video, and display distortions", ACM Transactions on Graphics 43 (2024).
"""

import functools
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

DISPLAY = "standard_4k"  # 30 inches, 200 cd/m2, 250 lux, 75 pixels a degree
LOOSE = ("interp", "third_party", "third_party.cpuinfo")  # what the package imports as top level


def cvvdp(original: Pixels, decoded: Pixels) -> float:
    """Return CVVDP on a 4K display, in JOD: 10 is no visible difference, 9 one that 75 % see.

    Parameters
    ----------
    original, decoded
        Pictures of the same shape (H, W, 3), uint8, sides of at least 16 pixels.
    """
    import torch

    with torch.inference_mode():
        score, _ = _metric().predict(
            np.ascontiguousarray(decoded), np.ascontiguousarray(original), dim_order="HWC"
        )
    return float(score)


def missing() -> str | None:
    """Say what is missing on this machine; None if nothing is."""
    if all(importlib.util.find_spec(name) for name in ("torch", "pycvvdp", "tqdm")):
        return None
    return (
        "the packages torch, tqdm and cvvdp; remedy: pip install torch tqdm, then "
        "pip install --no-deps cvvdp"
    )


@functools.cache
def _metric() -> Any:
    """Load the metric without the package's ``__init__`` and without its imports for videos.

    Its other metrics download weights, and need torchvision, which does not load beside a CPU build
    of torch from the same registry. CVVDP itself uses only one blur of torchvision.
    """
    import torch

    spec = importlib.util.find_spec("pycvvdp")
    if spec is None:
        raise ImportError("pycvvdp")
    found: dict[str, dict[str, Any]] = {
        "torchvision": {},
        "torchvision.transforms": {"GaussianBlur": _gaussian_blur},
        "ffmpeg": {},
        "imageio": {},
        "imageio.v2": {},
    }
    with _stand_ins(found), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old forms in the package's text
        sys.modules["pycvvdp"] = importlib.util.module_from_spec(spec)
        module = importlib.import_module("pycvvdp.cvvdp_metric")
    return module.cvvdp(display_name=DISPLAY, device=torch.device("cpu"), quiet=True)


@contextmanager
def _stand_ins(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Let imports find these modules, and restore the import system afterwards."""
    replaced = {name: sys.modules.get(name) for name in modules}
    path = list(sys.path)
    for name, contents in modules.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module_before in (replaced | dict.fromkeys(LOOSE)).items():
            if module_before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module_before


def _gaussian_blur(size: int, sigma: float) -> Any:
    """Return a layer that blurs (N, 1, H, W) by a Gaussian, the edge mirrored."""
    import torch
    from torch.nn import functional

    at = torch.arange(size) - (size - 1) / 2
    taps = torch.exp(-(at**2) / (2 * sigma**2))
    taps = (taps / taps.sum()).view(1, 1, 1, -1)

    class Blur(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.pad(x, (size // 2,) * 4, mode="reflect")
            return functional.conv2d(functional.conv2d(x, taps), taps.mT)

    return Blur()
