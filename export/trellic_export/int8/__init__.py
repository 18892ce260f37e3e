"""8-bit variants of g_a and g_s for CPUs, added to a bundle; its stream id stays.

Layers in 8 bits and in float32 are mixed: a chain of layers becomes 8-bit only if all chosen chains
together keep the mean PSNR within a budget. docs/experiments/int8.md has measurements.
"""

from trellic_export.int8.bundles import BUDGET, add_int8

__all__ = ["BUDGET", "add_int8"]
