"""Comparison of every export with torch, before it is written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from trellic.engines import Engine
from trellic.engines.exact import ExactNetwork
from trellic.errors import EngineError
from trellic.integer.networks import IntegerNetwork
from trellic_training.models.photo import PhotoModel

PIXEL_TOLERANCE = 1  # of a decoded 8-bit sample, because rounding may differ
RELATIVE_TOLERANCE = 1e-3  # of latents, relative to the largest
SIDE = 128  # pixels of the test picture
PARITY_QUALITY = 37.25  # between two of the qualities that blocks have scales for


@torch.no_grad()
def check_exact(
    model: PhotoModel,
    networks: Mapping[str, IntegerNetwork],
    engines: Mapping[str, ExactNetwork],
) -> None:
    """Compare torch, plain integers and engine on random integers; all must be equal.

    Raises
    ------
    EngineError
        When one does.
    """
    rng = np.random.default_rng(0)
    modules = {"h_s": model.h_s} | {f"context_{k}": m for k, m in enumerate(model.contexts)}
    for name, network in networks.items():
        channels = network.trunk[0].weight.shape[1]
        x = rng.integers(-127, 128, (channels, 13, 11)).astype(np.float32)
        plain = network(x)
        torch_result = modules[name](torch.from_numpy(x)[None])
        torch_results = torch_result if isinstance(torch_result, tuple) else (torch_result,)
        expected = torch.cat(torch_results, 1)[0].numpy()
        for seen in (plain, engines[name](x)):
            if not np.array_equal(np.concatenate(seen), expected):
                raise EngineError(
                    f"integer network {name!r} differs between torch, engine and plain integers"
                )
        if not engines[name].exact_engine:
            raise EngineError(f"integer network {name!r} fails its probe in the engine")


@torch.no_grad()
def check_free(model: PhotoModel, engines: Mapping[str, Engine]) -> None:
    """Compare the float transforms with torch on noise, within float tolerance.

    Raises
    ------
    EngineError
        When they differ by more.
    """
    bands = model.config.bands
    _, x, quality = _noise(bands)
    f = model.g_a(x, quality)
    check_encoder(model.g_a, engines["g_a"], bands)
    _close("h_a", engines["h_a"]({"latents": f.numpy()})[0], model.h_a(f).numpy())
    _same_picture("quality", engines["quality"], model.g_s, f, quality)


@torch.no_grad()
def check_encoder(g_a: nn.Module, engine: Engine, bands: int) -> None:
    """Compare the graph of g_a with torch on noise, within float tolerance.

    Parameters
    ----------
    bands : samples of a pixel

    Raises
    ------
    EngineError
        When they differ by more.
    """
    image, x, quality = _noise(bands)
    f = g_a(x, quality)
    _close("g_a", engine({"image": image, "quality": quality.numpy()})[0], f.numpy())


def _noise(bands: int) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Return a picture, the same as a network gets it, and a quality."""
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, bands), dtype=np.uint8)
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - 0.5
    return image, x, torch.tensor([PARITY_QUALITY])


@torch.no_grad()
def check_decoder(name: str, network: nn.Sequential, engine: Engine, channels: int) -> None:
    """Compare a decoder's graph with torch on noise, within float tolerance.

    Parameters
    ----------
    channels : of the latents that it reads

    Raises
    ------
    EngineError
        When they differ by more.
    """
    rng = np.random.default_rng(0)
    latents = torch.from_numpy(rng.normal(0, 2, (2, channels, 10, 6)).astype(np.float32))
    quality = torch.tensor([PARITY_QUALITY, 1.0])
    if isinstance(network[-1], nn.Linear):
        inputs = {"latents": latents.numpy(), "quality": quality.numpy()}
        _close(name, engine(inputs)[0], network(latents, quality).numpy())
    else:
        _same_picture(name, engine, network, latents, quality)


def _same_picture(
    name: str, engine: Engine, network: nn.Module, latents: torch.Tensor, quality: torch.Tensor
) -> None:
    x_hat = network(latents, quality)
    pixels = ((x_hat + 0.5) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    decoded = engine({"latents": latents.numpy(), "quality": quality.numpy()})[0]
    worst = int(np.abs(decoded.astype(np.int64) - pixels.astype(np.int64)).max())
    if worst > PIXEL_TOLERANCE:
        raise EngineError(f"decoder {name!r} differs from torch by {worst} of 255")


def _close(name: str, seen: np.ndarray, expected: np.ndarray) -> None:
    error = float(np.abs(seen - expected).max() / np.abs(expected).max())
    if not error < RELATIVE_TOLERANCE:
        raise EngineError(f"graph {name!r} differs from torch by {error:.1e} of its largest value")
