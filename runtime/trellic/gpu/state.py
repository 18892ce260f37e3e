"""State of a batch in the device's memory, passed from step to step.

Nothing here changes once made; kernels write into the arrays, in the order of the device's stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.gpu.batch import Images, Slices
from trellic.gpu.device import Device
from trellic.gpu.given import DeviceArray, Filled
from trellic.gpu.jobs import JobPlan


class PictureTables(NamedTuple):
    """Tables of the pictures of a batch; all but `images` are (pictures, channels)."""

    images: DeviceArray
    hyper_gain: DeviceArray
    hyper_mean: DeviceArray
    hyper_table: DeviceArray
    hyper_scale: DeviceArray
    gain: DeviceArray
    shift: DeviceArray
    context_scale: DeviceArray
    latent_gain: DeviceArray
    latent_factor: DeviceArray

    @classmethod
    def of(cls, staged: Mapping[str, DeviceArray]) -> PictureTables:
        """Find the tables among the arrays on the device."""
        return cls(**{name: staged[name] for name in cls._fields})


class Symbols(NamedTuple):
    """Symbols of all segments, flat: where the jobs say."""

    k: DeviceArray  # int32, indices
    cls: DeviceArray  # uint8, classes
    index: DeviceArray  # uint8, scale indices
    position: DeviceArray  # int32, within the channels of the step of the slice
    t32: DeviceArray  # int32, what an encoder quantizes

    @classmethod
    def empty(cls, device: Device, room: int) -> Symbols:
        """Return memory for this many symbols."""
        wide, narrow = np.int32, np.uint8
        return cls(
            k=device.empty("k", room, wide),
            cls=device.empty("cls", room, narrow),
            index=device.empty("index", room, narrow),
            position=device.empty("position", room, wide),
            t32=device.empty("t32", room, wide),
        )


@dataclass(frozen=True)
class Jobs:
    """All segments of a batch: as planned on the host, and in the device's memory.

    Attributes
    ----------
    plan : on the host
    table : int64 (jobs, COLUMNS), the plan's rows
    counts : int32 (jobs,), symbols of each; those of context steps are written step by step
    staged : other arrays that were brought to the device with them, by name
    """

    plan: JobPlan
    table: DeviceArray
    counts: DeviceArray
    staged: Mapping[str, DeviceArray]

    @classmethod
    def of(
        cls, device: Device, plan: JobPlan, beside: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> Jobs:
        """Bring a plan and other arrays of a batch to the device in one copy."""
        return cls.sent(device, plan, cls.fill(device, plan, beside or {}))

    @staticmethod
    def fill(device: Device, plan: JobPlan, beside: Mapping[str, npt.NDArray[Any]]) -> Filled:
        """Put a plan and other arrays of a batch into pinned memory."""
        own: dict[str, npt.NDArray[Any]] = {"jobs": plan.rows, "counts": plan.counts}
        return device.fill("of jobs", own | dict(beside))

    @classmethod
    def sent(cls, device: Device, plan: JobPlan, filled: Filled) -> Jobs:
        """Send what was filled in to the device."""
        staged = device.send(filled)
        return cls(plan, staged["jobs"], staged["counts"], staged)


@dataclass(frozen=True)
class PictureState:
    """Data of the pictures of a batch.

    Attributes
    ----------
    images : with the places of all data
    tables : of the pictures
    symbols : of all segments, those of the hyper-latents first
    features : float32, flat: outputs of h_s
    x : float32, flat: its inputs
    """

    images: Images
    tables: PictureTables
    symbols: Symbols
    features: DeviceArray
    x: DeviceArray


class StepTables(NamedTuple):
    """What the context steps are told of slices, however many lanes those have.

    Attributes
    ----------
    slices : int64 (slices, SLICE_COLUMNS)
    tensors : int64 (steps, slices, STEP_COLUMNS)
    tickets, done : int32, of (step, slice): the next task, and how many are done of each kind
    told : int32, what tiles have told one another
    """

    slices: DeviceArray
    tensors: DeviceArray
    tickets: DeviceArray
    told: DeviceArray
    done: DeviceArray

    @classmethod
    def of(cls, staged: Mapping[str, DeviceArray]) -> StepTables:
        """Find the tables among what was brought to the device."""
        return cls(**{name: staged[name] for name in cls._fields})


@dataclass(frozen=True)
class SliceState:
    """Slices of a batch before their lanes are known: enough for the first context network.

    Attributes
    ----------
    pictures : what belongs to the pictures
    slices : all of the batch, or those that are coded again
    tables : of the slices
    v32 : int32, flat: latents of the slices in 1/32 step, filled step by step
    """

    pictures: PictureState
    slices: Slices
    tables: StepTables
    v32: DeviceArray


@dataclass(frozen=True)
class BatchState(SliceState):
    """A batch on its way through the context steps.

    Attributes
    ----------
    jobs : of the slices, and what the steps are told beside them
    """

    jobs: Jobs

    @classmethod
    def of(cls, state: SliceState, slices: Slices, jobs: Jobs) -> BatchState:
        """Return slices whose lanes are known, `slices`, with their jobs."""
        return cls(state.pictures, slices, state.tables, state.v32, jobs)
