"""Latents of a batch to segments of streams: `trellic.latents.encoder` on a GPU.

The order of the steps is the same, and so are the bytes. Only numbers that the host must know come
back on the way: sizes of slices for their lanes, numbers of words, and the words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trellic import entropy
from trellic.gpu.batch import Images, Slices
from trellic.gpu.device import DeviceArray
from trellic.gpu.entropy import encode_batch
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.predictor import BatchPredictor
from trellic.gpu.search import search_batch
from trellic.gpu.state import PictureState
from trellic.latents.encoder import CodedLatents
from trellic.latents.lanes import guess_lanes
from trellic.latents.order import in_file_order


class BatchEncoder:
    """Codes latents of batches with the networks and tables of one model.

    Parameters
    ----------
    predictor : of the model, on a device
    """

    def __init__(self, predictor: BatchPredictor) -> None:
        self._predictor, self._device = predictor, predictor.device

    def encode(
        self, images: Images, side: Sequence[int | None], f: DeviceArray, h: DeviceArray
    ) -> list[CodedLatents]:
        """Code the latents of a batch.

        Parameters
        ----------
        images : where everything lies
        side : of the slices of each picture, in latents; None for the usual 1024 pixels
        f : float32, flat: outputs of g_a of all pictures, where `images` says
        h : float32, flat: outputs of h_a

        Returns
        -------
        segments in file order and lanes, for each picture
        """
        pictures = self._predictor.start(images, h)
        self._predictor.run_hyper(pictures)
        slices = Slices.all(images, side)
        lanes = self._guess(pictures, slices, f)
        self._device.mark("guess lanes")
        coded = self._coded(pictures, slices.chosen(range(len(lanes)), lanes), f)
        right = [entropy.choose_lanes(sum(map(len, parts))) for parts in coded]
        wrong = [i for i, number in enumerate(right) if number < lanes[i]]
        if wrong:  # a guess of too many lanes is mended once
            again = slices.chosen(wrong, [right[i] for i in wrong])
            for i, parts in zip(wrong, self._coded(pictures, again, f), strict=True):
                coded[i], lanes[i] = parts, right[i]
        return self._of_images(slices, coded, lanes)

    def _guess(self, pictures: PictureState, slices: Slices, f: DeviceArray) -> list[int]:
        device = self._device
        sums = device.upload("log sums", np.zeros(len(slices.part), np.int64))
        table = device.upload("slices", slices.table)
        grid = device.grid(len(slices.part))
        kernels.sum_logs(*grid, table, f, pictures.tables.latent_gain, sums)
        latents = self._predictor.layout.latents
        return [
            guess_lanes(int(bits), part.area * latents)
            for bits, part in zip(device.fetch(sums), slices.part, strict=True)
        ]

    def _coded(self, pictures: PictureState, slices: Slices, f: DeviceArray) -> list[list[bytes]]:
        """Return the segments of each slice, the hyper-latents' first where it leads a picture."""
        predictor, device = self._predictor, self._device
        state = predictor.cut(pictures, slices, predictor.plan(slices))
        for k in range(len(predictor.steps)):
            predictor.predict(k, state, f)
            search_batch(device, predictor.tables, state.jobs, k, pictures.symbols)
            device.mark("search")
            predictor.fill(k, state)
        coded = encode_batch(device, predictor.tables, state.jobs, pictures.symbols)
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
