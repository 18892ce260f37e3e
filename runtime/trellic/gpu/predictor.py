"""Means and scale indices of a batch, step by step: `trellic.latents.predictor` on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from trellic.entropy.tables import Tables
from trellic.gpu.batch import Images, Run, Slices, view
from trellic.gpu.device import Device, DeviceArray
from trellic.gpu.engines import DeviceEngine
from trellic.gpu.jobs import JobPlan
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.search import reconstruct_batch
from trellic.gpu.state import BatchState, Jobs, PictureState, PictureTables, Symbols
from trellic.model.channels import Layout

MOST_TILES: Final = 4096  # blocks that share a slice's tiles
WARP_THREADS: Final = 4 if SIMULATED else WARP  # of kernels whose block is a warp without lanes


@dataclass(frozen=True)
class _StepTensors:
    """Tensors of a context step: where each slice's lie, and what the network makes."""

    table: DeviceArray
    mu: DeviceArray
    log_scale: DeviceArray
    tiles: int  # in all, rounded up
    most: int  # of one slice


class BatchPredictor:
    """The exact side of a model, for batches.

    Parameters
    ----------
    device
    layout, tables : of the bundle
    networks : "h_s" and "context_k", as engines on the device
    features : channels of the output of h_s
    """

    def __init__(
        self,
        device: Device,
        layout: Layout,
        tables: Tables,
        networks: Mapping[str, DeviceEngine],
        features: int,
    ) -> None:
        self.device, self.layout, self.tables = device, layout, tables
        self._networks, self._features = networks, features
        self.steps = layout.steps
        self._members = [layout.step_of == k for k in range(len(self.steps))]

    # ---- pictures ----

    def start(self, images: Images, h: DeviceArray | None) -> PictureState:
        """Return pictures with scale indices of their hyper-latents and, encoding, the symbols.

        Parameters
        ----------
        h : float32, flat: outputs of h_a, where `images` says; None for a decoder
        """
        device, layout = self.device, self.layout
        room = int(images.z_counts.sum()) + layout.latents * images.latent_total
        features = device.empty("features", self._features * images.latent_total, np.float32)
        tables = PictureTables.of(device, images)
        state = PictureState(images, tables, Symbols.empty(device, room), features)
        kernels.start_hyper(
            *device.grid(len(images.images)),
            tables.images,
            device.empty("no latents", 1, np.float32) if h is None else h,
            int(h is not None),
            tables.hyper_gain,
            tables.hyper_mean,
            tables.hyper_table,
            *state.symbols[:3],
        )
        return state

    def run_hyper(self, state: PictureState) -> None:
        """Run h_s on the hyper-latents: fill the features in."""
        device, images, channels = self.device, state.images, self.layout.hyper + 1
        x = device.empty("h_s input", channels * images.z_total, np.float32)
        grid = device.grid(len(images.images))
        scale = (state.tables.hyper_mean, state.tables.hyper_scale)
        kernels.hyper_input(*grid, state.tables.images, state.symbols.k, *scale, x)
        cell = self.layout.cell
        for run in images.z_runs:
            rows, columns = run.shape
            wide = Run((cell * rows, cell * columns), run.count, cell**2 * run.at)
            out = view(state.features, wide, self._features)
            self._networks["h_s"]({"x": view(x, run, channels)}, [out])
        device.mark("h_s")

    # ---- slices ----

    def plan(self, slices: Slices) -> JobPlan:
        """Return the jobs of slices."""
        return slices.jobs(self._members)

    def cut(self, pictures: PictureState, slices: Slices, plan: JobPlan) -> BatchState:
        """Return slices of the pictures, none of whose latents is known yet."""
        table = self.device.upload("slices", slices.with_features(self._features))
        v32 = self.device.zeros("v32", self.layout.latents * int(slices.sizes.sum()))
        return BatchState(pictures, slices, table, Jobs.of(self.device, plan), v32)

    def predict(self, k: int, state: BatchState, f: DeviceArray | None) -> None:
        """Run a context network, and bring the step's coded latents together.

        Parameters
        ----------
        f : float32, flat: outputs of g_a, where the pictures' tables say; None for a decoder
        """
        tensors = self._run_context(k, state)
        self._compact(k, state, tensors, f)
        self.device.mark("compaction")

    def fill(self, k: int, state: BatchState) -> None:
        """Add the reconstructions of a step to its means."""
        slices = state.slices
        targets = slices.table[:, kernels.V_AT] + self.steps[k].first * slices.sizes
        on_device = self.device.upload(f"targets {k}", targets)
        symbols = state.pictures.symbols
        reconstruct_batch(self.device, self.tables, state.jobs, k, symbols, on_device, state.v32)
        self.device.mark("reconstruct")

    def _run_context(self, k: int, state: BatchState) -> _StepTensors:
        device, step, slices = self.device, self.steps[k], state.slices
        channels, wide = step.last - step.first, self._features + step.context
        positions, largest = int(slices.sizes.sum()), int(slices.sizes.max())
        host = slices.tensors(step, self._features)
        most = -(-channels * largest // kernels.TILE)
        tensors = _StepTensors(
            device.upload(f"tensors {k}", host),
            device.empty("mu", channels * positions, np.float32),
            device.empty("log scale", channels * positions, np.float32),
            int(host[-1, kernels.TILE_AT]) + most,
            most,
        )
        x = device.empty("context input", wide * positions, np.float32)
        kernels.context_input(
            *device.grid(len(slices.part)),
            state.table,
            tensors.table,
            state.pictures.features,
            self._features,
            state.v32,
            step.context,
            state.pictures.tables.context_scale,
            x,
        )
        device.mark("context input")
        for run in slices.runs:
            outputs = [view(made, run, channels) for made in (tensors.mu, tensors.log_scale)]
            self._networks[f"context_{k}"]({"x": view(x, run, wide)}, outputs)
        device.mark("context networks")
        return tensors

    def _compact(
        self, k: int, state: BatchState, tensors: _StepTensors, f: DeviceArray | None
    ) -> None:
        device, step, pictures = self.device, self.steps[k], state.pictures
        channels, number = step.last - step.first, len(state.slices.part)
        own = self._members[k][step.first : step.last].astype(np.uint8)
        member = device.upload(f"member {k}", own)
        tiles = device.empty("tiles", tensors.tiles, np.int32)
        grid = ((number, min(tensors.most, MOST_TILES)), WARP_THREADS, device.stream)
        where = (state.table, tensors.table)
        model = (
            *(step.first, channels, tensors.mu, tensors.log_scale, member),
            *(pictures.tables.gain, pictures.tables.shift),
            *(self.layout.skip_index, self.layout.scales),
        )
        first_job = state.jobs.plan.of_step(k).start
        kernels.count_coded(*grid, *where, *model, state.v32, tiles)
        one = (number, WARP_THREADS, device.stream)
        kernels.sum_tiles(*one, *where, channels, tiles, first_job, state.jobs.counts)
        kernels.write_coded(
            *grid,
            *where,
            *model,
            tiles,
            state.jobs.table,
            first_job,
            int(f is not None),
            tensors.mu if f is None else f,
            pictures.tables.latent_gain,
            pictures.symbols.position,
            pictures.symbols.index,
            pictures.symbols.t32,
        )
