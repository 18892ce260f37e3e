"""What the networks are shown: noise, what a picture gives, and the worst there is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trellic.geometry import DEFAULT_SLICE_SIDE
from trellic.integer.networks import IntegerNetwork

Float32 = npt.NDArray[np.float32]
LIMIT = 127  # of an input
HYPER_SIZE = (16, 24)  # hyper-latents of a photo of 1024 x 1536 pixels
SLICE = (DEFAULT_SLICE_SIDE, DEFAULT_SLICE_SIDE)  # latents of a whole slice
BLOCK = 8  # latents a side, so that the middle of a 5x5 filter sees one pattern
KINDS = ("uniform", "natural", "signs", "worst", "flat")


def round_of(
    networks: Mapping[str, IntegerNetwork], number: int, small: int = 1
) -> dict[str, Float32]:
    """Make one input for each network.

    Parameters
    ----------
    networks : "h_s" and "context_k"
    number : of the round: seed of the noise, and choice of the kind
    small : divides the sides of the planes

    Returns
    -------
    dict of float32 (channels, height, width), integers in [-127, 127]
    """
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    made = {}
    for name, network in networks.items():
        height, width = (side // small for side in (HYPER_SIZE if name == "h_s" else SLICE))
        made[name] = _input(rng, kind, network, height, width)
    if kind == "natural":  # features are what h_s makes of hyper-latents
        features = networks["h_s"](made["h_s"])[0][:, : SLICE[0] // small, : SLICE[1] // small]
        for name in made.keys() - {"h_s"}:
            made[name][: len(features)] = features
    return {name: np.ascontiguousarray(x, np.float32) for name, x in made.items()}


def _input(
    rng: np.random.Generator, kind: str, network: IntegerNetwork, height: int, width: int
) -> Float32:
    shape = network.channels_in, height, width
    if kind == "uniform":
        x = rng.integers(-LIMIT, LIMIT + 1, shape)
    elif kind == "natural":
        x = np.rint(rng.laplace(0, rng.uniform(0.5, 20), shape)).clip(-LIMIT, LIMIT)
    elif kind == "signs":
        x = np.where(rng.random(shape) < 0.5, -LIMIT, LIMIT)
    elif kind == "worst":
        x = _worst(rng, network, height, width)
    else:
        x = np.broadcast_to(rng.choice([-LIMIT, 0, LIMIT]), shape)
    return x.astype(np.float32)


def _worst(
    rng: np.random.Generator, network: IntegerNetwork, height: int, width: int
) -> npt.NDArray[np.float64]:
    """Blocks, each of which drives one output of the first layer as far as it goes."""
    weight = network.trunk[0].weight.astype(float)
    blocks = -(-height // BLOCK), -(-width // BLOCK)
    output = rng.permutation(np.prod(blocks)) % len(weight)
    away = rng.choice([-1, 1], len(output))
    pattern = (LIMIT * np.sign(weight[output]) * away[:, None]).T.reshape(-1, *blocks)
    return pattern.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, :height, :width]
