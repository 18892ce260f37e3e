"""A slice on its way through layers: the common part of coder and decoder.

::

    each layer l, each step k:  features of level l, latents of l so far -> context k
                                -> mean, scale index -> joined with what layer l - 1 knows
    each part j of the step:    its share of the coded latents, those of large scale first
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.entropy.tables import Tables
from trellic.geometry import Plane, Rectangle
from trellic.latents.predictor import Predictor, SliceContext
from trellic.latents.quantizer import Quantizer
from trellic.latents.refine import rescaled
from trellic.limits import MEAN_LIMIT
from trellic.model.channels import Step
from trellic.model.quality import Level

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


class Pass(NamedTuple):
    """The latents that one segment codes, in coding order.

    Attributes
    ----------
    layer : from 0
    step : the context step
    position : int32 (n,), into the flattened channels of the step
    mean32 : int32 (n,), in 1/32 step of the layer
    scale_index : uint8 (n,), of what is unknown of each: latents are sorted by it
    """

    layer: int
    step: Step
    position: Int32
    mean32: Int32
    scale_index: Uint8


class LayeredSlice(ABC):
    """One slice of a layered picture.

    Parameters
    ----------
    predictor : of all context steps
    z : int64 (hyper, rows, columns), hyper-latents of the picture
    part : the slice's window of the picture's latents
    plane : of the picture
    levels : of the layers, rising; all with the hyper-latents of the last
    parts : number of parts that each step is split into
    """

    def __init__(
        self,
        predictor: Predictor,
        z: Int64,
        part: Rectangle,
        plane: Plane,
        levels: Sequence[Level],
        parts: int,
    ) -> None:
        self._predictor, self._z, self._part, self._plane = predictor, z, part, plane
        self._levels, self._parts = levels, parts
        self._layer, self._begun = 0, 0  # layer at work, and its steps that have begun
        self._context = self._start(0)

    def passes(self) -> Iterator[Pass]:
        """Yield every pass; it must be chosen or read before the next one is requested."""
        for layer in range(len(self._levels)):
            if layer:
                self._rise()
            for of in self._turns():
                self._context = replace(self._context, v32=np.zeros_like(self._context.v32))
                for k, step in enumerate(self._predictor.steps):
                    self._begun = k + 1
                    position, mean32, index = self._predict(k, step)
                    order, ends = shares(index, of * self._parts)
                    for begin, end in pairwise([0, *ends[: self._parts]]):
                        own = order[begin:end]
                        yield Pass(layer, step, position[own], mean32[own], index[own])

    @abstractmethod
    def choose(
        self, coded: Pass, y32: Int64, quantizer: Quantizer, lanes: int, tables: Tables
    ) -> entropy.Segment | entropy.Divided:
        """Quantize the latents of a pass, add them, and return their symbols.

        Parameters
        ----------
        y32 : int64 (channels, rows, columns), the slice's latents in 1/32 step of the layer
        """

    @abstractmethod
    def read(
        self, coded: Pass, segment: bytes, decoder: entropy.Decoder, states: int, tables: Tables
    ) -> None:
        """Decode the latents of a pass and add them."""

    def latents(self, layer: int) -> Int32:
        """Return int32 (channels, rows, columns), in 1/32 step of a layer not below the last begun.

        Latents that were not coded yet have what is expected of them.
        """
        for k in range(self._begun, len(self._predictor.steps)):
            self._expect(k, self._predictor.steps[k])
        v32 = self._context.v32.astype(np.int64)
        if layer != self._layer:
            v32 = rescaled(v32, self._levels[self._layer].gain, self._levels[layer].gain)
        return v32.astype(np.int32)

    # ---- layers ----

    def _start(self, layer: int) -> SliceContext:
        return self._predictor.start(self._z, self._part, self._plane, self._levels[layer])

    @abstractmethod
    def _carry(self, before: Int64, after: Int64) -> None:
        """Carry what is known over to the next layer's steps, given the gains of both."""

    def _rise(self) -> None:
        """Begin the next layer from the values of this one."""
        self._carry(self._levels[self._layer].gain, self._levels[self._layer + 1].gain)
        self._layer, self._begun = self._layer + 1, 0
        self._context = self._start(self._layer)

    # ---- steps ----

    def _turns(self) -> Sequence[int]:
        """Return for each turn through the layer's steps which share of what is left it codes.

        A half is 2, everything is 1.
        """
        return (1,)

    @abstractmethod
    def _expect(self, k: int, step: Step) -> None:
        """Set the latents of a step that has not begun."""

    @abstractmethod
    def _predict(self, k: int, step: Step) -> tuple[Int32, Int32, Uint8]:
        """Return positions, means and scale indices of the coded latents of a step.

        All its latents are set: coded ones to their values so far, others to their means.
        """

    def _outputs(self, k: int, step: Step) -> tuple[Int64, Int64]:
        """Return what the network of a step says: means in 1/32 step, and scale indices."""
        own, level = slice(step.first, step.last), self._levels[self._layer]
        mu, log_scale = (np.asarray(out) for out in self._predictor.outputs(k, self._context))
        gain, shift = level.gain[own][:, None, None], level.scale_shift[own][:, None, None]
        mean = (mu.astype(np.int64) * gain + (1 << 15)) >> 16
        index = (log_scale.astype(np.int64) * 16 + shift + 64) >> 7
        last = self._predictor.layout.scales - 1
        return np.clip(mean, -MEAN_LIMIT, MEAN_LIMIT), np.clip(index, 0, last)

    def _mask(self, k: int, step: Step) -> Bools:
        mask: Bools = self._step_of()[step.first : step.last] == k
        return mask

    def _parity(self) -> tuple[Int64, Int64]:
        rows, columns = self._context.v32.shape[1:]
        return np.arange(rows)[:, None], np.arange(columns)[None, :]

    def _step_of(self) -> Int64:
        y, x = self._parity()
        step_of: Int64 = self._predictor.layout.step_of[:, (y + x) & 1]
        return step_of

    def _inside(self) -> Bools:
        y, x = self._parity()
        rows, columns = self._plane.coded
        inside: Bools = (y < rows - self._part.top) & (x < columns - self._part.left)
        return inside


def of_pass(plane: Int64, coded: Pass) -> Int64:
    """Return a plane's values of the latents of a pass."""
    return plane[coded.step.first : coded.step.last].ravel()[coded.position]


def shares(index: Uint8, parts: int) -> tuple[npt.NDArray[np.intp], list[int]]:
    """Split the coded latents of a step into parts of about as many bits.

    Parameters
    ----------
    index : uint8 (n,), scale indices in raster order
    parts : number of parts

    Returns
    -------
    order : intp (n,), coding order: by falling scale index, equal ones in raster order; raster
        order alone where there is one part
    ends : where each part ends in it
    """
    if parts == 1:
        return np.arange(len(index)), [len(index)]
    order = np.argsort(-index.astype(np.int16), kind="stable")
    weight = np.cumsum(index[order].astype(np.int64))
    total = int(weight[-1]) if len(weight) else 0
    ends = [int(np.searchsorted(parts * weight, j * total)) for j in range(1, parts)]
    return order, [*ends, len(index)]
