"""Segments of streams to latents of a batch: `trellic.latents.decoder` on a GPU.

What comes back to the host is a status for each warp, and the states in which the lanes end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trellic.entropy.lanes import GROUP, STATE_LOW, check_final, check_size, unpack_states
from trellic.entropy.status import OK, error_of
from trellic.gpu import jobs as columns
from trellic.gpu.batch import Images, Slices
from trellic.gpu.device import DeviceArray
from trellic.gpu.entropy import CodedWords, decode_batch
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.predictor import BatchPredictor
from trellic.gpu.state import BatchState
from trellic.latents.order import check_count, numbers_of


class BatchDecoder:
    """Decodes latents of batches with the networks and tables of one model.

    Parameters
    ----------
    predictor : of the model, on a device
    """

    def __init__(self, predictor: BatchPredictor) -> None:
        self._predictor, self._device = predictor, predictor.device

    def decode(
        self,
        images: Images,
        side: Sequence[int | None],
        lanes: Sequence[Sequence[int]],
        segments: Sequence[Sequence[bytes]],
        out: DeviceArray,
    ) -> None:
        """Decode the latents of a batch, their gains divided out.

        Parameters
        ----------
        images : where everything lies
        side : of the slices of each picture, in latents; None for the usual 1024 pixels
        lanes : of the slices of each picture
        segments : of each picture, in file order
        out : float32, flat; written where `images` says

        Raises
        ------
        CorruptStream, TruncatedStream
            For the first picture that does not decode.
        """
        predictor, device = self._predictor, self._device
        slices = Slices.all(images, side)
        slices = slices.chosen(range(len(slices.part)), [n for own in lanes for n in own])
        plan = predictor.plan(slices)
        words, states = _words(plan, self._in_job_order(slices, segments))
        pictures = predictor.start(images, None)
        state = predictor.cut(pictures, slices, plan)
        coded = CodedWords(
            device.upload("words", words), device.upload("states", states), max(slices.lanes)
        )
        device.mark("upload")
        status = self._decoded(state, coded)
        kernels.scale_latents(
            *device.grid(len(slices.part)),
            state.table,
            state.v32,
            pictures.tables.latent_factor,
            out,
        )
        found = [s for s in device.fetch(status).tolist() if s != OK]
        if found:
            raise error_of(found[0])
        check_final(device.fetch(coded.states))

    def _decoded(self, state: BatchState, coded: CodedWords) -> DeviceArray:
        """Decode z, then step after step; return the statuses of all warps."""
        predictor, device, plan = self._predictor, self._device, state.jobs.plan
        symbols = state.pictures.symbols
        z_warps = columns.warps(plan.rows[: plan.leading, columns.LANES].tolist())
        warps = columns.warps(state.slices.lanes)
        status = device.zeros("status", len(z_warps) + len(predictor.steps) * len(warps))

        def run(first_job: int, which: DeviceArray, at: int) -> None:
            own = status[at : at + len(which)]
            tables, jobs = predictor.tables, state.jobs
            decode_batch(device, tables, jobs, first_job, symbols, coded, which, own)
            device.mark("rANS decode")

        run(0, device.upload("z warps", z_warps), 0)
        predictor.run_hyper(state.pictures)
        on_device = device.upload("warps", warps)
        for k in range(len(predictor.steps)):
            predictor.predict(k, state, None)
            run(plan.of_step(k).start, on_device, len(z_warps) + k * len(warps))
            predictor.fill(k, state)
        return status

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
