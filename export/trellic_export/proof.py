"""Proof, from the weights, that float32 carries an integer network exactly."""

from __future__ import annotations

import numpy as np

from trellic.errors import BadBundle
from trellic.integer.networks import IntegerLayer, IntegerNetwork
from trellic.limits import ACCUMULATOR_LIMIT, ACTIVATION_LIMIT


def prove(name: str, network: IntegerNetwork) -> int:
    """Bound every accumulator of a network.

    Returns
    -------
    int, the largest bound found, below 2**22

    Raises
    ------
    BadBundle
        When a channel could leave that range.
    """
    magnitude = ACTIVATION_LIMIT
    worst = 0
    for layer in network.trunk:
        worst = max(worst, _bound(name, layer, magnitude))
        if layer.kind != "shuffle":
            results = layer.table if layer.table.size else np.array([layer.low, layer.high])
            magnitude = int(np.abs(results.astype(np.int64)).max())
    return max([worst] + [_bound(name, head, magnitude) for head in network.heads])


def _bound(name: str, layer: IntegerLayer, magnitude: int) -> int:
    if layer.kind == "shuffle":
        return 0
    weight = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1)
    bounds = weight.sum(1) * magnitude + np.abs(layer.bias.astype(np.int64))
    # the rounding half that Floor(x + 1/2) adds is one more bit below the accumulator's unit
    bounds += 1 << (layer.shift.astype(np.int64) - 1)
    channel = int(bounds.argmax())
    if bounds[channel] >= ACCUMULATOR_LIMIT:
        raise BadBundle(
            f"a {layer.kind} layer of {name!r} may reach {bounds[channel]} in channel {channel}",
            expected=f"less than {ACCUMULATOR_LIMIT}, which float32 carries exactly",
            remedy="train with smaller weights, or split the layer",
        )
    if layer.table.size and np.abs(layer.table.astype(np.int64)).max() >= ACCUMULATOR_LIMIT:
        raise BadBundle(f"a table of {name!r} has values beyond {ACCUMULATOR_LIMIT}")
    return int(bounds[channel])
