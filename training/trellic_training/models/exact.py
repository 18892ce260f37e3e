"""Integer networks, trained in float: the choice of a frequency table must not depend on rounding.

Every activation is an integer times a power of two (its *unit*), every weight an 8-bit integer
times a power of two (one for each channel). A float32 convolution of such numbers is exact as long
as no partial sum leaves 24 bits, so training computes the same numbers as the exported integer
network (Ballé et al. 2019, "Integer networks for data compression with latent-variable models").
The rule is that float32 holds every partial sum, whatever the order of summation.

A layer is ``clip(floor(acc * 2**-shift + 1/2), low, high)`` with
``acc = sum(weight * input) + bias``, all integers. Rounding is passed straight through in the
gradient; a clipped unit gets no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic.integer.networks import NO_TABLE, IntegerLayer
from trellic.limits import ACCUMULATOR_LIMIT, ACTIVATION_LIMIT

ACTIVATION_UNIT = 2.0**-4  # one integer step of a hidden activation, in real units
RECTIFIED = (0, ACTIVATION_LIMIT)  # clip range of an activation after ReLU
BOTH_WAYS = (-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
WEIGHT_LIMIT = 127
MAX_EXPONENT = 12  # weights are multiples of 2**-12 or coarser
DENSE_MAX_EXPONENT = 18  # of a dense convolution, whose many weights are smaller


def round_through(x: Tensor) -> Tensor:
    """``floor(x + 1/2)`` with the gradient of the identity."""
    return x + (torch.floor(x + 0.5) - x).detach()


class ExactConv(nn.Module):
    """A pointwise, depthwise or dense convolution on integers.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel : int
        1 for pointwise; odd and greater for depthwise (then both channel counts are equal) and
        dense.
    unit : float
        Real value of one integer step of the output, a power of two.
    clip : two int
        Lowest and highest value of the integer output.
    dense : bool
        Every filter reads all channels, whatever the kernel. Its exponents are kept so small that
        the accumulator's proof holds.
    curve : function of integers in the clip range, as floating-point tensors
        Its rounded values replace the clipped output (as a table, once exported); its slope is the
        gradient.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 1,
        unit: float = ACTIVATION_UNIT,
        clip: tuple[int, int] = RECTIFIED,
        gain: float = 1.0,
        dense: bool = False,
        curve: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.kernel, self.unit = kernel, unit
        self.low, self.high = clip
        self.dense, self.curve = dense, curve
        self.groups = channels_in if kernel > 1 and not dense else 1
        self.steps = round(np.log2(unit / ACTIVATION_UNIT))  # exponent between in and out units
        shape = (channels_out, channels_in // self.groups, kernel, kernel)
        fan_in = shape[1] * kernel * kernel
        self.weight = nn.Parameter(torch.randn(shape) * gain * fan_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels_out))
        if curve:
            values = torch.arange(self.low, self.high + 1, dtype=torch.float64)
            table = torch.floor(curve(values) + 0.5)
            self.register_buffer("table", table.float(), persistent=False)

    def exponents(self) -> Tensor:
        """Exponent e of each output channel: its weights are multiples of ``2**-e``."""
        largest = self.kernels().detach().abs().amax(dim=(1, 2, 3)).clamp_min(1e-9)
        exponent = torch.floor(torch.log2(WEIGHT_LIMIT / largest))
        lowest = max(1, 1 - self.steps)
        if not self.dense:
            return exponent.clamp(lowest, MAX_EXPONENT)
        return torch.minimum(exponent, self._safe_exponents()).clamp(lowest, DENSE_MAX_EXPONENT)

    def kernels(self) -> Tensor:
        """Return the weights as real numbers."""
        return self.weight

    def _safe_exponents(self) -> Tensor:
        """Largest exponents for which every accumulator stays below its limit."""
        weight, bias = self.weight.detach().double().abs(), self.bias.detach().double().abs()
        size = weight.sum((1, 2, 3)) * ACTIVATION_LIMIT + bias / ACTIVATION_UNIT
        size = size + 2.0 ** (self.steps - 1)  # what rounding adds, relative to the exponent
        slack = 0.5 * weight[0].numel() * ACTIVATION_LIMIT + 1  # each weight may round upwards
        return torch.floor(torch.log2((ACCUMULATOR_LIMIT - slack) / size)).float()

    def _integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and bias as integers (with straight-through gradient), and the exponents."""
        exponent = self.exponents()
        scale = torch.exp2(exponent)
        weight = round_through(self.kernels() * scale[:, None, None, None])
        weight = weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        return weight, round_through(self.bias * scale / ACTIVATION_UNIT), exponent

    def forward(self, x: Tensor) -> Tensor:
        """Map integers (as float32) to integers (as float32)."""
        weight, bias, exponent = self._integers()
        acc = functional.conv2d(x, weight, bias, padding=self.kernel // 2, groups=self.groups)
        scaled = acc * torch.exp2(-exponent - self.steps)[None, :, None, None]
        value = round_through(scaled).clamp(self.low, self.high)
        if self.curve is None:
            return value
        smooth = self.curve(value)
        table: Tensor = self.table  # type: ignore[assignment]
        return smooth + (table[(value.detach() - self.low).long()] - smooth).detach()

    @torch.no_grad()
    def integer_layer(self) -> IntegerLayer:
        """Return the layer as plain integers."""
        weight, bias, exponent = (t.cpu().numpy() for t in self._integers())
        if self.kernel == 1:
            kind, weight = "pointwise", weight[:, :, 0, 0]
        elif not self.dense:
            kind, weight = "depthwise", weight[:, 0]
        else:
            kind = "conv"
        table: Tensor | None = self._buffers.get("table")
        return IntegerLayer(
            kind=kind,
            weight=weight.astype(np.int8),
            bias=bias.astype(np.int32),
            shift=(exponent + self.steps).astype(np.uint8),
            low=self.low,
            high=self.high,
            table=NO_TABLE if table is None else table.cpu().numpy().astype(np.int32),
        )


class DilatedConv(ExactConv):
    """Depthwise 3x3 whose taps lie 1, 2 or 3 positions apart, by channel, in kernels of 7x7.

    An integer layer knows no dilation, so zeros between the taps are written out. One layer sees
    its surroundings at three scales.
    """

    DILATIONS = 1, 2, 3

    def __init__(self, channels: int) -> None:
        side = 2 * max(self.DILATIONS) + 1
        super().__init__(channels, channels, kernel=side, clip=BOTH_WAYS)
        middle = side // 2
        taps = torch.zeros(channels, 1, side, side)
        for channel, row in enumerate(taps[:, 0]):
            dilation = self.DILATIONS[channel % len(self.DILATIONS)]
            row[middle % dilation :: dilation, middle % dilation :: dilation] = 1
            row[: middle - dilation], row[middle + dilation + 1 :] = 0, 0
            row[:, : middle - dilation], row[:, middle + dilation + 1 :] = 0, 0
        self.register_buffer("taps", taps, persistent=False)
        with torch.no_grad():
            self.weight.copy_(taps * torch.randn_like(taps) * 0.2 / 3)
            self.weight[:, 0, middle, middle] += 1.0

    def kernels(self) -> Tensor:
        """Return the weights as real numbers, 0 between the taps."""
        taps: Tensor = self.taps  # type: ignore[assignment]
        return self.weight * taps


def dilated(channels: int) -> ExactConv:
    """Depthwise convolution at three scales, as `depthwise` otherwise."""
    return DilatedConv(channels)


def pointwise(channels_in: int, channels_out: int) -> ExactConv:
    """1x1 convolution with ReLU."""
    return ExactConv(channels_in, channels_out, gain=1.4)


def depthwise(channels: int, kernel: int) -> ExactConv:
    """Depthwise convolution, clipped on both sides; starts near the identity."""
    layer = ExactConv(channels, channels, kernel=kernel, clip=BOTH_WAYS, gain=0.2)
    with torch.no_grad():
        layer.weight[:, 0, kernel // 2, kernel // 2] += 1.0
    return layer


def network_layers(network: nn.Sequential) -> tuple[IntegerLayer, ...]:
    """Return the integer layers of a chain of `ExactConv` and ``nn.PixelShuffle(2)``."""
    return tuple(m.integer_layer() if isinstance(m, ExactConv) else _SHUFFLE for m in network)


_SHUFFLE = IntegerLayer(
    "shuffle", np.empty(0, np.int8), np.empty(0, np.int32), np.empty(0, np.uint8), 0, 0
)
