"""Move scale from channels to the weights behind them, so that 8 bits suit all channels.

Between two layers of a chain this is free: a leaky ReLU commutes with positive factors. At the
input of a chain it costs a multiplication by a constant.

References
----------
M. Nagel et al., "Data-free quantization through weight equalization and bias correction",
ICCV 2019;
G. Xiao et al., "SmoothQuant", ICML 2023 (the exponent 1/2 between activations and weights).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from trellic_export.int8.flow import Chain, Flow, Layer, channel_peaks
from trellic_export.int8.ranges import Floats, Seen

Recipe = Literal["plain", "inside", "input"]
RECIPES: tuple[Recipe, ...] = ("plain", "inside", "input")
SHARE = 0.5  # share of the spread of a value's channels that moves to the weights behind it


def equalize(data: bytes, recipes: dict[int, Recipe], seen: dict[str, Seen]) -> bytes:
    """Return a graph that computes the same with its channels equalized.

    Parameters
    ----------
    data : the graph
    recipes : for chains, by their number: "inside" equalizes between their layers, "input" also
        what they read
    seen : of all values of these chains

    Returns
    -------
    bytes of a graph with the same chains, of the same numbers
    """
    flow, model = Flow(data), onnx.load_from_string(data)
    scaled: dict[str, npt.NDArray[np.float32]] = {}
    for number, recipe in recipes.items():
        chain = flow.chains[number]
        if recipe != "plain":
            _inside(flow, chain, seen)
        if recipe == "input":
            first = chain[0]
            scale = _scale(flow, first, np.asarray(seen[first.source].peaks))
            _absorb(flow, first, scale)
            scaled[first.acc] = (1 / scale).astype(np.float32)[None, :, None, None]
    _write(model, flow, scaled)
    equal: bytes = model.SerializeToString()
    return equal


def _inside(flow: Flow, chain: Chain, seen: dict[str, Seen]) -> None:
    """Equalize between the layers of a chain, from its start to its end."""
    for before, after in pairwise(chain):
        scale = _scale(flow, after, np.asarray(seen[before.out].peaks))
        flow.constants[before.weight] /= scale.astype(np.float32)[:, None, None, None]
        flow.constants[before.bias] /= scale.astype(np.float32)
        _absorb(flow, after, scale)


def _scale(flow: Flow, layer: Layer, peaks: Floats) -> Floats:
    """Return what to divide the channels that a layer reads by."""
    peaks = np.maximum(peaks, 1e-6 * peaks.max() + 1e-12)
    if layer.kind == "depthwise":  # its weights have a scale for each channel
        scale = peaks
    else:
        weights = channel_peaks(flow.constants[layer.weight], 1)
        scale = peaks**SHARE / weights ** (1 - SHARE)
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float64)


def _absorb(flow: Flow, layer: Layer, scale: Floats) -> None:
    """Multiply the weights that read each channel."""
    axis = (slice(None), None) if layer.kind == "depthwise" else (None, slice(None))
    flow.constants[layer.weight] *= scale.astype(np.float32)[(*axis, None, None)]


def _write(model: onnx.ModelProto, flow: Flow, scaled: dict[str, npt.NDArray[np.float32]]) -> None:
    """Put constants and multiplications (by the sums of the layers behind them) in their place."""
    del model.graph.initializer[:]
    for name, value in flow.constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    nodes = []
    for node in model.graph.node:
        if node.output[0] in scaled:
            factor, equal = f"{node.output[0]}_scale", f"{node.output[0]}_equal"
            model.graph.initializer.append(numpy_helper.from_array(scaled[node.output[0]], factor))
            nodes.append(helper.make_node("Mul", [node.input[0], factor], [equal]))
            node.input[0] = equal
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
