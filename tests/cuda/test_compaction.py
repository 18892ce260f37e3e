"""Compaction over many tiles: the reference's latents, in its order, whoever comes first."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from twins import device

from trellic.gpu import jobs as columns
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.predictor import WARP_THREADS
from trellic.latents import reference

SCALES, SKIP = 20, 6
SHAPES = [(9, 13), (30, 35)]  # of two slices, (height, width)
ROWS, COLUMNS = 26, 33  # beyond them nothing is coded
CHANNELS = 5


def tables():
    """Slices next to one another, one step of all channels, their jobs."""
    slices = np.zeros((len(SHAPES), kernels.SLICE_COLUMNS), np.int64)
    tensors = np.zeros((1, len(SHAPES), kernels.STEP_COLUMNS), np.int64)
    rows = []
    at = tile = 0
    for i, (height, width) in enumerate(SHAPES):
        slices[i, [kernels.IMAGE, kernels.HEIGHT, kernels.WIDTH]] = i, height, width
        slices[i, [kernels.V_AT, kernels.ROWS, kernels.COLUMNS]] = at, ROWS, COLUMNS
        tensors[0, i, [kernels.OUT_AT, kernels.TILE_AT]] = at, tile
        rows.append(columns.describe(1, i, at, 0, fresh=False))
        at += CHANNELS * height * width
        tile += -(-CHANNELS * height * width // kernels.TILE)
    return slices, tensors, np.array(rows, np.int64), at, tile


def launch(made, blocks):
    """Run the kernel; return counts, positions, scale indices and latents."""
    on = device()
    slices, tensors, rows, size, tiles = tables()
    staged = on.stage(
        "compaction",
        {
            **made,
            **{"slices": slices, "tensors": tensors, "rows": rows},
            "tickets": np.zeros((1, len(SHAPES)), np.int32),
            "told": np.zeros(tiles, np.int32),
            "v32": np.full(size, 77, np.int32),
            "counts": np.full(len(SHAPES), -1, np.int32),
            "position": np.full(size, -1, np.int32),
            "index": np.full(size, 255, np.uint8),
        },
    )
    kernels.compact(
        *((len(SHAPES), blocks), WARP_THREADS, on.stream),
        *(staged["slices"], staged["tensors"], 0, 0, CHANNELS),
        *(staged["mu"], staged["scale"], staged["member"], staged["gain"], staged["shift"]),
        *(SKIP, SCALES, staged["v32"], staged["tickets"], staged["told"]),
        *(staged["rows"], 0, staged["counts"], 0, staged["mu"], staged["f_gain"]),
        *(staged["position"], staged["index"], on.empty("t32", 1, np.int32)),
    )
    return on.fetch_all(*(staged[name] for name in ("counts", "position", "index", "v32")))


@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_latents_come_in_order(blocks):
    rng = np.random.default_rng(blocks)
    _, _, _, size, tiles = tables()
    assert tiles > 4
    member = rng.integers(0, 3, (CHANNELS, 2)).astype(np.uint8)
    member[0] = kernels.EARLIER, kernels.NOW
    made = {
        "mu": rng.integers(-3000, 3000, size).astype(np.float32),
        "scale": rng.integers(-40, 140, size).astype(np.float32),
        "member": member,
        "gain": rng.integers(30_000, 90_000, (len(SHAPES), CHANNELS)).astype(np.int64),
        "shift": rng.integers(-64, 64, (len(SHAPES), CHANNELS)).astype(np.int64),
        "f_gain": np.ones((len(SHAPES), CHANNELS), np.float32),
    }
    counts, position, index, v32 = launch(made, blocks)
    at = 0
    for i, (height, width) in enumerate(SHAPES):
        shape, end = (CHANNELS, height, width), at + CHANNELS * height * width
        parity = np.add.outer(np.arange(height), np.arange(width)) & 1
        expected = np.where(member[:, parity] == kernels.LATER, 0, 77).astype(np.int32)
        limits = (ROWS, COLUMNS, SKIP, SCALES)
        where, _, scale_index = reference.predict(
            *(made["mu"][at:end].reshape(shape), made["scale"][at:end].reshape(shape)),
            *(member == kernels.NOW, made["gain"][i], made["shift"][i], limits, expected),
        )
        assert counts[i] == len(where) > 0
        assert position[at : at + len(where)].tolist() == where.tolist()
        assert index[at : at + len(where)].tolist() == scale_index.tolist()
        assert v32[at:end].tolist() == expected.ravel().tolist()
        at = end
