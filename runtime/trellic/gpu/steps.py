"""Launches of whole context steps: all that happens between one context network and the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.gpu import jobs as columns
from trellic.gpu import search
from trellic.gpu.entropy import CodedWords
from trellic.gpu.given import DeviceArray
from trellic.gpu.jobs import JobPlan
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.kernels import step as whole
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.predictor import MOST_BLOCKS, WARP_THREADS, BatchPredictor, StepTensors
from trellic.gpu.state import BatchState

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StepPaths:
    """The paths of the searches of all steps, for `encode_step`.

    Attributes
    ----------
    paths : int64 (paths, 3), see the kernel `search_warps`
    ranges : int64 (steps, slices, RANGE_COLUMNS)
    words : of survivors, in any step
    threads : of a block
    """

    paths: Int64s
    ranges: Int64s
    words: int
    threads: int

    @classmethod
    def of(cls, plan: JobPlan) -> StepPaths | None:
        """Return the paths of a plan; None if a trellis has more states than a warp has threads."""
        if (plan.rows[:, columns.STATES] > WARP).any():
            return None
        ranges = np.zeros((*plan.rooms.shape, whole.RANGE_COLUMNS), np.int64)
        found = [np.zeros((0, 3), np.int64)]
        at, most, threads = 0, 1, WARP_THREADS if SIMULATED else WARP
        for k, room in enumerate(plan.rooms):
            paths, words, width = search.paths_of_all(plan.rows[plan.of_step(k)], room)
            counts = np.bincount(paths[:, 0], minlength=len(room))
            ranges[k, :, whole.PATHS] = counts
            ranges[k, :, whole.PATH_AT] = at + np.cumsum(counts) - counts
            found.append(paths)
            at, most, threads = at + len(paths), max(most, words), max(threads, width)
        return cls(np.concatenate([*found, np.zeros((1, 3), np.int64)]), ranges, most, threads)

    def tables(self) -> dict[str, Int64s]:
        """Return the tables to bring to the device with the jobs."""
        return {"step paths": self.paths, "path ranges": self.ranges}


def decode_step(
    predictor: BatchPredictor,
    k: int,
    state: BatchState,
    tensors: StepTensors,
    coded: CodedWords,
    out: DeviceArray,
) -> None:
    """Decode a step; make the input of the next context network, or that of the decoder network.

    Parameters
    ----------
    tensors : what the step's context network has made
    out : float32, flat: latents, their gains divided out, where the pictures' tables say
    """
    before, after = predictor.compaction(k, state, tensors)
    device, symbols, staged = predictor.device, state.pictures.symbols, state.jobs.staged
    on, tables = device.tables(predictor.frequencies), state.pictures.tables
    threads = WARP if not SIMULATED else max(WARP_THREADS, min(coded.widest, WARP))
    whole.decode_step(
        *(_grid(predictor, k, state, -(-coded.widest // WARP)), threads, device.stream),
        *(*before, state.tables.tickets, state.tables.done, *after),
        *(symbols.position, symbols.index, coded.words, on.entry, on.half_width, on.first),
        *(coded.states, symbols.k, symbols.cls, staged["status"], on.off, on.step),
        *_next(predictor, k, state),
        *(tables.latent_factor, out, int(k + 1 == len(predictor.steps))),
    )
    device.mark("decode steps")


def encode_step(
    predictor: BatchPredictor,
    k: int,
    state: BatchState,
    tensors: StepTensors,
    paths: StepPaths,
    f: DeviceArray,
) -> None:
    """Choose the indices of a step; make the input of the next context network.

    Parameters
    ----------
    tensors : what the step's context network has made
    f : float32, flat: outputs of g_a, where the pictures' tables say
    """
    before, after = predictor.compaction(k, state, tensors)
    device, symbols, staged = predictor.device, state.pictures.symbols, state.jobs.staged
    on = device.tables(predictor.frequencies)
    base, cost, ks = search.branches(device, state.jobs.plan, k)
    most = int(paths.ranges[k, :, whole.PATHS].max())
    whole.encode_step(
        *(_grid(predictor, k, state, most), paths.threads, device.stream),
        *(*before, state.tables.tickets, state.tables.done, *after),
        *(f, state.pictures.tables.latent_gain, symbols.position, symbols.index, symbols.t32),
        *(base, on.rate, on.rate_zero, on.half_width, on.off, on.max_off, on.step, cost, ks),
        *(staged["step paths"], staged["path ranges"]),
        device.empty("survivors", paths.words, np.uint32),
        *(symbols.k, symbols.cls, *_next(predictor, k, state)),
        int(k + 1 == len(predictor.steps)),
    )
    device.mark("encode steps")


def encode_step_plainly(
    predictor: BatchPredictor, k: int, state: BatchState, tensors: StepTensors, f: DeviceArray
) -> None:
    """Do the same kernel by kernel, for trellises whose states are more than a warp's threads."""
    predictor.compact(k, state, tensors, f)
    symbols, tables = state.pictures.symbols, predictor.frequencies
    search.search_batch(predictor.device, tables, state.jobs, k, symbols, state.v32)
    predictor.device.mark("search")
    if k + 1 < len(predictor.steps):
        predictor.fill_context(k + 1, state)


def _next(predictor: BatchPredictor, k: int, state: BatchState) -> tuple[Any, ...]:
    """Return the sources of the next network's input, and where the input goes."""
    step = predictor.steps[min(k + 1, len(predictor.steps) - 1)]
    scale, x = state.pictures.tables.context_scale, predictor.context_of(state)
    return state.pictures.features, predictor.features, step.context, scale, x


def _grid(predictor: BatchPredictor, k: int, state: BatchState, coding: int) -> tuple[int, int]:
    """Return blocks: for each slice as many as the largest has tasks, up to a limit."""
    step, size = predictor.steps[k], int(state.slices.sizes.max())
    tiles = -(-(step.last - step.first) * size // kernels.TILE)
    return len(state.slices.part), min(max(tiles, coding), MOST_BLOCKS)
