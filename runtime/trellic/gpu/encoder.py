"""Latents of a batch to segments of streams: `trellic.latents.encoder` on a GPU.

The order of the steps is the same, and so are the bytes. The host waits twice: for about how many
bytes a slice will take, which says how many lanes it gets, while the device is busy with the
networks, and for the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.gpu.batch import Slices
from trellic.gpu.device import Asked, DeviceArray
from trellic.gpu.entropy import coding_tables, encode_batch
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.predictor import BatchPredictor, StepTensors
from trellic.gpu.search import search_paths
from trellic.gpu.state import BatchState, Jobs, SliceState
from trellic.gpu.steps import StepPaths, encode_step, encode_step_plainly
from trellic.latents.encoder import CodedLatents
from trellic.latents.lanes import guess_bytes
from trellic.latents.order import in_file_order

MORE_WORDS: Final = 3  # than are guessed are fetched without asking first, so many times
LEAST_WORDS: Final = 1 << 13


class BatchEncoder:
    """Codes latents of batches with the networks and tables of one model.

    Parameters
    ----------
    predictor : of the model, on a device
    """

    def __init__(self, predictor: BatchPredictor) -> None:
        self._predictor, self._device = predictor, predictor.device

    def tables(self, slices: Slices) -> dict[str, npt.NDArray[Any]]:
        """Return what has to be brought to the device before `ask_sizes` and `encode`."""
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

    def encode(
        self,
        slices: Slices,
        staged: Mapping[str, DeviceArray],
        f: DeviceArray,
        h: DeviceArray,
        asked: Asked,
    ) -> list[CodedLatents]:
        """Code the latents of a batch.

        The networks up to the first step's are launched before the host waits for the sizes: the
        device works on them while the host lays out lanes and jobs.

        Parameters
        ----------
        slices, staged, f : of `ask_sizes`
        h : float32, flat: outputs of h_a
        asked : from `ask_sizes`

        Returns
        -------
        segments in file order and lanes, for each picture
        """
        predictor = self._predictor
        pictures = predictor.start(slices.images, staged, h)
        predictor.run_hyper(pictures)
        state = predictor.cut(pictures, slices, staged)
        tensors = self._first_tensors(state)
        sizes = self._sizes(slices, asked)
        lanes = [entropy.choose_lanes(size) for size in sizes]
        words = MORE_WORDS * sum(sizes) // 2 + LEAST_WORDS
        right = slices.with_lanes(lanes)
        jobs, paths = self._jobs(right, {})
        coded = self._coded(BatchState.of(state, right, jobs), tensors, paths, f, words)
        better = [entropy.choose_lanes(sum(map(len, parts))) for parts in coded]
        wrong = [i for i, number in enumerate(better) if number < lanes[i]]
        if wrong:  # a guess of too many lanes is mended once
            again = slices.chosen(wrong, [better[i] for i in wrong])
            jobs, paths = self._jobs(again, predictor.tables(again))
            state = predictor.cut(pictures, again, jobs.staged)
            tensors = self._first_tensors(state)
            mended = self._coded(BatchState.of(state, again, jobs), tensors, paths, f, words)
            for i, parts in zip(wrong, mended, strict=True):
                coded[i], lanes[i] = parts, better[i]
        return self._of_images(slices, coded, lanes)

    def _first_tensors(self, state: SliceState) -> StepTensors:
        """Run the first context network, which needs no lanes."""
        self._predictor.fill_context(0, state)
        return self._predictor.run_context(0, state)

    def _sizes(self, slices: Slices, asked: Asked) -> list[int]:
        """Wait for the sums of logarithms; return about how many bytes each slice will take."""
        latents = self._predictor.layout.latents
        return [
            guess_bytes(int(bits), part.area * latents)
            for bits, part in zip(asked.wait()[0], slices.part, strict=True)
        ]

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
    ) -> list[list[bytes]]:
        """Return the segments of each slice, the hyper-latents' first where it leads a picture."""
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
