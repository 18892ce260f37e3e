"""Means and scale indices of a batch, step by step: `trellic.latents.predictor` on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import Tables
from trellic.gpu.batch import Images, Run, Slices, view
from trellic.gpu.device import Device
from trellic.gpu.engines import DeviceEngine
from trellic.gpu.given import DeviceArray
from trellic.gpu.jobs import JobPlan
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.kernels.step import COUNTERS
from trellic.gpu.state import (
    BatchState,
    PictureState,
    PictureTables,
    SliceState,
    StepTables,
    Symbols,
)
from trellic.gpu.toolkit import cuda
from trellic.model.channels import Layout

MOST_BLOCKS: Final = 512  # that share a slice
WARP_THREADS: Final = 4 if SIMULATED else WARP  # of kernels whose block is a warp without lanes


@dataclass(frozen=True)
class StepTensors:
    """Outputs of the network of a context step."""

    mu: DeviceArray
    log_scale: DeviceArray


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
        self.device, self.layout, self.frequencies = device, layout, tables
        self._networks, self.features = networks, features
        self.steps = layout.steps
        self._members = [layout.step_of == k for k in range(len(self.steps))]
        self._roles = [
            cuda.to_device(np.ascontiguousarray(_roles(layout, k)), device.stream)
            for k in range(len(self.steps))
        ]

    # ---- pictures ----

    def start(
        self, images: Images, staged: Mapping[str, DeviceArray], h: DeviceArray | None
    ) -> PictureState:
        """Return pictures with scale indices of their hyper-latents and, encoding, the symbols.

        Parameters
        ----------
        staged : arrays on the device, with those of `Images.constants`
        h : float32, flat: outputs of h_a, where `images` says; None for a decoder
        """
        device, layout = self.device, self.layout
        room = int(images.z_counts.sum()) + layout.latents * images.latent_total
        features = device.empty("features", self.features * images.latent_total, np.float32)
        tables = PictureTables.of(staged)
        x = device.empty("h_s input", (layout.hyper + 1) * images.z_total, np.float32)
        state = PictureState(images, tables, Symbols.empty(device, room), features, x)
        kernels.start_hyper(
            *device.grid(len(images.images)),
            tables.images,
            device.empty("no latents", 1, np.float32) if h is None else h,
            int(h is not None),
            tables.hyper_gain,
            tables.hyper_mean,
            tables.hyper_table,
            tables.hyper_scale,
            *state.symbols[:3],
            x,
        )
        return state

    def fill_hyper(self, state: PictureState) -> None:
        """Make the input of h_s from decoded hyper-latents; an encoder has it already."""
        grid = self.device.grid(len(state.images.images))
        scale = (state.tables.hyper_mean, state.tables.hyper_scale)
        kernels.hyper_input(*grid, state.tables.images, state.symbols.k, *scale, state.x)

    def run_hyper(self, state: PictureState) -> None:
        """Run h_s on the hyper-latents, which gives the features."""
        device, images, channels = self.device, state.images, self.layout.hyper + 1
        cell = self.layout.cell
        for run in images.z_runs:
            rows, columns = run.shape
            wide = Run((cell * rows, cell * columns), run.count, cell**2 * run.at)
            out = view(device, state.features, wide, self.features)
            self._networks["h_s"]({"x": view(device, state.x, run, channels)}, [out])
        device.mark("h_s")

    # ---- slices ----

    def plan(self, slices: Slices) -> JobPlan:
        """Return the jobs of slices."""
        return slices.jobs(self._members)

    def tables(self, slices: Slices) -> dict[str, npt.NDArray[Any]]:
        """Return what the steps are told of slices (`StepTables`), to be brought to the device."""
        tensors, tiles = slices.tensors(self.features)
        return {
            "slices": slices.with_features(self.features),
            "tensors": tensors,
            "tickets": np.zeros(tensors.shape[:2], np.int32),
            "told": np.zeros(tiles, np.int32),
            "done": np.zeros((*tensors.shape[:2], COUNTERS), np.int32),
        }

    def cut(
        self, pictures: PictureState, slices: Slices, staged: Mapping[str, DeviceArray]
    ) -> SliceState:
        """Return slices of the pictures, none of whose latents is known yet.

        Parameters
        ----------
        staged : `tables` on the device
        """
        size = self.layout.latents * int(slices.sizes.sum())
        v32 = self.device.empty("v32", size, np.int32)
        return SliceState(pictures, slices, StepTables.of(staged), v32)

    def fill_context(self, k: int, state: SliceState) -> None:
        """Make the inputs of a context network by a launch of its own."""
        step = self.steps[k]
        kernels.context_input(
            *self.device.grid(len(state.slices.part)),
            *(state.tables.slices, state.tables.tensors, k),
            *(state.pictures.features, self.features, state.v32, step.context),
            *(state.pictures.tables.context_scale, self.context_of(state)),
        )
        self.device.mark("context input")

    def context_of(self, state: SliceState) -> DeviceArray:
        """Return room for the inputs of any of the context networks."""
        most = self.features + max(step.context for step in self.steps)
        return self.device.empty("context input", most * int(state.slices.sizes.sum()), np.float32)

    def run_context(self, k: int, state: SliceState) -> StepTensors:
        """Run a context network on its inputs, which have been made."""
        device, step, slices = self.device, self.steps[k], state.slices
        channels, wide = step.last - step.first, self.features + step.context
        size, x = channels * int(slices.sizes.sum()), self.context_of(state)
        tensors = StepTensors(
            device.empty("mu", size, np.float32), device.empty("log scale", size, np.float32)
        )
        for run in slices.runs:
            outputs = [
                view(device, made, run, channels) for made in (tensors.mu, tensors.log_scale)
            ]
            self._networks[f"context_{k}"]({"x": view(device, x, run, wide)}, outputs)
        device.mark("context networks")
        return tensors

    def compact(self, k: int, state: BatchState, tensors: StepTensors, f: DeviceArray) -> None:
        """Bring a step's coded latents together by a launch of its own, for an encoder.

        Parameters
        ----------
        f : float32, flat: outputs of g_a, where the pictures' tables say
        """
        step, symbols = self.steps[k], state.pictures.symbols
        tiles = -(-(step.last - step.first) * int(state.slices.sizes.max()) // kernels.TILE)
        before, after = self.compaction(k, state, tensors)
        kernels.compact(
            *((len(state.slices.part), min(tiles, MOST_BLOCKS)), WARP_THREADS, self.device.stream),
            *(*before, state.tables.tickets, *after),
            *(1, f, state.pictures.tables.latent_gain),
            *(symbols.position, symbols.index, symbols.t32),
        )
        self.device.mark("compaction")

    def compaction(
        self, k: int, state: BatchState, tensors: StepTensors
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arguments of kernels that compact, before their counters and after them."""
        step, jobs, tables = self.steps[k], state.jobs, state.pictures.tables
        before = (
            *(state.tables.slices, state.tables.tensors, k, step.first, step.last - step.first),
            *(tensors.mu, tensors.log_scale, self._roles[k], tables.gain, tables.shift),
            *(self.layout.skip_index, self.layout.scales, state.v32),
        )
        after = (state.tables.told, jobs.table, jobs.plan.of_step(k).start, jobs.counts)
        return before, after


def _roles(layout: Layout, k: int) -> npt.NDArray[np.uint8]:
    """Return the role of each (channel, parity) that a step predicts."""
    step, owner = layout.steps[k], layout.step_of
    roles = np.full(owner.shape, kernels.EARLIER, np.uint8)
    roles[owner == k], roles[owner > k] = kernels.NOW, kernels.LATER
    return roles[step.first : step.last]
