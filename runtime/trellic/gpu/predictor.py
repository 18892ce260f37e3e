"""Means and scale indices of a batch, step by step: `trellic.latents.predictor` on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import Tables
from trellic.gpu.batch import Images, Run, Slices, view
from trellic.gpu.device import Device, DeviceArray
from trellic.gpu.engines import DeviceEngine
from trellic.gpu.jobs import JobPlan
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.state import BatchState, Jobs, PictureState, PictureTables, Symbols
from trellic.gpu.toolkit import cuda
from trellic.model.channels import Layout

MOST_TILES: Final = 512  # blocks that share a slice's tiles
WARP_THREADS: Final = 4 if SIMULATED else WARP  # of kernels whose block is a warp without lanes


@dataclass(frozen=True)
class _StepTensors:
    """What the network of a context step makes."""

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
        self._networks, self._features = networks, features
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
        staged : what was brought to the device, `Images.constants` among it
        h : float32, flat: outputs of h_a, where `images` says; None for a decoder
        """
        device, layout = self.device, self.layout
        room = int(images.z_counts.sum()) + layout.latents * images.latent_total
        features = device.empty("features", self._features * images.latent_total, np.float32)
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
        """Make the input of h_s from decoded hyper-latents; an encoder has it from the start."""
        grid = self.device.grid(len(state.images.images))
        scale = (state.tables.hyper_mean, state.tables.hyper_scale)
        kernels.hyper_input(*grid, state.tables.images, state.symbols.k, *scale, state.x)

    def run_hyper(self, state: PictureState) -> None:
        """Run h_s on the hyper-latents: fill the features in."""
        device, images, channels = self.device, state.images, self.layout.hyper + 1
        cell = self.layout.cell
        for run in images.z_runs:
            rows, columns = run.shape
            wide = Run((cell * rows, cell * columns), run.count, cell**2 * run.at)
            out = view(state.features, wide, self._features)
            self._networks["h_s"]({"x": view(state.x, run, channels)}, [out])
        device.mark("h_s")

    # ---- slices ----

    def plan(self, slices: Slices) -> JobPlan:
        """Return the jobs of slices."""
        return slices.jobs(self._members)

    def tables(self, slices: Slices) -> dict[str, npt.NDArray[Any]]:
        """Return what the steps are told of slices, to be brought to the device with the jobs."""
        tensors, tiles = slices.tensors(self._features)
        return {
            "slices": slices.with_features(self._features),
            "tensors": tensors,
            "tickets": np.zeros(tensors.shape[:2], np.int32),
            "told": np.zeros(tiles, np.int32),
        }

    def cut(self, pictures: PictureState, slices: Slices, jobs: Jobs) -> BatchState:
        """Return slices of the pictures, none of whose latents is known yet.

        Parameters
        ----------
        jobs : of the slices, with `tables` brought along
        """
        size = self.layout.latents * int(slices.sizes.sum())
        v32 = self.device.empty("v32", size, np.int32)
        return BatchState(pictures, slices, jobs.staged["slices"], jobs, v32)

    def predict(self, k: int, state: BatchState, f: DeviceArray | None) -> None:
        """Run a context network, and bring the step's coded latents together.

        Parameters
        ----------
        f : float32, flat: outputs of g_a, where the pictures' tables say; None for a decoder
        """
        tensors = self._run_context(k, state)
        self._compact(k, state, tensors, f)
        self.device.mark("compaction")

    def _run_context(self, k: int, state: BatchState) -> _StepTensors:
        device, step, slices = self.device, self.steps[k], state.slices
        channels, wide = step.last - step.first, self._features + step.context
        positions = int(slices.sizes.sum())
        tensors = _StepTensors(
            device.empty("mu", channels * positions, np.float32),
            device.empty("log scale", channels * positions, np.float32),
        )
        x = device.empty("context input", wide * positions, np.float32)
        kernels.context_input(
            *device.grid(len(slices.part)),
            state.table,
            state.jobs.staged["tensors"],
            k,
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
        channels, slices, jobs = step.last - step.first, state.slices, state.jobs
        most = -(-channels * int(slices.sizes.max()) // kernels.TILE)
        symbols = pictures.symbols
        kernels.compact(
            *((len(slices.part), min(most, MOST_TILES)), WARP_THREADS, device.stream),
            *(state.table, jobs.staged["tensors"], k, step.first, channels),
            *(tensors.mu, tensors.log_scale, self._roles[k]),
            *(pictures.tables.gain, pictures.tables.shift),
            *(self.layout.skip_index, self.layout.scales, state.v32),
            *(jobs.staged["tickets"], jobs.staged["told"]),
            *(jobs.table, jobs.plan.of_step(k).start, jobs.counts),
            *(int(f is not None), tensors.mu if f is None else f, pictures.tables.latent_gain),
            *(symbols.position, symbols.index, symbols.t32),
        )


def _roles(layout: Layout, k: int) -> npt.NDArray[np.uint8]:
    """Return what a step is to each (channel, parity) that it predicts."""
    step, owner = layout.steps[k], layout.step_of
    roles = np.full(owner.shape, kernels.EARLIER, np.uint8)
    roles[owner == k], roles[owner > k] = kernels.NOW, kernels.LATER
    return roles[step.first : step.last]
