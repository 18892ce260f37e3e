"""Constants that decide bits: ranges and fixed points of docs/format.md, each written once.

A change of any of them changes the result of decoding, so none may change in a released format
version. CPU, GPU and reference all read them here.
"""

from __future__ import annotations

from typing import Final

# Section 8: symbols
MAX_INDEX: Final = 32767  # largest |k| of a stream; 15 bits of an escape come out of one state

# Section 7: integer networks carried in float32
ACCUMULATOR_LIMIT: Final = 1 << 22  # of sum |w| max|a| + |b|: every partial sum is then exact
ACTIVATION_LIMIT: Final = 127  # of network inputs and hidden activations

# Section 7: latents, in 1/32 of the scalar step
STEP_BITS: Final = 5
STEP32: Final = 1 << STEP_BITS
MEAN_LIMIT: Final = 1 << 20  # of a mean
TARGET_LIMIT: Final = 1 << 20  # of a latent less its mean; only for encoders, like the next two
LATENT_LIMIT: Final = 1 << 22  # of a latent; `TARGET_LIMIT` clips larger ones anyway
HYPER_LIMIT: Final = 1 << 14  # of a hyper-latent, before its mean is taken off

# Lanes are guessed from logarithms: the bits of a float32, linear between powers of two
LOG_BITS: Final = 8  # behind the point
LOG_BIAS: Final = (127 + STEP_BITS) << LOG_BITS  # float32's exponent of a latent of one step

# Section 8.2: layers. Variances are in 1 / 2**VARIANCE_BITS square step
VARIANCE_BITS: Final = 10
VARIANCE_LIMIT: Final = 1 << 30
VARIANCE_ZERO: Final = 410  # of the error of a latent that was coded as 0
VARIANCE_OTHER: Final = 102  # of one that was not
SIGMA_FIRST: Final = 0.11  # standard deviation of scale index 0, in steps
SIGMA_LAST: Final = 64.0  # of the last scale index

# Section 8.4: layers that narrow intervals, in 1/32 step
INTERVAL_ZONE32: Final = 23  # half of the dead zone around a mean
INTERVAL_SNAP32: Final = 13  # a part of that grid is no narrower at an interval's end
INTERVAL_SKIPPED32: Final = 39  # half of the interval of a latent that layer 0 does not code
INTERVAL_MOST_EDGES: Final = 8  # of the grid, on each side of the mean

# Sections 3 and 4.1: adapters
ADAPTER_ID_BYTES: Final = 4
MAX_ADAPTER: Final = 1 << 18  # bytes of a file

# Section 4.2: patches
PATCH_SIDE: Final = 32  # pixels of a block, each way
