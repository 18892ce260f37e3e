"""Latents of a batch to segments of streams: `trellic.latents.encoder` on a GPU.

The order of the steps is the same, and so are the bytes. The host waits twice: for an estimate of
the bytes of each slice, which decides its number of lanes (the device runs networks in the
meantime), and for the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.gpu.batch import Slices
from trellic.gpu.entropy import Coding, coding_tables, encode_batch
from trellic.gpu.given import Asked, DeviceArray
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.predictor import BatchPredictor, StepTensors
from trellic.gpu.search import search_paths
from trellic.gpu.state import BatchState, Jobs, SliceState
from trellic.gpu.steps import StepPaths, encode_step, encode_step_plainly
from trellic.latents.encoder import CodedLatents
from trellic.latents.lanes import guess_bytes
from trellic.latents.order import in_file_order

MORE_WORDS: Final = 3  # this many times the guessed number of words is fetched at once
LEAST_WORDS: Final = 1 << 13


@dataclass(frozen=True)
class Begun:
    """A batch whose first networks have been launched.

    Attributes
    ----------
    state : its slices, with one lane each
    tensors : what the first context network makes
    f : float32, flat: outputs of g_a
    asked : about how large the slices will be
    """

    state: SliceState
    tensors: StepTensors
    f: DeviceArray
    asked: Asked


@dataclass(frozen=True)
class Launched:
    """A batch of which everything has been launched.

    Attributes
    ----------
    begun : where it comes from
    slices : with the lanes that were guessed
    words : how many were guessed
    coding : what comes back
    """

    begun: Begun
    slices: Slices
    words: int
    coding: Coding


class BatchEncoder:
    """Codes latents of batches with the networks and tables of one model.

    What `begin` returns goes to `launch`, and what that returns to `finish`; between them the
    device may begin with another batch, in memory of its own (`Device.turn`).

    Parameters
    ----------
    predictor : of the model, on a device
    """

    def __init__(self, predictor: BatchPredictor) -> None:
        self._predictor, self._device = predictor, predictor.device

    def tables(self, slices: Slices) -> dict[str, npt.NDArray[Any]]:
        """Return the tables that `ask_sizes` and `begin` need on the device."""
        return {
            **slices.images.constants(),
            **self._predictor.tables(slices),
            "log sums": np.zeros(len(slices.part), np.int64),
        }

    def ask_sizes(self, slices: Slices, staged: Mapping[str, DeviceArray], f: DeviceArray) -> Asked:
        """Let the device say about how large the slices will be, as soon as f is there.

        Parameters
        ----------
        slices : all of a batch, one lane each
        staged : `tables` on the device
        f : float32, flat: outputs of g_a of all pictures, where the pictures' tables say
        """
        device, sums = self._device, staged["log sums"]
        grid = device.grid(len(slices.part))
        kernels.sum_logs(*grid, staged["slices"], f, staged["latent_gain"], sums)
        device.mark("log sums")
        return device.ask("log sums", sums)

    def begin(
        self,
        slices: Slices,
        staged: Mapping[str, DeviceArray],
        f: DeviceArray,
        h: DeviceArray,
        asked: Asked,
    ) -> Begun:
        """Launch the networks that need no lanes, up to the first step's; do not wait.

        Parameters
        ----------
        slices, staged, f : of `ask_sizes`
        h : float32, flat: outputs of h_a
        asked : from `ask_sizes`
        """
        predictor = self._predictor
        pictures = predictor.start(slices.images, staged, h)
        predictor.run_hyper(pictures)
        state = predictor.cut(pictures, slices, staged)
        return Begun(state, self._first_tensors(state), f, asked)

    def launch(self, begun: Begun) -> Launched:
        """Wait for the sizes, lay out lanes and jobs, and launch all that is left."""
        slices, latents = begun.state.slices, self._predictor.layout.latents
        sizes = [
            guess_bytes(int(bits), part.area * latents)
            for bits, part in zip(begun.asked.wait()[0], slices.part, strict=True)
        ]
        right = slices.with_lanes([entropy.choose_lanes(size) for size in sizes])
        words = MORE_WORDS * sum(sizes) // 2 + LEAST_WORDS
        jobs, paths = self._jobs(right, {})
        state = BatchState.of(begun.state, right, jobs)
        return Launched(
            begun, right, words, self._coded(state, begun.tensors, paths, begun.f, words)
        )

    def finish(self, launched: Launched) -> list[CodedLatents]:
        """Wait for the words; return segments in file order and lanes, for each picture."""
        predictor, begun, slices = self._predictor, launched.begun, launched.slices
        coded, lanes = launched.coding.segments(), list(slices.lanes)
        better = [entropy.choose_lanes(sum(map(len, parts))) for parts in coded]
        wrong = [i for i, number in enumerate(better) if number < lanes[i]]
        if wrong:  # a guess of too many lanes is mended once
            again = slices.chosen(wrong, [better[i] for i in wrong])
            jobs, paths = self._jobs(again, predictor.tables(again))
            cut = predictor.cut(begun.state.pictures, again, jobs.staged)
            state, tensors = BatchState.of(cut, again, jobs), self._first_tensors(cut)
            mended = self._coded(state, tensors, paths, begun.f, launched.words).segments()
            for i, parts in zip(wrong, mended, strict=True):
                coded[i], lanes[i] = parts, better[i]
        return self._of_images(slices, coded, lanes)

    def _first_tensors(self, state: SliceState) -> StepTensors:
        """Run the first context network, which needs no lanes."""
        self._predictor.fill_context(0, state)
        return self._predictor.run_context(0, state)

    def _jobs(
        self, slices: Slices, beside: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[Jobs, StepPaths | None]:
        """Bring the jobs of slices to the device, and what else is there beside them."""
        plan = self._predictor.plan(slices)
        paths = StepPaths.of(plan)
        searched = search_paths(plan) if paths is None else paths.tables()
        staged = coding_tables(plan) | searched | dict(beside)
        return Jobs.of(self._device, plan, staged), paths

    def _coded(
        self,
        state: BatchState,
        tensors: StepTensors,
        paths: StepPaths | None,
        f: DeviceArray,
        words: int,
    ) -> Coding:
        """Launch all steps; the hyper-latents come first where a slice leads a picture."""
        predictor, device = self._predictor, self._device
        for k in range(len(predictor.steps)):
            if k > 0:
                tensors = predictor.run_context(k, state)
            if paths is None:
                encode_step_plainly(predictor, k, state, tensors, f)
            else:
                encode_step(predictor, k, state, tensors, paths, f)
        symbols = state.pictures.symbols
        coded = encode_batch(device, predictor.frequencies, state.jobs, symbols, words)
        device.mark("rANS encode and copy")
        return coded

    def _of_images(
        self, slices: Slices, coded: list[list[bytes]], lanes: list[int]
    ) -> list[CodedLatents]:
        steps = len(self._predictor.steps)
        own: list[list[int]] = [[] for _ in slices.images.images]
        for i, owner in enumerate(slices.owner):
            own[owner].append(i)
        return [
            CodedLatents(in_file_order([coded[i] for i in part], steps), [lanes[i] for i in part])
            for part in own
        ]
