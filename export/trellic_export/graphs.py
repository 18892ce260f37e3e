"""ONNX graphs: integer networks node by node, float transforms layer by layer.

Both are built with ``onnx.helper`` and not traced. The modules are chains of four kinds of layers,
dynamic sizes need no extra work, and a graph has no other nodes than those written here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from trellic.constants import COLOURS
from trellic.integer.networks import IntegerLayer, IntegerNetwork
from trellic_export.added import attended, attended_everywhere, coupled, denoised, uncoupled
from trellic_export.builder import GraphBuilder, tensor
from trellic_export.halves import halved
from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.coupling import Coupling, Denoising, Inverse
from trellic_training.models.everywhere import GlobalAttention
from trellic_training.models.hyperprior import GDN, Magnitude, Shift
from trellic_training.models.transforms import (
    DepthBlock,
    DetailAnalysis,
    DetailSynthesis,
    Modulation,
)

# ---- integer networks ----


def integer_graph(network: IntegerNetwork) -> bytes:
    """ONNX graph of an integer network: input "x", outputs "y0", "y1" and so on."""
    build = GraphBuilder()
    value = "x"
    for layer in network.trunk:
        value = _integer_layer(build, value, layer)
    ends = [_integer_layer(build, value, head) for head in network.heads] or [value]
    for i, end in enumerate(ends):
        build.rename(end, f"y{i}")
    channels = network.trunk[0].weight.shape[1]
    shape = ("n", "channels", "out_height", "out_width")
    return build.finish(
        [tensor("x", TensorProto.FLOAT, "n", channels, "height", "width")],
        [tensor(f"y{i}", TensorProto.FLOAT, *shape) for i in range(len(ends))],
    )


def _integer_layer(build: GraphBuilder, x: str, layer: IntegerLayer) -> str:
    if layer.kind == "shuffle":
        return build.add("DepthToSpace", x, blocksize=2, mode="CRD")
    weight, bias = layer.weight.astype(np.float32), layer.bias.astype(np.float32)
    if layer.kind == "conv":
        acc = _taps(build, x, weight, bias)
    elif layer.kind == "depthwise":
        padding = weight.shape[2] // 2
        acc = _conv(build, x, weight[:, None], bias, padding=padding, groups=len(weight))
    else:
        acc = _conv(build, x, weight[:, :, None, None], bias)
    scale = np.exp2(-layer.shift.astype(np.float32))[:, None, None]
    scaled = build.add("Mul", acc, build.constant(scale))
    rounded = build.add("Floor", build.add("Add", scaled, build.constant(np.float32(0.5))))
    low, high = (build.constant(np.float32(v)) for v in (layer.low, layer.high))
    value = build.add("Clip", rounded, low, high)
    if not layer.table.size:
        return value
    place = build.add("Cast", build.add("Sub", value, low), to=TensorProto.INT32)
    return build.add("Gather", build.constant(layer.table.astype(np.float32)), place)


def _taps(build: GraphBuilder, x: str, weight: np.ndarray[Any, Any], bias: Any) -> str:
    """Dense convolution as a sum of 1x1 ones: no backend computes those by a fast transform."""
    size = weight.shape[2]
    padding = np.array([0, 0, size // 2, size // 2] * 2, np.int64)
    padded = build.add("Pad", x, build.constant(padding))
    axes = build.constant(np.array([2, 3], np.int64))
    acc = ""
    for dy, dx in np.ndindex(size, size):
        start = np.array([dy, dx], np.int64)
        stop = start - (size - 1)
        stop[stop == 0] = np.iinfo(np.int64).max
        window = build.add("Slice", padded, build.constant(start), build.constant(stop), axes)
        filters = weight[:, :, dy, dx, None, None]
        if not acc:
            acc = _conv(build, window, filters, bias)
        elif filters.any():
            part = _conv(build, window, filters, np.zeros_like(bias))
            acc = build.add("Add", acc, part)
    return acc


# ---- float transforms ----


def encoder_graph(g_a: nn.Sequential) -> bytes:
    """g_a from "image", uint8 (n, height, width, bands), to "latents", float32 before the gain."""
    build = GraphBuilder()
    x = build.add("Cast", "image", to=TensorProto.FLOAT)
    x = build.add("Transpose", x, perm=[0, 3, 1, 2])
    x = build.add("Mul", x, build.constant(np.float32(1 / 255)))
    x = build.add("Sub", x, build.constant(np.float32(0.5)))
    modules, stem, bands = list(g_a), g_a[1], COLOURS
    if isinstance(g_a[0], nn.PixelUnshuffle) and isinstance(stem, nn.Conv2d):
        size = g_a[0].downscale_factor
        bands = stem.in_channels // size**2
        weight = _numpy(stem.weight).reshape(len(stem.weight), bands, size, size)
        x = _conv(build, x, weight, _numpy(stem.bias), stride=size)
        modules = modules[2:]
    elif not isinstance(g_a[0], Shift):
        raise TypeError("g_a starts neither with a pixel-unshuffle stem nor with a Shift")
    x = _chain(build, x, modules)
    build.rename(x, "latents")
    graph = build.finish(
        [tensor("image", TensorProto.UINT8, "n", "height", "width", bands)],
        [tensor("latents", TensorProto.FLOAT, "n", "channels", "rows", "columns")],
    )
    return halved(graph)


def hyper_encoder_graph(h_a: nn.Sequential) -> bytes:
    """h_a from "latents" to "hyper", both float32, both before their gains."""
    build = GraphBuilder()
    build.rename(_chain(build, "latents", list(h_a)), "hyper")
    channels = next(m for m in h_a.modules() if isinstance(m, nn.Conv2d)).in_channels
    graph = build.finish(
        [tensor("latents", TensorProto.FLOAT, "n", channels, "rows", "columns")],
        [tensor("hyper", TensorProto.FLOAT, "n", "hyper", "hyper_rows", "hyper_columns")],
    )
    return halved(graph)


def decoder_graph(g_s: nn.Sequential, latents: int, bands: int = COLOURS) -> bytes:
    """g_s from "latents", float32 with gains divided out, to "image", uint8 (n, h, w, bands)."""
    build = GraphBuilder()
    x = _chain(build, "latents", list(g_s))
    x = build.add("Add", x, build.constant(np.float32(0.5)))
    x = build.add("Mul", x, build.constant(np.float32(255)))
    x = build.add("Clip", x, build.constant(np.float32(0)), build.constant(np.float32(255)))
    x = build.add("Cast", build.add("Round", x), to=TensorProto.UINT8)
    build.add("Transpose", x, output="image", perm=[0, 2, 3, 1])
    graph = build.finish(
        [tensor("latents", TensorProto.FLOAT, "n", latents, "rows", "columns")],
        [tensor("image", TensorProto.UINT8, "n", "height", "width", bands)],
    )
    return halved(graph)


def label_graph(network: nn.Sequential, latents: int) -> bytes:
    """Labels from "latents", float32 with gains divided out, as "logits", float32 (n, labels)."""
    build = GraphBuilder()
    build.rename(_chain(build, "latents", list(network)), "logits")
    graph = build.finish(
        [tensor("latents", TensorProto.FLOAT, "n", latents, "rows", "columns")],
        [tensor("logits", TensorProto.FLOAT, "n", "labels")],
    )
    return halved(graph)


def _chain(build: GraphBuilder, x: str, modules: list[nn.Module]) -> str:
    for module in modules:
        x = _module(build, x, module)
    return x


def _module(build: GraphBuilder, x: str, module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        stride, padding = int(module.stride[0]), int(module.padding[0])
        weight, bias = _numpy(module.weight), _numpy(module.bias)
        return _conv(build, x, weight, bias, stride, padding, module.groups)
    if isinstance(module, nn.LeakyReLU):
        return build.add("LeakyRelu", x, alpha=module.negative_slope)
    if isinstance(module, nn.PixelShuffle):
        return build.add("DepthToSpace", x, blocksize=module.upscale_factor, mode="CRD")
    if isinstance(module, nn.ConvTranspose2d):
        return _transposed(build, x, module)
    if isinstance(module, GDN):
        weight, bias = (_numpy(t) for t in module.weights())
        norm = build.add("Sqrt", _conv(build, build.add("Mul", x, x), weight, bias))
        return build.add("Mul" if module.inverse else "Div", x, norm)
    if isinstance(module, Shift):
        return build.add("Add", x, build.constant(np.float32(module.amount)))
    if isinstance(module, nn.ReLU | Magnitude):
        return build.add("Relu" if isinstance(module, nn.ReLU) else "Abs", x)
    if isinstance(module, DepthBlock):
        if module.modulation is not None:
            x = _modulated(build, x, module.modulation)
        x = build.add("Add", x, _chain(build, x, list(module.spatial)))
        return build.add("Add", x, _chain(build, x, list(module.mix)))
    if isinstance(module, DetailAnalysis):
        main = _chain(build, x, list(module.trunk))
        return build.add("Concat", main, _module(build, x, module.detail), axis=1)
    if isinstance(module, DetailSynthesis):
        main, detail = build.split(x, module.split)
        detail = _module(build, detail, module.detail)
        return build.add("Add", _chain(build, main, list(module.trunk)), detail)
    if isinstance(module, NeighbourAttention):
        return attended(build, x, module, _module)
    if isinstance(module, GlobalAttention):
        return attended_everywhere(build, x, module, _module)
    if isinstance(module, Coupling):
        return coupled(build, x, module, _module)
    if isinstance(module, Inverse):
        return uncoupled(build, x, module, _module)
    if isinstance(module, Denoising):
        return denoised(build, x, module, _module, _modulated)
    if isinstance(module, nn.Dropout):
        return x
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return build.add("GlobalAveragePool", x)
    if isinstance(module, nn.Flatten):
        return build.add("Flatten", x, axis=1)
    if isinstance(module, nn.Linear):
        weight, bias = _numpy(module.weight), _numpy(module.bias)
        return build.add("Gemm", x, build.constant(weight), build.constant(bias), transB=1)
    raise TypeError(f"no ONNX form for {type(module).__name__}: add one to graphs.py")


def _modulated(build: GraphBuilder, x: str, module: Modulation) -> str:
    """Scale and shift channels; products read the tables, because qualities may differ."""
    near = build.nearness(len(module.scale))
    axes = build.constant(np.array([2, 3], np.int64))
    tables = (1 + _numpy(module.scale), _numpy(module.shift))
    scale, shift = (
        build.add("Unsqueeze", build.add("MatMul", near, build.constant(table)), axes)
        for table in tables
    )
    return build.add("Add", build.add("Mul", x, scale), shift)


def _transposed(build: GraphBuilder, x: str, module: nn.ConvTranspose2d) -> str:
    return build.add(
        "ConvTranspose",
        x,
        build.constant(_numpy(module.weight)),
        build.constant(_numpy(module.bias)),
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        pads=[int(module.padding[0])] * 4,
        output_padding=list(module.output_padding),
    )


def _conv(
    build: GraphBuilder,
    x: str,
    weight: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any],
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> str:
    return build.add(
        "Conv",
        x,
        build.constant(weight),
        build.constant(bias),
        kernel_shape=list(weight.shape[2:]),
        strides=[stride] * 2,
        pads=[padding] * 4,
        group=groups,
    )


def _numpy(parameter: torch.Tensor | None) -> np.ndarray[Any, Any]:
    if parameter is None:
        raise TypeError("a convolution without bias")
    return parameter.detach().float().cpu().numpy()


def sees_quality(network: nn.Module) -> bool:
    """Whether the graph of a network has the input "quality"."""
    return any(isinstance(module, Modulation) for module in network.modules())
