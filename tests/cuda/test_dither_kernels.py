"""The kernels of dither: the reference's integers, to the bit."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from trellic.gpu import dither as dither_cuda
from trellic.quantize import dither


@pytest.mark.parametrize(("seed", "number"), [(0, 0), (1, 1), (2**32 - 1, 65535)])
def test_same_integers(seed, number, larger):
    rng = np.random.default_rng(number)
    key = dither.slice_key(seed, number)
    assert dither_cuda.slice_key(seed, number) == key
    position = rng.integers(0, 2**31 - 1, 40 * larger).astype(np.int32)
    for first in (0, 2**31, 2**32 - 5):
        u, cls = dither_cuda.noise(key, first, position)
        assert u.tolist() == dither.noise(key, first, position).tolist()
        assert cls.tolist() == dither.classes(u).tolist()
    t32 = np.rint(rng.normal(0, 60, len(u))).astype(np.int32)
    t32[:4] = 2**31 - 1, -(2**31), 2**20, -(2**20)  # beyond any level
    k = dither_cuda.quantize(t32, u)
    assert k.tolist() == dither.quantize(t32, u).tolist()
    recon32 = dither_cuda.reconstruct(k, u)
    assert recon32.tolist() == dither.reconstruct(k, u).tolist()
    assert np.abs(t32 - recon32)[4:].max() <= 16


def test_no_latents():
    none = np.empty(0, np.int32)
    assert [a.size for a in dither_cuda.noise(7, 0, none)] == [0, 0]
