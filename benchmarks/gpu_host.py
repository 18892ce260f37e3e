"""What the GPU path costs the host: seconds of Python a picture, without a GPU.

Run ``python -m tests.cuda.driver --idle python -m benchmarks.gpu_host`` from the repository's root.
The fake driver leaves all launches out, and engines do nothing, so what is left is the host's part
of coding: reading and writing files, tables, launches, copies, but not taking memory, which the
fake driver fills. Sizes of segments, lanes and words are those of the CPU's file of the same photo.
Times are of the process, not of the clock, so other programs disturb them little. Engines cost the
host too, on a real GPU; their calls are counted.

``--profile`` shows which functions take longest.
"""

from __future__ import annotations

import argparse
import cProfile
import ctypes
import functools
import itertools
import pstats
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tests.cuda import driver
from tests.cuda.driver.plugin import captured

from benchmarks._machine import describe
from benchmarks._rows import Report
from benchmarks.gpu import QUALITY16, TRELLIS, photo, sides
from trellic import bitstream
from trellic.codec import Codec
from trellic.entropy.lanes import GROUP, LANE_PAYLOAD, STATE_LOW
from trellic.gpu import decoder, encoder, entropy
from trellic.gpu.codec import GpuCodec
from trellic.gpu.device import Device, address
from trellic.gpu.given import DeviceArray
from trellic.gpu.toolkit import cuda
from trellic.model.bundle import Bundle, find

RESULT = Path(__file__).parent / "results" / "gpu-host.json"
SIZE = "1080p"
WARM_UP = 3
CODED = 4  # which argument of `trellic.gpu.steps.decode_step` has the words and states
LONGEST = 25  # functions that `--profile` shows


def memory(array: DeviceArray) -> np.ndarray:
    """Return an array of the fake device as one of NumPy: its memory is the host's."""
    size = array.size * array.dtype.itemsize
    raw = (ctypes.c_uint8 * size).from_address(address(array))
    return np.frombuffer(raw, array.dtype)


class Engines:
    """Engines that do nothing but count their calls."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.calls = 0

    def _call(self, *_: Any) -> None:
        self.calls += 1

    def graph(self, _: str) -> Any:
        """Return any graph."""
        return self._call

    def exact(self) -> dict[str, Any]:
        """Return the integer networks."""
        return dict.fromkeys(self._bundle.networks, self._call)


class File:
    """A file of the CPU, of which the device makes and reads copies.

    Parameters
    ----------
    data : its bytes
    batch : how many pictures there are, all like it
    """

    def __init__(self, data: bytes, batch: int) -> None:
        stream = bitstream.read(data, max_pixels=2**28)
        lanes = stream.header.lanes
        hyper, *rest = [len(part) for part in stream.segments]
        steps = np.array(rest).reshape(-1, len(lanes))
        self._guesses = itertools.cycle(LANE_PAYLOAD * number for number in [*lanes] * batch)
        jobs = [(hyper, lanes[0])] * batch
        jobs += [both for row in steps for both in list(zip(row, lanes, strict=True)) * batch]
        groups = [(int(size) // 2, -(-number // GROUP)) for size, number in jobs]
        counts = np.concatenate([np.full(number, words // number) for words, number in groups])
        self.found = np.stack([np.cumsum(counts) - counts, counts], axis=1).astype(np.int32)

    def guess(self, *_: object) -> int:
        """Return the next slice's size in bytes, with which it gets the file's lanes."""
        return next(self._guesses)

    def told(self, launch: Callable[..., None]) -> Callable[..., None]:
        """Return a launch of `encode_slices` that says how many words each group has."""

        def run(*arguments: Any) -> None:
            launch(*arguments)
            total, found, heads = arguments[-3:]
            memory(found)[:] = self.found.ravel()
            memory(total)[0] = self.found[:, 1].sum()
            memory(heads)[:] = STATE_LOW

        return run


def decoded(launch: Callable[..., None]) -> Callable[..., None]:
    """Return a launch of `decode_step` that leaves states as the end of a stream has them."""

    def run(*arguments: Any) -> None:
        launch(*arguments)
        states = memory(arguments[CODED].states)
        driver.do(partial(states.fill, STATE_LOW))

    return run


def measured(work: Callable[[], Any], engines: Engines, reps: int) -> dict[str, float]:
    """Return the least milliseconds of the process for a call, engines' calls, driver's counts."""
    for _ in range(WARM_UP):
        work()
    calls, counts, times = engines.calls, driver.counts(), []
    with patch.object(cuda, "device_array", functools.cache(cuda.device_array)):
        for _ in range(reps):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    after = driver.counts()
    names = ("launches", "graphs", "to device", "waits")
    found = {name: (after[name] - counts[name]) / reps for name in names}
    return {"ms": 1e3 * min(times), "engines": (engines.calls - calls) / reps} | found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="The host's part of the GPU path.")
    parser.add_argument("--size", default=SIZE)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path, help=f"default: no file; the tables' is {RESULT}")
    options = parser.parse_args()
    bundle, pixels = Bundle(find("photo")), photo(*sides(options.size))
    cpu = Codec.load("photo", device="cpu", threads=1)
    data = cpu.encode(pixels, quality=QUALITY16 // 16, trellis=TRELLIS)
    engines, report = Engines(bundle), Report(options.out, {"machine": describe()})
    gpu, device, there = GpuCodec(bundle, Device(), engines), Device(), cuda.to_device(pixels)
    whole = GpuCodec(bundle, device, engines, captured(device))
    for batch in options.batches:
        pictures, quality, trellis = [there] * batch, [QUALITY16] * batch, [TRELLIS] * batch
        both = {
            "encode": partial(gpu.encode_batch, pictures, quality, trellis),
            "decode": partial(gpu.decode_batch, [data] * batch, "quality", 2**28),
            "decode as a graph": partial(whole.decode_batch, [data] * batch, "quality", 2**28),
        }
        file = File(data, batch)
        with (
            patch.object(encoder, "guess_bytes", file.guess),
            patch.object(entropy, "encode_slices", file.told(entropy.encode_slices)),
            patch.object(decoder, "decode_step", decoded(decoder.decode_step)),
        ):
            for what, work in both.items():
                setting = {"what": what, "size": options.size, "batch": batch}
                report.measure("host", setting, partial(measured, work, engines, options.repeats))
                print(report.content["host"][-1], flush=True)
                if options.profile:
                    profile(work, options.repeats)


def profile(work: Callable[[], Any], reps: int) -> None:
    """Print which functions take longest."""
    seen = cProfile.Profile(time.process_time)
    seen.enable()
    for _ in range(reps):
        work()
    seen.disable()
    pstats.Stats(seen).sort_stats("tottime").print_stats(LONGEST)


if __name__ == "__main__":
    main()
