"""Measures of similarity from the package piq: HaarPSI, VSI and FSIM, each in [0, 1]."""

import importlib
import importlib.util
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def haarpsi(original: Pixels, decoded: Pixels) -> float:
    """Return HaarPSI: in [0, 1], 1 for equal pictures.

    References
    ----------
    R. Reisenhofer, S. Bosse, G. Kutyniok, T. Wiegand, "A Haar wavelet-based perceptual similarity
    index for image quality assessment", Signal Processing: Image Communication 61 (2018).
    """
    return _computed("haarpsi", original, decoded)


def fsim(original: Pixels, decoded: Pixels) -> float:
    """Return FSIMc, which compares phase congruency, gradients and colour: in [0, 1].

    References
    ----------
    L. Zhang, L. Zhang, X. Mou, D. Zhang, "FSIM: a feature similarity index for image quality
    assessment", IEEE Transactions on Image Processing 20 (2011).
    """
    return _computed("fsim", original, decoded)


def vsi(original: Pixels, decoded: Pixels) -> float:
    """Return VSI, which weights a picture's places by how salient they are: in [0, 1].

    References
    ----------
    L. Zhang, Y. Shen, H. Li, "VSI: a visual saliency-induced index for perceptual image quality
    assessment", IEEE Transactions on Image Processing 23 (2014).
    """
    return _computed("vsi", original, decoded)


def missing() -> str | None:
    """Say what is missing on this machine; None if nothing is."""
    if all(importlib.util.find_spec(name) for name in ("torch", "piq")):
        return None
    return "the packages torch and piq; remedy: pip install torch, then pip install --no-deps piq"


def _computed(name: str, original: Pixels, decoded: Pixels) -> float:
    measure = getattr(_module(name), name)
    value = measure(_tensor(original), _tensor(decoded), data_range=255)
    return min(float(value), 1.0)  # float32 can end just above


def _module(name: str) -> Any:
    """Import a module of the package piq without running the package's ``__init__``.

    The ``__init__`` imports torchvision, for scores with downloaded weights that are not used here.
    Torchvision does not load beside a CPU build of torch from the same registry.
    """
    if "piq" not in sys.modules and (spec := importlib.util.find_spec("piq")) is not None:
        sys.modules["piq"] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"piq.{name}")


def _tensor(pixels: Pixels) -> Any:
    """Return a picture as piq takes it, float32 (1, 3, H, W)."""
    import torch

    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0)[None])
    return torch.from_numpy(planes).float()
