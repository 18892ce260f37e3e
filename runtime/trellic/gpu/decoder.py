"""Segments of streams to latents of a batch: `trellic.latents.decoder` on a GPU.

The host reads back only a status for each warp and the final states of the lanes, once, when
everything else has been launched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.entropy.lanes import GROUP, STATE_LOW, check_final, check_size, unpack_states
from trellic.entropy.status import OK, error_of
from trellic.gpu import jobs as columns
from trellic.gpu.batch import Images, Slices
from trellic.gpu.device import Device
from trellic.gpu.entropy import CodedWords, Warps, decode_batch
from trellic.gpu.given import DeviceArray, Filled
from trellic.gpu.kernels.kernel import WARP
from trellic.gpu.predictor import BatchPredictor
from trellic.gpu.state import BatchState, Jobs
from trellic.gpu.steps import decode_step
from trellic.latents.order import check_count, numbers_of


@dataclass(frozen=True)
class Decoding:
    """A batch that the device decodes; `check` tells whether it could be decoded."""

    device: Device
    staged: Mapping[str, DeviceArray]

    def check(self) -> None:
        """Wait for the device, and check its results.

        Raises
        ------
        CorruptStream, TruncatedStream
            For the first picture that does not decode.
        """
        status, states = self.device.fetch_all(self.staged["status"], self.staged["states"])
        found = [s for s in status.tolist() if s != OK]
        if found:
            raise error_of(found[0])
        check_final(states)


@dataclass(frozen=True)
class Arranged:
    """A batch that the host has laid out, with nothing on the device yet.

    Attributes
    ----------
    plan : of the jobs
    z_warps : that decode hyper-latents
    filled : what the device will be told
    """

    images: Images
    slices: Slices
    plan: columns.JobPlan
    z_warps: int
    filled: Filled


class BatchDecoder:
    """Decodes latents of batches with the networks and tables of one model.

    Parameters
    ----------
    predictor : of the model, on a device
    """

    def __init__(self, predictor: BatchPredictor) -> None:
        self._predictor, self._device = predictor, predictor.device

    def arrange(
        self,
        images: Images,
        side: Sequence[int | None],
        lanes: Sequence[Sequence[int]],
        segments: Sequence[Sequence[bytes]],
        beside: Mapping[str, npt.NDArray[Any]],
    ) -> Arranged:
        """Lay out a batch.

        Parameters
        ----------
        images : with the places of all data
        side : of the slices of each picture, in latents; None for that of its plane
        lanes : of the slices of each picture
        segments : of each picture, in file order
        beside : other arrays to bring to the device in the same copy

        Raises
        ------
        CorruptStream, TruncatedStream
            For the first picture whose segments are too short.
        """
        predictor = self._predictor
        slices = Slices.all(images, side)
        slices = slices.chosen(range(len(slices.part)), [n for own in lanes for n in own])
        plan = predictor.plan(slices)
        words, states = _words(plan, self._in_job_order(slices, segments))
        z_warps = columns.warps(plan.rows[: plan.leading, columns.LANES].tolist())
        groups = -(-plan.rows[:, columns.LANES] // WARP)
        plan.rows[:, columns.USED_AT] = np.cumsum(groups) - groups
        arrays: dict[str, npt.NDArray[Any]] = {"words": words, "states": states}
        arrays |= {"z warps": z_warps, "status": np.zeros(int(groups.sum()), np.int32)}
        arrays |= {**images.constants(), **beside}
        filled = Jobs.fill(self._device, plan, arrays | predictor.tables(slices))
        return Arranged(images, slices, plan, len(z_warps), filled)

    def launch(self, arranged: Arranged, out: DeviceArray) -> Decoding:
        """Decode the latents of a batch, their gains divided out; the host does not wait.

        Parameters
        ----------
        out : float32, flat; written where the batch's `images` says
        """
        predictor, device = self._predictor, self._device
        images, slices = arranged.images, arranged.slices
        jobs = Jobs.sent(device, arranged.plan, arranged.filled)
        pictures = predictor.start(images, jobs.staged, None)
        state = BatchState.of(predictor.cut(pictures, slices, jobs.staged), slices, jobs)
        coded = CodedWords(jobs.staged["words"], jobs.staged["states"], max(slices.lanes))
        device.mark("upload")
        z_status = jobs.staged["status"][: arranged.z_warps]
        z_warps_there = Warps(jobs.staged["z warps"], z_status)
        decode_batch(device, predictor.frequencies, jobs, 0, pictures.symbols, coded, z_warps_there)
        device.mark("rANS decode of z")
        predictor.fill_hyper(pictures)
        predictor.run_hyper(pictures)
        predictor.fill_context(0, state)
        for k in range(len(predictor.steps)):
            tensors = predictor.run_context(k, state)
            decode_step(predictor, k, state, tensors, coded, out)
        return Decoding(device, jobs.staged)

    def _in_job_order(self, slices: Slices, segments: Sequence[Sequence[bytes]]) -> list[bytes]:
        """Return all segments: z of each picture, then step 0 of all slices, step 1, ..."""
        steps = len(self._predictor.steps)
        rows: list[list[bytes]] = []
        for image, own in enumerate(segments):
            number = slices.owner.count(image)
            check_count(len(own), steps, number)
            rows += [[own[n] for n in numbers_of(i, steps, number)] for i in range(number)]
        hyper = [own[0] for own in segments]
        return hyper + [row[k] for k in range(steps) for row in rows]


def _words(
    plan: columns.JobPlan, parts: Sequence[bytes]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]:
    """Return all words of a batch and the lanes' first states; fill in where the words lie."""
    jobs = plan.rows
    for row, part in zip(jobs.tolist(), parts, strict=True):
        check_size(part, row[columns.LANES], bool(row[columns.FRESH]))
    words = columns.place_words(jobs, parts)
    last = jobs[plan.order[:, -1]]
    total = int((last[:, columns.STATE_AT] + last[:, columns.LANES]).max())
    states = np.full(total, STATE_LOW, np.uint32)
    for job in np.flatnonzero(jobs[:, columns.FRESH]).tolist():
        at, lanes = int(jobs[job, columns.STATE_AT]), int(jobs[job, columns.LANES])
        states[at : at + lanes : GROUP] = unpack_states(parts[job], lanes)
    return words, states
