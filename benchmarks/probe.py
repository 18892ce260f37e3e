"""Time and peak memory of one codec on one picture, in a process of its own.

A process that has done something else before keeps memory of it, so each measurement has its own:
`measure` starts one and reads what it prints.
"""

import argparse
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.codecs import Spec, make
from benchmarks.measure import read_pixels
from benchmarks.threads import run_pinned

WARM_SIDE = 64  # pixels of the picture that loads engines and kernels


@dataclass(frozen=True)
class Probe:
    """What one run of an encoder or decoder took."""

    seconds: float
    """Wall time, with libraries, engines and kernels loaded."""
    before_mib: float
    """Resident memory when it started: interpreter, libraries, engines, the input."""
    peak_mib: float
    """Most resident memory while it ran, that included."""
    bytes: int
    """Of the file."""


def measure(
    direction: str,
    spec: Spec,
    quality: float,
    photo: Path,
    file: Path,
    threads: int = 1,
) -> Probe:
    """Encode a picture to a file, or decode that file, in a new process.

    Parameters
    ----------
    direction
        "encode" or "decode".
    photo
        The picture.
    file
        Written when encoding, read when decoding.
    threads
        Processors that the process may use.

    Raises
    ------
    WorkerError
        The process failed.
    """
    command = ["benchmarks.probe", direction, spec.text(), str(quality)]
    command += [str(photo.resolve()), str(file.resolve())]
    return Probe(**json.loads(run_pinned(command, threads).splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in this process and print a line of JSON."""
    options = _parser().parse_args(arguments)
    codec = make(Spec.parse(options.spec))
    blank = codec.encode(np.full((WARM_SIDE, WARM_SIDE, 3), 128, np.uint8), codec.ladder[0])
    if options.direction == "encode":
        pixels = read_pixels(options.photo)
        found = _watched(lambda: options.file.write_bytes(codec.encode(pixels, options.quality)))
    else:
        codec.decode(blank)
        data = options.file.read_bytes()
        found = _watched(lambda: codec.decode(data))
    print(json.dumps(asdict(Probe(*found, options.file.stat().st_size))))


def _watched(work: Callable[[], object]) -> tuple[float, float, float]:
    """Do it; return seconds, and MiB before and at most."""
    gc.collect()
    _forget_peak()
    before = _status("VmRSS")
    start = time.perf_counter()
    work()
    return time.perf_counter() - start, before, _status("VmHWM")


def _forget_peak() -> None:
    """Set the system's record of this process's peak back to what it holds now (Linux)."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> float:
    """Return a size of this process in MiB; elsewhere than on Linux, its peak so far."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe", description=__doc__)
    parser.add_argument("direction", choices=("encode", "decode"))
    parser.add_argument("spec")
    parser.add_argument("quality", type=float)
    parser.add_argument("photo", type=Path)
    parser.add_argument("file", type=Path)
    return parser


if __name__ == "__main__":
    main()
