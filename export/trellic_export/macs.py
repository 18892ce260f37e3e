"""How many multiplications a network takes for a pixel of the picture."""

from __future__ import annotations

from torch import nn

from trellic.integer.networks import IntegerNetwork
from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.everywhere import GlobalAttention
from trellic_training.models.hyperprior import GDN
from trellic_training.models.transforms import DetailAnalysis, DetailSynthesis


def macs_per_pixel(modules: nn.Module, stride_in: int) -> float:
    """Multiplications per pixel of the picture.

    Parameters
    ----------
    stride_in : pixels per input position (a pixel-unshuffle stem changes it by itself)
    """
    return _macs(modules, float(stride_in))[0]


def _macs(module: nn.Module, stride: float) -> tuple[float, float]:
    """Multiplications per pixel of a module, and pixels per position of its output."""
    if isinstance(module, nn.PixelUnshuffle):
        return 0.0, stride * module.downscale_factor
    if isinstance(module, nn.PixelShuffle):
        return 0.0, stride / module.upscale_factor
    if isinstance(module, nn.Conv2d):
        stride *= int(module.stride[0])
        return module.weight.numel() / stride**2, stride
    if isinstance(module, nn.ConvTranspose2d):
        return module.weight.numel() / stride**2, stride / int(module.stride[0])
    if isinstance(module, GDN):
        return module.gamma.numel() / stride**2, stride
    if isinstance(module, DetailAnalysis | DetailSynthesis):
        beside = _macs(module.detail, stride)[0]
        total, stride = _macs(module.trunk, stride)
        return total + beside, stride
    total = 0.0
    for part in module.children():
        macs, stride = _macs(part, stride)
        total += macs
    if isinstance(module, NeighbourAttention):  # products, and sums of values
        channels = module.key.out_channels + module.value.out_channels
        total += channels * len(module.place) / stride**2
    if isinstance(module, GlobalAttention):  # key by value, and query by their sum
        key, value = module.key.out_channels, module.value.out_channels
        total += 2 * key * value / module.heads / stride**2
    return total, stride


def integer_macs_per_pixel(network: IntegerNetwork, stride_in: int) -> float:
    """Multiplications per pixel of the picture of an integer network."""
    total, stride = 0.0, float(stride_in)
    for layer in network.layers:
        stride /= 2 if layer.kind == "shuffle" else 1
        total += layer.weight.size / stride**2
    return total
