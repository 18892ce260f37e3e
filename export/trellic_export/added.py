"""ONNX forms of layers that a recipe may add: attention, couplings, denoising.

All tensors keep four dimensions. Sums over the channels of a head are grouped 1x1 convolutions with
ones, so sizes stay dynamic without a reshape, and engines need nothing but element-wise operations,
padding, slices and convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from trellic_training.models import everywhere
from trellic_training.models.attention import SIDE, NeighbourAttention
from trellic_training.models.coupling import LIMIT, Coupling, Denoising, Inverse

if TYPE_CHECKING:
    from trellic_export.builder import GraphBuilder

Write = Callable[["GraphBuilder", str, nn.Module], str]  # a module that sees no quality
Modulate = Callable[["GraphBuilder", str, Any], str]


def attended(build: GraphBuilder, x: str, module: NeighbourAttention, write: Write) -> str:
    """Attention to neighbours, as the module computes it; the maximum keeps fp16 in its range."""
    query = write(build, x, module.query)
    key, value = (
        list(_neighbours(build, write(build, x, layer), module))
        for layer in (module.key, module.value)
    )
    heads, size = module.heads, module.key.out_channels // module.heads
    together = np.ones((heads, size, 1, 1), np.float32)  # sums the channels of each head
    apart = np.ones((module.value.out_channels, 1, 1, 1), np.float32)  # gives each its head's
    products = []
    for near, place in zip(key, module.place, strict=True):
        product = _grouped(build, build.add("Mul", query, near), together, heads)
        shift = place.detach().float().numpy()[:, None, None]
        products.append(build.add("Add", product, build.constant(shift)))
    largest = build.add("Max", *products)
    weights = [build.add("Exp", build.add("Sub", product, largest)) for product in products]
    inverse = build.add("Reciprocal", build.add("Sum", *weights))
    seen = [
        build.add("Mul", _grouped(build, build.add("Mul", weight, inverse), apart, heads), near)
        for weight, near in zip(weights, value, strict=True)
    ]
    return build.add("Add", x, write(build, build.add("Sum", *seen), module.project))


def attended_everywhere(
    build: GraphBuilder, x: str, module: everywhere.GlobalAttention, write: Write
) -> str:
    """Attention to all positions: means over them are global pools of products of channels."""
    heads, limit = module.heads, np.float32(everywhere.LIMIT)
    keys = module.key.out_channels // heads
    values = module.value.out_channels // heads
    limits = [build.constant(-limit), build.constant(limit)]
    query, key = (
        build.add("Exp", build.add("Clip", write(build, x, layer), *limits))
        for layer in (module.query, module.key)
    )
    value = write(build, x, module.value)
    each = np.ones((heads * keys * values, 1, 1, 1), np.float32)  # a key beside every value
    pairs = np.tile(np.eye(values, dtype=np.float32), (keys, 1))  # and the values beside it
    beside = np.tile(pairs, (heads, 1))[:, :, None, None]
    summed = np.tile(pairs.T, (heads, 1))[:, :, None, None]
    products = build.add(
        "Mul",
        _grouped(build, key, each, heads * keys),
        _grouped(build, value, beside, heads),
    )
    summary = build.add("GlobalAveragePool", products)
    read = build.add("Mul", _grouped(build, query, each, heads * keys), summary)
    seen = _grouped(build, read, summed, heads)
    near = build.add("Mul", query, build.add("GlobalAveragePool", key))
    weight = _grouped(build, near, np.ones((heads, keys, 1, 1), np.float32), heads)
    apart = np.ones((heads * values, 1, 1, 1), np.float32)
    inverse = _grouped(build, build.add("Reciprocal", weight), apart, heads)
    return build.add("Add", x, write(build, build.add("Mul", seen, inverse), module.project))


def coupled(build: GraphBuilder, x: str, module: Coupling, write: Write) -> str:
    """Couplings run forwards."""
    changed, given = build.split(x, [module.part] * 2)
    for step in module.steps:
        log_scale, shift = _affine(build, given, step, module.part, write)
        scaled = build.add("Mul", changed, build.add("Exp", log_scale))
        changed, given = given, build.add("Add", scaled, shift)
    return build.add("Concat", changed, given, axis=1)


def uncoupled(build: GraphBuilder, x: str, module: Inverse, write: Write) -> str:
    """Couplings run backwards."""
    half = module.coupling.part
    changed, given = build.split(x, [half] * 2)
    for step in reversed(module.coupling.steps):
        changed, given = given, changed
        log_scale, shift = _affine(build, given, step, half, write)
        inverse = build.add("Exp", build.add("Neg", log_scale))
        changed = build.add("Mul", build.add("Sub", changed, shift), inverse)
    return build.add("Concat", changed, given, axis=1)


def denoised(
    build: GraphBuilder, x: str, module: Denoising, write: Write, modulate: Modulate
) -> str:
    """One stage of denoising."""
    modulated = module.reads is not None
    noise = modulate(build, x, module.reads) if modulated else x
    for layer in module.estimate:
        noise = write(build, noise, layer)
    noise = modulate(build, noise, module.gives) if modulated else noise
    return build.add("Sub", x, write(build, noise, module.project))


def _affine(
    build: GraphBuilder, x: str, step: nn.Module, half: int, write: Write
) -> tuple[str, str]:
    for layer in step.children():
        x = write(build, x, layer)
    scale, shift = build.split(x, [half] * 2)
    limit = build.constant(np.float32(LIMIT))
    return build.add("Mul", build.add("Tanh", scale), limit), shift


def _neighbours(build: GraphBuilder, x: str, module: NeighbourAttention) -> Iterator[str]:
    """Cut the planes of all neighbours out of a padded one."""
    margin = (SIDE // 2) * module.dilation
    padding = np.array([0, 0, margin, margin] * 2, np.int64)
    padded = build.add("Pad", x, build.constant(padding))
    axes = build.constant(np.array([2, 3], np.int64))
    for offset in module.offsets():
        start = np.array(offset, np.int64)
        stop = start - 2 * margin
        stop[stop == 0] = np.iinfo(np.int64).max
        yield build.add("Slice", padded, build.constant(start), build.constant(stop), axes)


def _grouped(build: GraphBuilder, x: str, weight: np.ndarray[Any, Any], heads: int) -> str:
    return build.add("Conv", x, build.constant(weight), kernel_shape=[1, 1], group=heads)
