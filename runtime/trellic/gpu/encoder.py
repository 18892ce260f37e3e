"""Latents of a batch to segments of streams: `trellic.latents.encoder` on a GPU.

The order of the steps is the same, and so are the bytes. The host waits twice: for an estimate of
the bytes of each slice, which decides its number of lanes, and for the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.gpu.batch import Slices
from trellic.gpu.device import DeviceArray
from trellic.gpu.entropy import coding_tables, encode_batch
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.predictor import BatchPredictor
from trellic.gpu.search import search_paths
from trellic.gpu.state import Jobs, PictureState
from trellic.gpu.steps import StepPaths, encode_step, encode_step_plainly
from trellic.latents.encoder import CodedLatents
from trellic.latents.lanes import guess_bytes
from trellic.latents.order import in_file_order

MORE_WORDS: Final = 3  # this many times the guessed number of words is fetched at once
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
        """Return the tables that `encode` needs on the device."""
        return {
            **slices.images.constants(),
            "all slices": slices.table,
            "log sums": np.zeros(len(slices.part), np.int64),
        }

    def encode(
        self, slices: Slices, staged: Mapping[str, DeviceArray], f: DeviceArray, h: DeviceArray
    ) -> list[CodedLatents]:
        """Code the latents of a batch.

        Parameters
        ----------
        slices : all of a batch, one lane each
        staged : `tables` on the device
        f : float32, flat: outputs of g_a of all pictures, where the pictures' tables say
        h : float32, flat: outputs of h_a

        Returns
        -------
        segments in file order and lanes, for each picture
        """
        pictures = self._predictor.start(slices.images, staged, h)
        self._predictor.run_hyper(pictures)
        sizes = self._guess(pictures, slices, staged, f)
        lanes = [entropy.choose_lanes(size) for size in sizes]
        self._device.mark("guess lanes")
        words = MORE_WORDS * sum(sizes) // 2 + LEAST_WORDS
        coded = self._coded(pictures, slices.chosen(range(len(lanes)), lanes), f, words)
        right = [entropy.choose_lanes(sum(map(len, parts))) for parts in coded]
        wrong = [i for i, number in enumerate(right) if number < lanes[i]]
        if wrong:  # a guess of too many lanes is corrected once
            again = slices.chosen(wrong, [right[i] for i in wrong])
            for i, parts in zip(wrong, self._coded(pictures, again, f, words), strict=True):
                coded[i], lanes[i] = parts, right[i]
        return self._of_images(slices, coded, lanes)

    def _guess(
        self,
        pictures: PictureState,
        slices: Slices,
        staged: Mapping[str, DeviceArray],
        f: DeviceArray,
    ) -> list[int]:
        """Return an estimate of the bytes of each slice."""
        device, sums = self._device, staged["log sums"]
        grid = device.grid(len(slices.part))
        kernels.sum_logs(*grid, staged["all slices"], f, pictures.tables.latent_gain, sums)
        latents = self._predictor.layout.latents
        return [
            guess_bytes(int(bits), part.area * latents)
            for bits, part in zip(device.fetch(sums), slices.part, strict=True)
        ]

    def _coded(
        self, pictures: PictureState, slices: Slices, f: DeviceArray, words: int
    ) -> list[list[bytes]]:
        """Return the segments of each slice; a picture's first one begins with hyper-latents."""
        predictor, device = self._predictor, self._device
        plan = predictor.plan(slices)
        paths = StepPaths.of(plan)
        searched = search_paths(plan) if paths is None else paths.tables()
        beside = coding_tables(plan) | searched | predictor.tables(slices)
        jobs = Jobs.of(device, plan, beside)
        state = predictor.cut(pictures, slices, jobs)
        predictor.fill_context(0, state)
        for k in range(len(predictor.steps)):
            if paths is None:
                encode_step_plainly(predictor, k, state, f)
            else:
                encode_step(predictor, k, state, paths, f)
        coded = encode_batch(device, predictor.frequencies, jobs, pictures.symbols, words)
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
