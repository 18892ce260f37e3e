"""CUDA kernels of the exact part: the integers of `reference`, for a batch of slices at once.

Block (x, y) of a kernel works for row x of its table, and threads of all y take strides. Coded
latents are brought together in order (compaction) in one launch. A warp takes the next tile of 1024
latents and counts its coded ones. It looks back at the counts of earlier tiles to find how many
coded latents come before, and writes its own after those (decoupled look-back: Merrill and Garland,
"Single-pass parallel prefix scan with decoupled look-back", 2016).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import int32

from trellic.gpu.jobs import SYMBOL_AT
from trellic.gpu.kernels.kernel import (
    SCRATCH,
    SIMULATED,
    WARP,
    ballot,
    device,
    kernel,
    product,
    shuffle,
)
from trellic.gpu.toolkit import cuda
from trellic.limits import (
    HYPER_LIMIT,
    LATENT_LIMIT,
    LOG_BIAS,
    LOG_BITS,
    MEAN_LIMIT,
    STEP32,
    TARGET_LIMIT,
)

# Columns of the table of slices.
IMAGE: Final = 0
HEIGHT: Final = 1  # of the slice, in latents
WIDTH: Final = 2
V_AT: Final = 3  # where the slice's latents begin, (channels, height, width)
F_AT: Final = 4  # where its window of the picture's latents begins
F_ROW: Final = 5  # from one row to the next there
F_PLANE: Final = 6  # from one channel to the next
FEATURE_AT: Final = 7  # the same for the features, whose strides are those of the latents
ROWS: Final = 8  # latents of later rows or columns are never coded
COLUMNS: Final = 9
SLICE_COLUMNS: Final = 10

# Columns of the table of tensors of a slice in one context step.
X_AT: Final = 0  # input of the context network
OUT_AT: Final = 1  # its outputs
TILE_AT: Final = 2  # counts of the tiles
STEP_COLUMNS: Final = 3

# Columns of the table of pictures.
Z_AT: Final = 0  # symbols of the hyper-latents
Z_SIZE: Final = 1  # of one plane of hyper-latents
H_AT: Final = 2  # outputs of h_a
HX_AT: Final = 3  # input of h_s
LEVEL: Final = 4  # the constant input of h_s
IMAGE_COLUMNS: Final = 5

TILE: Final = 8 * WARP if SIMULATED else 32 * WARP  # latents that a warp takes at a time
# The count that a tile publishes, in one word, so that no other memory must be in order with it:
# its number of coded latents, or that and those of all tiles before it, times 4, and which of the
# two.
OWN: Final = 1
UPTO: Final = 2

# What the step is to a latent, by (channel, parity).
EARLIER: Final = 0
NOW: Final = 1
LATER: Final = 2


@device
def _split(i: Any, height: Any, width: Any) -> Any:
    """Return channel, row and column of a latent, by two divisions."""
    size = np.uint32(height * width)
    c, rest = np.int32(np.uint32(i) // size), np.uint32(np.uint32(i) % size)
    return c, np.int32(rest // np.uint32(width)), np.int32(rest % np.uint32(width))


@device
def _moved(c: Any, y: Any, x: Any, dc: Any, dy: Any, dx: Any, height: Any, width: Any) -> Any:
    """Return channel, row and column of a latent further on, without a division.

    The distance is `_split` like a latent.
    """
    x, y, c = np.int32(x + dx), np.int32(y + dy), np.int32(c + dc)
    if x >= width:
        x, y = np.int32(x - width), np.int32(y + 1)
    if y >= height:
        y, c = np.int32(y - height), np.int32(c + 1)
    return c, y, x


@device
def _scaled(value: Any, factor: Any) -> Any:
    """Return ``floor(value * factor + 1/2)`` within `LATENT_LIMIT`, rounded as on the host."""
    scaled = np.float32(product(value, factor) + np.float32(0.5))
    scaled = min(max(scaled, np.float32(-LATENT_LIMIT)), np.float32(LATENT_LIMIT))
    return np.int32(math.floor(scaled))


@device
def _hyper_input(z: Any, scale: Any) -> Any:
    """Return a hyper-latent as h_s reads it."""
    return np.float32(min(max((z * scale + 32768) >> 16, -127), 127))


@kernel(
    "void(int64[:, ::1], float32[::1], int32, float32[:, ::1], int32[:, ::1], uint8[:, ::1],"
    " int32[:, ::1], int32[::1], uint8[::1], uint8[::1], float32[::1])"
)
def start_hyper(
    images: Any,
    h: Any,
    encoding: Any,
    gain: Any,
    mean: Any,
    table: Any,
    scale: Any,
    k: Any,
    cls: Any,
    index: Any,
    x: Any,
) -> None:
    """Scale indices of all hyper-latents; for an encoder, their symbols and the input of h_s."""
    image = cuda.blockIdx.x
    at, size, h_at = images[image, Z_AT], images[image, Z_SIZE], images[image, H_AT]
    x_at, channels = images[image, HX_AT], mean.shape[1]
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for i in range(place, (channels + encoding) * size, cuda.blockDim.x * cuda.gridDim.y):
        c = i // size
        if c == channels:
            x[x_at + i] = np.float32(min(max(images[image, LEVEL], -127), 127))
        else:
            index[at + i] = table[image, c]
            if encoding:
                z = np.int32(
                    min(max(_scaled(h[h_at + i], gain[image, c]), -HYPER_LIMIT), HYPER_LIMIT)
                )
                k[at + i] = z - mean[image, c]
                cls[at + i] = 0
                x[x_at + i] = _hyper_input(np.int64(z), np.int64(scale[image, c]))


@kernel("void(int64[:, ::1], int32[::1], int32[:, ::1], int32[:, ::1], float32[::1])")
def hyper_input(images: Any, k: Any, mean: Any, scale: Any, x: Any) -> None:
    """Make inputs of h_s: scaled hyper-latents, then the constant plane."""
    image = cuda.blockIdx.x
    at, size, x_at = images[image, Z_AT], images[image, Z_SIZE], images[image, HX_AT]
    channels = mean.shape[1]
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for i in range(place, (channels + 1) * size, cuda.blockDim.x * cuda.gridDim.y):
        c = i // size
        value = images[image, LEVEL]
        if c < channels:
            z = np.int64(k[at + i]) + np.int64(mean[image, c])
            x[x_at + i] = _hyper_input(z, np.int64(scale[image, c]))
        else:
            x[x_at + i] = np.float32(min(max(value, -127), 127))


@kernel("void(int64[:, ::1], float32[::1], float32[:, ::1], int64[::1])")
def sum_logs(slices: Any, f: Any, gain: Any, sums: Any) -> None:
    """Estimate the bits of each slice, in 1/256; see `trellic.latents.lanes.guess_lanes`."""
    row = cuda.blockIdx.x
    height, width = np.int32(slices[row, HEIGHT]), np.int32(slices[row, WIDTH])
    image, latents = slices[row, IMAGE], np.int32(gain.shape[1] * height * width)
    place = np.int32(cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x)
    stride = np.int32(cuda.blockDim.x * cuda.gridDim.y)
    dc, dy, dx = _split(stride, height, width)
    c, y, x = _split(place, height, width)
    total = np.int64(0)
    for _ in range(place, latents, stride):
        at = slices[row, F_AT] + c * slices[row, F_PLANE] + y * slices[row, F_ROW] + x
        whole = np.uint32(abs(_scaled(f[at], gain[image, c])) + STEP32)
        # The bits of a float32 below 2^24 are its logarithm, straight between powers of two.
        exponent = 31 - cuda.clz(np.uint32(whole))
        mantissa = np.uint32(whole << np.uint32(23 - exponent)) >> np.uint32(23 - LOG_BITS)
        mantissa &= (1 << LOG_BITS) - 1
        total += ((exponent + 127) << LOG_BITS | mantissa) - LOG_BIAS
        c, y, x = _moved(c, y, x, dc, dy, dx, height, width)
    cuda.atomic.add(sums, row, total)


@device
def fill_context(
    row: Any,
    start: Any,
    end: Any,
    stride: Any,
    slices: Any,
    tensors: Any,
    number: Any,
    features: Any,
    feature_channels: Any,
    v32: Any,
    seen: Any,
    scale: Any,
    x: Any,
) -> None:
    """Make a part of one slice's input of a context network; see `context_input`."""
    image = slices[row, IMAGE]
    height, width = np.int32(slices[row, HEIGHT]), np.int32(slices[row, WIDTH])
    size = np.int32(height * width)
    x_at, v_at = tensors[number, row, X_AT], slices[row, V_AT] - np.int64(feature_channels) * size
    dc, dy, dx = _split(stride, height, width)
    c, y, column = _split(start, height, width)
    for i in range(start, min(end, (feature_channels + seen) * size), stride):
        if c < feature_channels:
            at = slices[row, FEATURE_AT] + c * slices[row, F_PLANE] + y * slices[row, F_ROW]
            x[x_at + i] = features[at + column]
        else:
            value = np.int64(v32[v_at + i]) * scale[image, c - feature_channels]
            x[x_at + i] = np.float32(min(max((value + 32768) >> 16, -127), 127))
        c, y, column = _moved(c, y, column, dc, dy, dx, height, width)


@kernel(
    "void(int64[:, ::1], int64[:, :, ::1], int32, float32[::1], int32, int32[::1], int32,"
    " int64[:, ::1], float32[::1])"
)
def context_input(
    slices: Any,
    tensors: Any,
    number: Any,
    features: Any,
    feature_channels: Any,
    v32: Any,
    seen: Any,
    scale: Any,
    x: Any,
) -> None:
    """Make inputs of a context network: features of the slice, then its first `seen` channels."""
    row = cuda.blockIdx.x
    total = (feature_channels + seen) * slices[row, HEIGHT] * slices[row, WIDTH]
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    fill_context(
        row,
        place,
        total,
        cuda.blockDim.x * cuda.gridDim.y,
        slices,
        tensors,
        number,
        features,
        feature_channels,
        v32,
        seen,
        scale,
        x,
    )


@device
def _predict(
    i: Any,
    c: Any,
    y: Any,
    x: Any,
    row: Any,
    slices: Any,
    at: Any,
    first: Any,
    mu: Any,
    log_scale: Any,
    member: Any,
    gain: Any,
    shift: Any,
    skip: Any,
    scales: Any,
) -> Any:
    """Return what the step is to latent `i`, at (c, y, x), if that is coded; mean, index."""
    image = slices[row, IMAGE]
    mean, index = np.int64(0), np.int64(0)
    of_step = member[c, (y + x) & 1] == NOW
    coded = False
    if of_step:
        # Both factors have 32 bits, and their product is one instruction.
        mean = np.int64(np.int32(mu[at + i])) * np.int64(np.int32(gain[image, first + c]))
        mean = (mean + 32768) >> 16
        mean = min(max(mean, -MEAN_LIMIT), MEAN_LIMIT)
        index = (np.int32(log_scale[at + i]) * 16 + shift[image, first + c] + 64) >> 7
        index = min(max(index, 0), scales - 1)
        coded = index >= skip and y < slices[row, ROWS] and x < slices[row, COLUMNS]
    return member[c, (y + x) & 1], coded, np.int32(mean), np.int32(index)


@device
def _summed(value: Any, thread: Any, shared: Any) -> Any:
    """Return the sum over the threads of a block that is a warp."""
    distance = np.int32(1)
    while distance < cuda.blockDim.x:
        value = np.int32(value + shuffle(value, thread ^ distance, shared))
        distance = np.int32(2 * distance)
    return value


@device
def _look_back(told: Any, at: Any, tile: Any, found: Any, thread: Any, shared: Any) -> Any:
    """Return how many latents are coded in the tiles before one, and publish the sum.

    All threads of a warp take part. Tiles are taken in order, so those before have begun.
    """
    first = np.int32(OWN if tile > 0 else UPTO)
    if thread == 0:
        cuda.atomic.exch(told, at + tile, np.int32(4 * found + first))
    before, nearest = np.int32(0), np.int32(tile - 1)
    going = tile > 0
    while going:
        other = np.int32(nearest - thread)
        word = np.int32(UPTO)  # nothing comes before the first tile
        if other >= 0:
            word = np.int32(cuda.atomic.add(told, at + other, 0))  # read past the caches
        complete = np.uint32(ballot((word & 3) == UPTO, shared))
        # The nearest tile that knows the sum of all before it is the last to read.
        last = np.int32(cuda.ffs(complete) - 1) if complete else np.int32(cuda.blockDim.x - 1)
        asked = thread <= last
        if ballot(asked and (word & 3) == 0, shared) == 0:
            own = np.int32(word >> 2) if asked else np.int32(0)
            before = np.int32(before + _summed(own, thread, shared))
            nearest = np.int32(nearest - cuda.blockDim.x)
            going = complete == 0
    if thread == 0 and tile > 0:
        cuda.atomic.exch(told, at + tile, np.int32(4 * (before + found) + UPTO))
    return before


@device
def tiles_of(row: Any, slices: Any, channels: Any) -> Any:
    """Return how many tiles the latents of a slice are that a step predicts."""
    total = np.int32(channels * slices[row, HEIGHT] * slices[row, WIDTH])
    return np.int32((total + TILE - 1) // TILE)


@device
def take(tickets: Any, number: Any, row: Any, shared: Any) -> Any:
    """Take the next task of a slice in a step, for a whole warp."""
    task = np.int32(0)
    if cuda.threadIdx.x == 0:
        task = np.int32(cuda.atomic.add(tickets, (number, row), 1))
    return np.int32(shuffle(task, np.int32(0), shared))


@device
def compact_tile(
    row: Any,
    tile: Any,
    slices: Any,
    tensors: Any,
    number: Any,
    first: Any,
    channels: Any,
    mu: Any,
    log_scale: Any,
    member: Any,
    gain: Any,
    shift: Any,
    skip: Any,
    scales: Any,
    v32: Any,
    told: Any,
    jobs: Any,
    first_job: Any,
    counts: Any,
    encoding: Any,
    f: Any,
    f_gain: Any,
    position: Any,
    index: Any,
    t32: Any,
    shared: Any,
) -> Any:
    """Compact one tile; see `compact`. Returns where its coded latents begin, and how many.

    A latent is predicted once: mean, scale index and whether it is coded wait in shared memory, one
    word for each, until it is known where the tile's coded latents go. A thread reads only what it
    has written.
    """
    kept = cuda.shared.array(TILE, int32)
    thread, stride = np.int32(cuda.threadIdx.x), np.int32(cuda.blockDim.x)
    height, width = np.int32(slices[row, HEIGHT]), np.int32(slices[row, WIDTH])
    size = np.int32(height * width)
    at, v_at = tensors[number, row, OUT_AT], slices[row, V_AT] + first * size
    told_at, symbol_at = tensors[number, row, TILE_AT], jobs[first_job + row, SYMBOL_AT]
    image, total = slices[row, IMAGE], np.int32(channels * size)
    tiles = np.int32((total + TILE - 1) // TILE)
    begin, end = np.int32(tile * TILE), np.int32(min(tile * TILE + TILE, total))
    dc, dy, dx = _split(stride, height, width)
    c, y, x = _split(begin + thread, height, width)
    found = np.int32(0)
    for start in range(begin, end, stride):
        i = np.int32(start + thread)
        coded = False
        if i < end:
            now, coded, mean, chosen = _predict(
                i, c, y, x, row, slices, at, first, mu, log_scale, member, gain, shift, skip, scales
            )
            kept[i - begin] = mean << 9 | chosen << 1 | (1 if coded else 0)
            if now == NOW:
                v32[v_at + i] = mean
            elif now == LATER:
                v32[v_at + i] = 0
        c, y, x = _moved(c, y, x, dc, dy, dx, height, width)
        found = np.int32(found + cuda.popc(ballot(coded, shared)))
    before = _look_back(told, told_at, tile, found, thread, shared)
    if thread == 0 and tile == tiles - 1:
        counts[first_job + row] = before + found
    out = symbol_at + before
    c, y, x = _split(begin + thread, height, width)
    for start in range(begin, end, stride):
        i = np.int32(start + thread)
        word = np.int32(kept[i - begin]) if i < end else np.int32(0)
        coded = (word & 1) != 0
        votes = ballot(coded, shared)
        if coded:
            lower = np.uint32((np.uint32(1) << np.uint32(thread)) - 1)
            place = out + cuda.popc(np.uint32(votes & lower))
            position[place] = i
            index[place] = (word >> 1) & 255
            if encoding:
                where = slices[row, F_AT] + (first + c) * slices[row, F_PLANE]
                where += y * slices[row, F_ROW] + x
                t = np.int32(_scaled(f[where], f_gain[image, first + c]) - (word >> 9))
                t32[place] = min(max(t, -TARGET_LIMIT), TARGET_LIMIT)
        c, y, x = _moved(c, y, x, dc, dy, dx, height, width)
        out += cuda.popc(votes)
    return symbol_at + before, found


@kernel(
    "void(int64[:, ::1], int64[:, :, ::1], int32, int32, int32, float32[::1], float32[::1],"
    " uint8[:, ::1], int64[:, ::1], int64[:, ::1], int32, int32, int32[::1], int32[:, ::1],"
    " int32[::1], int64[:, ::1], int32, int32[::1], int32, float32[::1], float32[:, ::1],"
    " int32[::1], uint8[::1], int32[::1])"
)
def compact(
    slices: Any,
    tensors: Any,
    number: Any,
    first: Any,
    channels: Any,
    mu: Any,
    log_scale: Any,
    member: Any,
    gain: Any,
    shift: Any,
    skip: Any,
    scales: Any,
    v32: Any,
    tickets: Any,
    told: Any,
    jobs: Any,
    first_job: Any,
    counts: Any,
    encoding: Any,
    f: Any,
    f_gain: Any,
    position: Any,
    index: Any,
    t32: Any,
) -> None:
    """Fill in the means of one step, and bring its coded latents together; a block is a warp.

    Parameters
    ----------
    slices, tensors, number : tables of slices and of the steps' tensors, and which step it is
    first, channels : channels that are predicted
    mu, log_scale : outputs of the context network
    member : what the step is to a (channel, parity): `EARLIER`, `NOW` or `LATER`
    gain, shift : of (picture, channel)
    skip, scales : scale index below which nothing is coded; how many there are
    v32 : latents; those of later steps become 0
    tickets, told : of (step, slice), the next tile; what each tile has told. All 0 at first
    jobs, first_job, counts : where the step's symbols begin; how many each slice has, written
    encoding, f, f_gain : whether `t32` is wanted, and what it comes from
    position, index, t32 : of the symbols
    """
    shared = cuda.shared.array(SCRATCH, int32)
    row = np.int32(cuda.blockIdx.x)
    tiles = tiles_of(row, slices, channels)
    task = np.int32(0)
    while task < tiles:
        task = take(tickets, number, row, shared)
        if task < tiles:
            compact_tile(
                row,
                task,
                slices,
                tensors,
                number,
                first,
                channels,
                mu,
                log_scale,
                member,
                gain,
                shift,
                skip,
                scales,
                v32,
                told,
                jobs,
                first_job,
                counts,
                encoding,
                f,
                f_gain,
                position,
                index,
                t32,
                shared,
            )


@device
def fill_latents(
    row: Any,
    start: Any,
    end: Any,
    stride: Any,
    slices: Any,
    v32: Any,
    factor: Any,
    out: Any,
) -> None:
    """Divide the gains out of a part of one slice's latents; they go where a decoder reads them."""
    height, width = np.int32(slices[row, HEIGHT]), np.int32(slices[row, WIDTH])
    image = slices[row, IMAGE]
    dc, dy, dx = _split(stride, height, width)
    c, y, x = _split(start, height, width)
    for i in range(start, min(end, factor.shape[1] * height * width), stride):
        at = slices[row, F_AT] + c * slices[row, F_PLANE] + y * slices[row, F_ROW] + x
        value = np.float64(v32[slices[row, V_AT] + i]) * np.float64(factor[image, c])
        out[at] = np.float32(value)
        c, y, x = _moved(c, y, x, dc, dy, dx, height, width)
