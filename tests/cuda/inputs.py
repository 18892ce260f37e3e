"""Tables, latents and symbols to test kernels with."""

import numpy as np

from trellic.entropy import Segment, Tables, quantized_pmf
from trellic.quantize.trellis import next_state


def random_tables(rng, scales=5, step=21, widest=9, largest_offset=12):
    """Tables of random frequencies; those of index 0 have no room for anything but escapes."""
    width = rng.integers(0, widest + 1, (3, scales)).astype(np.uint16)
    width[:, 0] = 0
    freqs = [quantized_pmf(rng.exponential(1.0, 2 * int(w) + 2) + 0.01) for w in width.ravel()]
    off = rng.integers(-largest_offset, largest_offset + 1, (3, scales, 4)).astype(np.int16)
    return Tables(width, np.concatenate(freqs), off, step)


def random_segment(rng, n, tables, deviation=3.0, states=0, lanes=1):
    """Indices, and tables that the scalar quantizer or a trellis would choose."""
    index = rng.integers(0, tables.scales, n).astype(np.uint16)
    k = np.clip(np.rint(rng.normal(0, deviation, n)), -32767, 32767).astype(np.int32)
    cls = np.zeros(n, np.uint16)
    if states:
        moves, state = next_state(states), [0] * lanes
        for i, one in enumerate(k.tolist()):
            cls[i] = 1 + (state[i % lanes] & 1)
            state[i % lanes] = int(moves[state[i % lanes], one & 1])
    return Segment(k, (cls * tables.scales + index).astype(np.uint16))


def random_latents(rng, n, scales, deviation=60.0):
    """Latents in 1/32 step, and scale indices."""
    t32 = np.rint(rng.normal(0, deviation, n)).astype(np.int32)
    return t32, rng.integers(0, scales, n).astype(np.uint8)
