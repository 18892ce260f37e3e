"""Integer networks in int64 alone: no float anywhere, the judge of all engines.

Section 7.5 of ``docs/format.md``, as it stands there: integer products, an integer sum, a shift.
`trellic.integer.networks`, which sums in float64, is one of those that are judged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.integer.networks import IntegerLayer, IntegerNetwork

Int64 = npt.NDArray[np.int64]


def evaluate(network: IntegerNetwork, x: npt.ArrayLike, *, channels_last: bool) -> list[Int64]:
    """Evaluate a network.

    Parameters
    ----------
    x : (channels, height, width), integers
    channels_last : compute on (height, width, channels) arrays

    Returns
    -------
    list of int64 (channels, height, width)
    """
    value = np.asarray(x, np.int64)
    if channels_last:
        value = np.ascontiguousarray(np.moveaxis(value, 0, -1))
    for layer in network.trunk:
        value = _layer(layer, value, channels_last)
    ends = [_layer(head, value, channels_last) for head in network.heads] or [value]
    return [np.moveaxis(end, -1, 0) for end in ends] if channels_last else ends


def _layer(layer: IntegerLayer, x: Int64, last: bool) -> Int64:
    if layer.kind == "shuffle":
        return _shuffle_last(x) if last else _shuffle_first(x)
    acc = _pointwise(layer.weight, x, last) if layer.kind == "pointwise" else _taps(layer, x, last)
    bias, shift = layer.bias.astype(np.int64), layer.shift.astype(np.int64)
    if not last:
        bias, shift = bias[:, None, None], shift[:, None, None]
    value = np.clip((acc + bias + (1 << (shift - 1))) >> shift, layer.low, layer.high)
    return layer.table.astype(np.int64)[value - layer.low] if layer.table.size else value


def _pointwise(weight: npt.NDArray[np.int8], x: Int64, last: bool) -> Int64:
    # NumPy has no fast product of integer matrices; of its slow ones this is the fastest
    wide = weight.astype(np.int64)
    if last:
        flat = x.reshape(-1, x.shape[-1])
        return np.einsum("pi,oi->po", flat, wide).reshape(*x.shape[:2], -1)
    flat = x.reshape(len(x), -1)
    return np.einsum("oi,ip->op", wide, flat).reshape(-1, *x.shape[1:])


def _taps(layer: IntegerLayer, x: Int64, last: bool) -> Int64:
    """Sum over the taps of a kernel with zeros around: depthwise, or over all channels."""
    size = layer.weight.shape[-1]
    margin, none = (size // 2,) * 2, (0, 0)
    padded = np.pad(x, [margin, margin, none] if last else [none, margin, margin])
    height, width = x.shape[:2] if last else x.shape[1:]
    acc: Int64 | int = 0
    for dy, dx in np.ndindex(size, size):
        window = slice(dy, dy + height), slice(dx, dx + width)
        part = padded[window if last else (slice(None), *window)]
        tap = layer.weight[..., dy, dx]
        if layer.kind == "conv":
            acc = acc + _pointwise(tap, part, last)
        else:
            acc = acc + part * (tap if last else tap[:, None, None]).astype(np.int64)
    return np.asarray(acc, np.int64)


def _shuffle_first(x: Int64) -> Int64:
    out = np.empty((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]), np.int64)
    for dy, dx in np.ndindex(2, 2):
        out[:, dy::2, dx::2] = x[2 * dy + dx :: 4]
    return out


def _shuffle_last(x: Int64) -> Int64:
    out = np.empty((2 * x.shape[0], 2 * x.shape[1], x.shape[2] // 4), np.int64)
    for dy, dx in np.ndindex(2, 2):
        out[dy::2, dx::2] = x[..., 2 * dy + dx :: 4]
    return out
