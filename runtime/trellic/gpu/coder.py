"""Latents of a batch to segments of streams, and back: `trellic.latents` on a GPU.

The order of the steps is that of `trellic.latents.encoder`, and so are the bytes. Only numbers
that the host must know come back on the way: sizes of slices for their lanes, numbers of
words, and the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.entropy.lanes import (
    GROUP,
    STATE_BYTES,
    STATE_LOW,
    check_final,
    group_count,
    unpack_states,
)
from trellic.entropy.tables import Tables
from trellic.errors import CorruptStream
from trellic.gpu import entropy as coder
from trellic.gpu import jobs as cuda_jobs
from trellic.gpu.batch import Images, Int64s, Run, Slices
from trellic.gpu.device import Device, DeviceArray
from trellic.gpu.engines import DeviceEngine
from trellic.gpu.kernels import predict as kernels
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.search import ROWS, reconstruct_batch, search_batch
from trellic.latents.encoder import CodedLatents
from trellic.latents.lanes import guess_lanes
from trellic.model.channels import Layout

MOST_TILES: Final = 4096  # blocks that share a slice's tiles
WARP_THREADS: Final = 4 if SIMULATED else WARP  # of kernels whose block is a warp without lanes


class BatchCoder:
    """Codes latents of batches with the networks and tables of one model.

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
        self.device, self.layout, self.tables = device, layout, tables
        self.networks, self._features = networks, features
        self.steps = layout.steps
        self._members = [layout.step_of == k for k in range(len(self.steps))]

    # ---- encoding ----

    def encode(
        self, images: Images, side: Sequence[int], f: DeviceArray, h: DeviceArray
    ) -> list[CodedLatents]:
        """Code the latents of a batch.

        Parameters
        ----------
        images : where everything lies
        side : of the slices of each picture, in latents
        f : float32, flat: outputs of g_a of all pictures, where `images` says
        h : float32, flat: outputs of h_a

        Returns
        -------
        segments in file order and lanes, for each picture
        """
        self._upload(images)
        rest = images.layout.latents * images.latent_total
        symbols = self._symbols(int(images.z_counts.sum()) + rest)
        self._start_hyper(images, h, symbols)
        features = self._run_hyper(images, symbols["k"])
        slices = Slices.all(images, side)
        lanes = self._guess(slices, f)
        self.device.mark("guess lanes")
        coded = self._encode(slices.chosen(range(len(lanes)), lanes), features, f, symbols)
        right = [entropy.choose_lanes(sum(map(len, parts))) for parts in coded]
        wrong = [i for i, number in enumerate(right) if number < lanes[i]]
        if wrong:  # a guess of too many lanes is mended once
            again = slices.chosen(wrong, [right[i] for i in wrong])
            for i, parts in zip(wrong, self._encode(again, features, f, symbols), strict=True):
                coded[i], lanes[i] = parts, right[i]
        return self._of_images(slices, coded, lanes)

    def _guess(self, slices: Slices, f: DeviceArray) -> list[int]:
        device = self.device
        sums = device.upload("log sums", np.zeros(len(slices.part), np.int64))
        table = device.upload("slices", slices.table)
        kernels.sum_logs(*self._grid(slices), table, f, self._on["latent gain"], sums)
        return [
            guess_lanes(int(bits), part.area * self.layout.latents)
            for bits, part in zip(device.fetch(sums), slices.part, strict=True)
        ]

    def _encode(
        self,
        slices: Slices,
        features: DeviceArray,
        f: DeviceArray,
        symbols: dict[str, DeviceArray],
    ) -> list[list[bytes]]:
        images, device = slices.images, self.device
        rooms = slices.rooms(self._members)
        z_counts = images.z_counts
        jobs, order = slices.jobs(rooms, images.table[:, kernels.Z_AT], int(z_counts.sum()))
        leading = [slices.owner[i] for i, lead in enumerate(slices.leads) if lead]
        counts = device.upload("counts", self._counts(z_counts[leading], rooms))
        on_device = device.upload("jobs", jobs)
        self._clear(slices)
        number = len(slices.part)
        for k in range(len(self.steps)):
            first = len(leading) + k * number
            own = jobs[first : first + number]
            self._predict(k, slices, features, symbols, on_device, first, counts, f)
            search_batch(
                device,
                self.tables,
                own,
                on_device,
                first,
                rooms[k],
                counts,
                symbols["t32"],
                symbols["index"],
                symbols["k"],
                symbols["cls"],
            )
            device.mark("search")
            self._fill(k, slices, symbols, on_device, first, counts)
            device.mark("reconstruct")
        coded = coder.encode_batch(
            device,
            self.tables,
            jobs,
            device.fetch(counts),
            order,
            symbols["k"],
            symbols["cls"],
            symbols["index"],
        )
        device.mark("rANS encode and copy")
        return coded

    def _of_images(
        self, slices: Slices, coded: list[list[bytes]], lanes: list[int]
    ) -> list[CodedLatents]:
        """Order segments as files do: z, then step 0 of every slice, then step 1, ..."""
        out = []
        for image in range(len(slices.images.images)):
            own = [i for i, owner in enumerate(slices.owner) if owner == image]
            rows = [coded[own[0]][1:], *(coded[i] for i in own[1:])]
            segments = [coded[own[0]][0]]
            segments += [row[k] for k in range(len(self.steps)) for row in rows]
            out.append(CodedLatents(segments, [lanes[i] for i in own]))
        return out

    # ---- decoding ----

    def decode(
        self,
        images: Images,
        side: Sequence[int],
        lanes: Sequence[Sequence[int]],
        segments: Sequence[Sequence[bytes]],
        out: DeviceArray,
    ) -> None:
        """Decode the latents of a batch, their gains divided out.

        Parameters
        ----------
        images : where everything lies
        side, lanes : of the slices of each picture
        segments : of each picture, in file order
        out : float32, flat; written where `images` says

        Raises
        ------
        CorruptStream, TruncatedStream
            For the first picture that does not decode.
        """
        device = self.device
        self._upload(images)
        slices = Slices.all(images, side)
        slices.lanes = [n for own in lanes for n in own]
        rooms = slices.rooms(self._members)
        z_counts = images.z_counts
        symbols = self._symbols(int(z_counts.sum() + rooms.sum()))
        jobs, order = slices.jobs(rooms, images.table[:, kernels.Z_AT], int(z_counts.sum()))
        parts = self._in_job_order(images, segments)
        words, states = _words(jobs, order, parts)
        counts = device.upload("counts", self._counts(z_counts, rooms))
        on_device = device.upload("jobs", jobs)
        on_words = device.upload("words", words)
        on_states = device.upload("states", states)
        number, widest = len(slices.part), max(slices.lanes)
        leading = [i for i, lead in enumerate(slices.leads) if lead]
        z_warps = cuda_jobs.warps([slices.lanes[i] for i in leading])
        warps = cuda_jobs.warps(slices.lanes)
        status = device.zeros("status", len(z_warps) + len(self.steps) * len(warps))
        z_on, on = device.upload("z warps", z_warps), device.upload("warps", warps)

        def run(first: int, which: DeviceArray, at: int) -> None:
            coder.decode_batch(
                device,
                self.tables,
                on_words,
                on_device,
                first,
                counts,
                which,
                symbols["index"],
                on_states,
                symbols["k"],
                symbols["cls"],
                status[at : at + len(which)],
                widest,
            )

        self._start_hyper(images, None, symbols)
        device.mark("upload")
        run(0, z_on, 0)
        device.mark("rANS decode")
        features = self._run_hyper(images, symbols["k"])
        v32 = self._clear(slices)
        for k in range(len(self.steps)):
            first = len(leading) + k * number
            self._predict(k, slices, features, symbols, on_device, first, counts, None)
            run(first, on, len(z_warps) + k * len(warps))
            device.mark("rANS decode")
            self._fill(k, slices, symbols, on_device, first, counts)
            device.mark("reconstruct")
        kernels.scale_latents(
            *self._grid(slices), self._slices, v32, self._on["latent factor"], out
        )
        found = [s for s in device.fetch(status).tolist() if s]
        if found:
            raise coder.error_of(found[0])
        check_final(device.fetch(on_states))

    def _in_job_order(self, images: Images, segments: Sequence[Sequence[bytes]]) -> list[bytes]:
        hyper, rest = [], [[] for _ in self.steps]  # type: list[bytes], list[list[bytes]]
        for image, own in enumerate(segments):
            number, extra = divmod(len(own) - 1, len(self.steps))
            if extra or not own:
                raise CorruptStream(f"picture {image} has {len(own)} segments")
            hyper.append(own[0])
            for k, row in enumerate(rest):
                row += own[1 + k * number : 1 + (k + 1) * number]
        return hyper + [part for row in rest for part in row]

    # ---- what both directions do ----

    def _upload(self, images: Images) -> None:
        self._on = {
            name: self.device.upload(name, array) for name, array in images.constants().items()
        }

    def _symbols(self, room: int) -> dict[str, DeviceArray]:
        kinds: dict[str, Any] = {
            "k": np.int32,
            "cls": np.uint8,
            "index": np.uint8,
            "position": np.int32,
            "t32": np.int32,
        }
        return {name: self.device.empty(name, room, kind) for name, kind in kinds.items()}

    def _counts(self, z_counts: npt.NDArray[np.int32], rooms: Int64s) -> npt.NDArray[np.int32]:
        return np.concatenate([z_counts, np.zeros(rooms.size, np.int32)])

    def _clear(self, slices: Slices) -> DeviceArray:
        """Return zeros for the slices' latents; put their tables on the device."""
        self._slices = self.device.upload("slices", slices.with_features(self._features))
        total = self.layout.latents * int(slices.sizes.sum())
        self._v32 = self.device.zeros("v32", total)
        return self._v32

    def _grid(self, slices: Slices | Images) -> tuple[tuple[int, int], int, Any]:
        number = len(slices.part if isinstance(slices, Slices) else slices.images)
        return (number, ROWS), self.device.spread(1)[1], self.device.stream

    def _start_hyper(
        self, images: Images, h: DeviceArray | None, symbols: dict[str, DeviceArray]
    ) -> None:
        kernels.start_hyper(
            *self._grid(images),
            self._on["images"],
            self.device.empty("no latents", 1, np.float32) if h is None else h,
            int(h is not None),
            self._on["hyper gain"],
            self._on["hyper mean"],
            self._on["hyper table"],
            symbols["k"],
            symbols["cls"],
            symbols["index"],
        )

    def _run_hyper(self, images: Images, k: DeviceArray) -> DeviceArray:
        """Run h_s on the hyper-latents; return the features of all pictures, flat."""
        device, channels = self.device, self.layout.hyper + 1
        x = device.empty("h_s input", channels * images.z_total, np.float32)
        kernels.hyper_input(
            *self._grid(images),
            self._on["images"],
            k,
            self._on["hyper mean"],
            self._on["hyper scale"],
            x,
        )
        features = device.empty("features", self._features * images.latent_total, np.float32)
        for run in images.z_runs:
            rows, columns = run.shape
            cell = self.layout.cell
            wide = Run((cell * rows, cell * columns), run.count, cell**2 * run.at)
            out = view(features, wide, self._features)
            self.networks["h_s"]({"x": view(x, run, channels)}, [out])
        device.mark("h_s")
        return features

    def _predict(
        self,
        k: int,
        slices: Slices,
        features: DeviceArray,
        symbols: dict[str, DeviceArray],
        jobs: DeviceArray,
        first_job: int,
        counts: DeviceArray,
        f: DeviceArray | None,
    ) -> None:
        """Run a context network, and bring the step's coded latents together."""
        device, step, positions = self.device, self.steps[k], int(slices.sizes.sum())
        channels, wide = step.last - step.first, self._features + step.context
        host = slices.tensors(step, self._features)
        tensors = device.upload(f"tensors {k}", host)
        x = device.empty("context input", wide * positions, np.float32)
        mu = device.empty("mu", channels * positions, np.float32)
        scale = device.empty("log scale", channels * positions, np.float32)
        kernels.context_input(
            *self._grid(slices),
            self._slices,
            tensors,
            features,
            self._features,
            self._v32,
            step.context,
            self._on["context scale"],
            x,
        )
        device.mark("context input")
        for run in slices.runs:
            outputs = [view(mu, run, channels), view(scale, run, channels)]
            self.networks[f"context_{k}"]({"x": view(x, run, wide)}, outputs)
        device.mark("context networks")
        own = self._members[k][step.first : step.last].astype(np.uint8)
        member = device.upload(f"member {k}", own)
        most = -(-channels * int(slices.sizes.max()) // kernels.TILE)
        total = int((host[-1, kernels.TILE_AT] + most).item())
        tiles = device.empty("tiles", total, np.int32)
        grid = ((len(slices.part), min(most, MOST_TILES)), WARP_THREADS, device.stream)
        model = (mu, scale, member, self._on["gain"], self._on["shift"])
        limits = (self.layout.skip_index, self.layout.scales)
        kernels.count_coded(
            *grid, self._slices, tensors, step.first, channels, *model, *limits, self._v32, tiles
        )
        kernels.sum_tiles(
            len(slices.part),
            WARP_THREADS,
            device.stream,
            self._slices,
            tensors,
            channels,
            tiles,
            first_job,
            counts,
        )
        kernels.write_coded(
            *grid,
            self._slices,
            tensors,
            step.first,
            channels,
            *model,
            *limits,
            tiles,
            jobs,
            first_job,
            int(f is not None),
            mu if f is None else f,
            self._on["latent gain"],
            symbols["position"],
            symbols["index"],
            symbols["t32"],
        )
        device.mark("compaction")

    def _fill(
        self,
        k: int,
        slices: Slices,
        symbols: dict[str, DeviceArray],
        jobs: DeviceArray,
        first_job: int,
        counts: DeviceArray,
    ) -> None:
        """Add the reconstructions of a step to its means."""
        targets = slices.table[:, kernels.V_AT] + self.steps[k].first * slices.sizes
        reconstruct_batch(
            self.device,
            self.tables,
            jobs,
            first_job,
            len(slices.part),
            counts,
            symbols["k"],
            symbols["cls"],
            symbols["index"],
            symbols["position"],
            self.device.upload(f"targets {k}", targets),
            self._v32,
        )


def view(flat: DeviceArray, run: Run, channels: int) -> DeviceArray:
    """Return the tensor of a run, (count, channels, rows, columns), in a flat buffer."""
    size = run.count * channels * run.shape[0] * run.shape[1]
    return flat[channels * run.at : channels * run.at + size].reshape(
        (run.count, channels, *run.shape)
    )


def _words(
    jobs: Int64s, order: npt.NDArray[np.int32], parts: Sequence[bytes]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]:
    """Return all words of a batch and the lanes' first states; fill in where the words lie."""
    for job, part in enumerate(parts):
        least = STATE_BYTES * group_count(int(jobs[job, cuda_jobs.LANES]))
        if len(part) % 2 or (jobs[job, cuda_jobs.FRESH] and len(part) < least):
            raise CorruptStream(f"a segment of {len(part)} bytes", expected="whole 16-bit words")
    sizes = np.array([len(part) // 2 for part in parts], np.int64)
    jobs[:, cuda_jobs.WORDS] = sizes
    jobs[:, cuda_jobs.WORD_AT] = np.cumsum(sizes) - sizes
    words = np.zeros(int(sizes.sum()) + cuda_jobs.WORD_PADDING, np.uint16)
    words[: len(words) - cuda_jobs.WORD_PADDING] = np.frombuffer(b"".join(parts), "<u2")
    last = jobs[order[:, -1]]
    total = int((last[:, cuda_jobs.STATE_AT] + last[:, cuda_jobs.LANES]).max())
    states = np.full(total, STATE_LOW, np.uint32)
    for job in np.flatnonzero(jobs[:, cuda_jobs.FRESH]).tolist():
        at, lanes = int(jobs[job, cuda_jobs.STATE_AT]), int(jobs[job, cuda_jobs.LANES])
        states[at : at + lanes : GROUP] = unpack_states(parts[job], lanes)
    return words, states
