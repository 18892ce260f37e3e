"""Encoders and decoders in turn, in one process: started by `benchmarks.speed`.

Reads a `Job` as JSON from standard input and prints the rows as JSON. All codecs take turns on each
picture, so that what else the machine does hits them alike.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.codecs import Codec, Pixels, Spec, make
from benchmarks.match import match_psnr
from benchmarks.measure import read_pixels
from benchmarks.metrics import psnr
from benchmarks.threads import told
from trellic.cli import bench
from trellic.images import Picture


@dataclass(frozen=True)
class Job:
    """What to measure."""

    images: list[str]
    """Paths."""
    ours: list[str]
    """Specs of Trellic; the first one's PSNR is what the others match."""
    peers: list[str]
    """Specs of other codecs."""
    quality: float
    """Of Trellic."""
    threads: int
    repeat: int


@dataclass
class Row:
    """One codec on one picture."""

    image: str
    codec: str
    quality: float
    """In the codec's own scale."""
    psnr: float
    bytes: int
    pixels: int
    encode: list[float] = field(default_factory=list)
    """Wall time of each turn, in seconds."""
    decode: list[float] = field(default_factory=list)
    encode_cpu: list[float] = field(default_factory=list)
    """Processor time of each turn, in seconds, of all threads together."""
    decode_cpu: list[float] = field(default_factory=list)


def main() -> None:
    """Measure what standard input asks for."""
    job = Job(**json.load(sys.stdin))
    codecs = {text: make(told(Spec.parse(text), job.threads)) for text in (*job.ours, *job.peers)}
    rows = []
    for image in map(Path, job.images):
        rows += [asdict(row) for row in measure(image, codecs, job)]
    print(json.dumps({"rows": rows, "stages": stages(codecs, job)}))


def measure(image: Path, codecs: dict[str, Codec], job: Job) -> list[Row]:
    """Match the codecs on a picture, then let them take turns."""
    original = read_pixels(image)
    rows: dict[str, Row] = {}
    files: dict[str, bytes] = {}
    for text, codec in codecs.items():
        quality = job.quality
        if text in job.peers:
            quality = match_psnr(codec, original, rows[job.ours[0]].psnr).quality
        files[text] = codec.encode(original, quality)
        reached = psnr(original, codec.decode(files[text]))
        pixels = original.shape[0] * original.shape[1]
        rows[text] = Row(image.name, text, quality, reached, len(files[text]), pixels)
    for _ in range(job.repeat):
        for text, codec in codecs.items():
            _turn(codec, original, files[text], rows[text])
    return list(rows.values())


def _turn(codec: Codec, original: Pixels, data: bytes, row: Row) -> None:
    wall, cpu = _timed(lambda: codec.encode(original, row.quality))
    row.encode.append(wall)
    row.encode_cpu.append(cpu)
    wall, cpu = _timed(lambda: codec.decode(data))
    row.decode.append(wall)
    row.decode_cpu.append(cpu)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def stages(codecs: dict[str, Codec], job: Job) -> list[dict[str, Any]]:
    """Return what ``trellic bench`` says of each picture, for each of our codecs."""
    found = []
    for text in job.ours:
        ours: Any = codecs[text]
        settings = ours.settings
        setting = bench.Setting(
            job.quality, int(settings["trellis"]), str(settings["decoder"]), job.repeat
        )
        for image in map(Path, job.images):
            fields = bench.measure(ours.codec, Picture(read_pixels(image)), setting)
            kept = {key: fields[key]["least"] for key in ("encode", "decode")}
            found.append({"image": image.name, "codec": text, **kept})
    return found


if __name__ == "__main__":
    main()
