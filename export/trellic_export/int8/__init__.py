"""8-bit variants of g_a and g_s for CPUs, added to a bundle; its stream id stays.

Per layer mixed with float32: a chain of layers goes to 8 bits only where all chosen ones together
keep the mean PSNR within a budget. Measured in docs/experiments/int8.md.
"""

from trellic_export.int8.bundles import BUDGET, add_int8

__all__ = ["BUDGET", "add_int8"]
