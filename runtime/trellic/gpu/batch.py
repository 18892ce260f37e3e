"""Places of all data of a batch: tables of pictures, slices and jobs, made on the host.

Pictures may have any sizes and qualities. Pictures of one size lie next to one another, and so do
slices of one size, so that a network runs once for each size, and a kernel once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.geometry import Plane, Rectangle
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device
from trellic.gpu.given import DeviceArray
from trellic.gpu.kernels import predict as kernels
from trellic.latents.order import grid_of
from trellic.limits import STEP32
from trellic.model.channels import Layout, Step
from trellic.model.quality import GAIN_BITS, Level

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Image:
    """One picture of a batch: its planes, its level, its trellis (0: scalar), its search."""

    plane: Plane
    level: Level
    states: int
    lam: int = 0


@dataclass(frozen=True)
class Run:
    """One run of a network: members of one shape, which lie next to one another."""

    shape: Shape
    count: int
    at: int  # position (rows times columns) where they begin, in a buffer of one channel


def arrange(shapes: Sequence[Shape]) -> tuple[list[Run], Int64s]:
    """Arrange planes by shape.

    Returns
    -------
    runs, and where each plane begins in a buffer of one channel; with `c` channels everything lies
    `c` times as far, since the members of a run lie one after the other, (count, c, rows, columns)
    """
    at = np.zeros(len(shapes), np.int64)
    runs, end = [], 0
    for shape in dict.fromkeys(shapes):
        members = [i for i, other in enumerate(shapes) if other == shape]
        size = shape[0] * shape[1]
        runs.append(Run(shape, len(members), end))
        at[members] = end + size * np.arange(len(members))
        end += size * len(members)
    return runs, at


class Images:
    """Tables of the pictures of a batch.

    Attributes
    ----------
    z_runs, latent_runs, padded_runs : runs of h_s, of the networks on latents, on pixels (g_a, g_s)
    table : int64 (pictures, `kernels.IMAGE_COLUMNS`)
    z_total, latent_total : positions in all planes
    """

    def __init__(self, images: Sequence[Image], layout: Layout) -> None:
        self.images, self.layout = list(images), layout
        self.z_runs, self.z_at = arrange([image.plane.hyper for image in images])
        self.latent_runs, self.latent_at = arrange([image.plane.latents for image in images])
        sizes = np.array([np.prod(image.plane.hyper) for image in images], np.int64)
        self.z_total, self.latent_total = int(sizes.sum()), int(layout.cell**2 * sizes.sum())
        table = np.zeros((len(images), kernels.IMAGE_COLUMNS), np.int64)
        table[:, kernels.Z_AT] = layout.hyper * (np.cumsum(sizes) - sizes)
        table[:, kernels.Z_SIZE] = sizes
        table[:, kernels.H_AT] = layout.hyper * self.z_at
        table[:, kernels.HX_AT] = (layout.hyper + 1) * self.z_at
        table[:, kernels.LEVEL] = [image.level.plane for image in images]
        self.table = table

    @property
    def z_counts(self) -> npt.NDArray[np.int32]:
        """Hyper-latents of each picture."""
        return (self.layout.hyper * self.table[:, kernels.Z_SIZE]).astype(np.int32)

    @property
    def qualities(self) -> list[npt.NDArray[np.float32]]:
        """The quality of each picture that float transforms see, run by run."""
        order = np.argsort(self.latent_at)
        quality = np.array([self.images[i].level.quality for i in order], np.float32)
        return np.split(quality, np.cumsum([run.count for run in self.latent_runs])[:-1])

    def of_levels(self, value: Callable[[Level], Any], dtype: Any) -> npt.NDArray[Any]:
        """Stack one of the levels' arrays, (pictures, channels)."""
        return np.stack([value(image.level) for image in self.images]).astype(dtype)

    def constants(self) -> dict[str, npt.NDArray[Any]]:
        """All tables of (picture, channel) that kernels read."""
        return {
            "images": self.table,
            "hyper_gain": self.of_levels(lambda level: level.hyper_gain_float, np.float32),
            "hyper_mean": self.of_levels(lambda level: level.hyper_mean, np.int32),
            "hyper_table": self.of_levels(lambda level: level.hyper_index, np.uint8),
            "hyper_scale": self.of_levels(lambda level: level.hyper_scale, np.int32),
            "gain": self.of_levels(lambda level: level.gain, np.int64),
            "shift": self.of_levels(lambda level: level.scale_shift, np.int64),
            "context_scale": self.of_levels(lambda level: level.context_scale, np.int64),
            "latent_gain": self.of_levels(lambda level: level.gain_float * STEP32, np.float32),
            "latent_factor": self.of_levels(
                lambda level: np.float32(2.0 ** (GAIN_BITS - 5)) / level.gain.astype(np.float32),
                np.float32,
            ),
        }


@dataclass(frozen=True)
class Slices:
    """Tables of slices, of some or all pictures of a batch.

    Attributes
    ----------
    owner : picture of each
    part : its window of that picture's latents
    lanes : rANS lanes of each
    """

    images: Images
    owner: list[int]
    part: list[Rectangle]
    lanes: list[int]
    runs: list[Run] = field(init=False)
    table: Int64s = field(init=False)
    at: Int64s = field(init=False)

    def __post_init__(self) -> None:
        shapes = [(part.bottom - part.top, part.right - part.left) for part in self.part]
        runs, at = arrange(shapes)
        object.__setattr__(self, "runs", runs)  # frozen from here on
        object.__setattr__(self, "at", at)
        rows = [self._row(i, *shape) for i, shape in enumerate(shapes)]
        table = np.array(rows, np.int64).reshape(len(shapes), kernels.SLICE_COLUMNS)
        object.__setattr__(self, "table", table)

    @classmethod
    def all(cls, images: Images, side: Sequence[int | None]) -> Slices:
        """Return all slices of a batch, with one lane each.

        `side` is that of each picture's slices in latents, None for that of its plane.
        """
        owner, part = [], []
        for i, image in enumerate(images.images):
            grid = grid_of(image.plane, side[i])
            owner += [i] * len(grid)
            part += grid
        return cls(images, owner, part, [1] * len(part))

    def with_lanes(self, lanes: Sequence[int]) -> Slices:
        """Return the same slices with other lanes."""
        other = copy(self)
        object.__setattr__(other, "lanes", list(lanes))
        return other

    def chosen(self, which: Sequence[int], lanes: Sequence[int]) -> Slices:
        """Return some of the slices, with other lanes."""
        return Slices(
            self.images, [self.owner[i] for i in which], [self.part[i] for i in which], list(lanes)
        )

    @property
    def leads(self) -> list[bool]:
        """Whether each is its picture's first slice, whose lanes begin in z."""
        return [part.top == 0 and part.left == 0 for part in self.part]

    @property
    def sizes(self) -> Int64s:
        """Positions of each."""
        return self.table[:, kernels.HEIGHT] * self.table[:, kernels.WIDTH]

    def _row(self, i: int, height: int, width: int) -> list[int]:
        owner, part = self.owner[i], self.part[i]
        plane, layout = self.images.images[owner].plane, self.images.layout
        rows, columns = plane.coded
        stride = plane.latents[1]
        within = part.top * stride + part.left
        at = int(self.images.latent_at[owner])
        row = [0] * kernels.SLICE_COLUMNS
        row[kernels.IMAGE], row[kernels.HEIGHT], row[kernels.WIDTH] = owner, height, width
        row[kernels.V_AT] = layout.latents * int(self.at[i])
        row[kernels.F_AT] = layout.latents * at + within
        row[kernels.F_ROW], row[kernels.F_PLANE] = stride, plane.latents[0] * stride
        row[kernels.FEATURE_AT] = within  # less the picture's own start, see `feature_starts`
        row[kernels.ROWS], row[kernels.COLUMNS] = rows - part.top, columns - part.left
        return row

    def with_features(self, channels: int) -> Int64s:
        """Return the table with features of so many channels."""
        table = self.table.copy()
        table[:, kernels.FEATURE_AT] += channels * self.images.latent_at[self.owner]
        return table

    def tensors(self, features: int) -> tuple[Int64s, int]:
        """Return where the tensors of the context steps lie, and how many tiles there are.

        The table is int64 (steps, slices, STEP_COLUMNS).
        """
        steps: Sequence[Step] = self.images.layout.steps
        table = np.zeros((len(steps), len(self.part), kernels.STEP_COLUMNS), np.int64)
        channels = np.array([step.last - step.first for step in steps])[:, None]
        wide = np.array([features + step.context for step in steps])[:, None]
        table[:, :, kernels.X_AT] = wide * self.at
        table[:, :, kernels.OUT_AT] = channels * self.at
        tiles = -(-channels * self.sizes // kernels.TILE)
        table[:, :, kernels.TILE_AT] = (np.cumsum(tiles) - tiles.ravel()).reshape(tiles.shape)
        return table, int(tiles.sum())

    def rooms(self, members: Sequence[npt.NDArray[np.bool_]]) -> Int64s:
        """Return the most symbols of each (step, slice): latents that belong to the step."""
        height, width = self.table[:, kernels.HEIGHT], self.table[:, kernels.WIDTH]
        even = (height * width + 1) // 2  # positions where y + x is even
        odd = height * width - even
        return np.stack([m[:, 0].sum() * even + m[:, 1].sum() * odd for m in members])

    def jobs(self, members: Sequence[npt.NDArray[np.bool_]]) -> columns.JobPlan:
        """Return the jobs of the slices.

        Jobs of z come first, one for each slice that leads a picture, then those of step 0, step 1,
        ..., slice by slice.

        Parameters
        ----------
        members : bool (channels, 2) of each step, whether a (channel, parity) belongs to it
        """
        rooms, z_counts = self.rooms(members), self.images.z_counts
        z_at = self.images.table[:, kernels.Z_AT].tolist()
        steps, number = rooms.shape
        leads = [i for i, lead in enumerate(self.leads) if lead]
        state_at = (np.cumsum(self.lanes) - self.lanes).tolist()
        rows = [
            columns.describe(self.lanes[i], state_at[i], z_at[self.owner[i]], 0, fresh=True)
            for i in leads
        ]
        firsts = np.array([step.first for step in self.images.layout.steps])[:, None]
        targets = self.table[:, kernels.V_AT] + firsts * self.sizes
        symbol_at = (int(z_counts.sum()) + np.cumsum(rooms) - rooms.ravel()).tolist()
        for n, at in enumerate(symbol_at):
            step, i = divmod(n, number)
            image, fresh = self.images.images[self.owner[i]], step == 0 and not self.leads[i]
            row = columns.describe(self.lanes[i], state_at[i], at, image.states, fresh=fresh)
            row[columns.LAMBDA] = image.lam
            row[columns.TARGET_AT] = int(targets[step, i])
            rows.append(row)
        order = np.full((number, 1 + steps), -1, np.int32)
        order[leads, 0] = np.arange(len(leads))
        order[:, 1:] = len(leads) + np.arange(number)[:, None] + number * np.arange(steps)
        z_own = z_counts[[self.owner[i] for i in leads]]
        counts = np.concatenate([z_own, np.zeros(rooms.size, np.int32)])
        return columns.JobPlan(np.array(rows, np.int64), order, rooms, counts)


def view(device: Device, flat: DeviceArray, run: Run, channels: int) -> DeviceArray:
    """Return the tensor of a run, (count, channels, rows, columns), in a flat buffer."""
    size = run.count * channels * run.shape[0] * run.shape[1]
    at, shape = channels * run.at, (run.count, channels, *run.shape)
    return device.part(flat, at, at + size, shape)
