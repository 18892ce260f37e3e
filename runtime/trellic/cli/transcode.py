"""``trellic transcode``: .tlc files to smaller .tlc files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from trellic import bitstream
from trellic.cli.decode import read_stream
from trellic.cli.engines import Engines
from trellic.cli.paths import TLC, Job, is_stdout, plan
from trellic.cli.report import Report
from trellic.cli.tree import expand
from trellic.cli.work import Batch, Sizes, alone, is_bounded
from trellic.cli.work import run as work_through
from trellic.constants import DEFAULT_DECODER, Trellis
from trellic.support.bounds import Limits, limited

_LARGE = 2**17  # bytes of a stream that take long enough for a progress display


class Target(NamedTuple):
    """The target for files; one of the first two is given."""

    quality: float | None
    max_bytes: int | None
    trellis: Trellis | None
    max_pixels: int
    max_memory: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the codec, which has defaults for the others."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def run(
    inputs: Sequence[str],
    output: str,
    target: Target,
    engines: Engines,
    limits: Limits,
    batch: Batch,
    as_json: bool,
) -> None:
    """Transcode every input; see ``trellic transcode --help``.

    Raises
    ------
    typer.BadParameter
        If ``output`` makes no sense: exit code 2.
    typer.Exit
        With code 1 if a file failed.
    """
    sources = expand(inputs, batch.recursive, [TLC])
    jobs = plan(sources, output, TLC, folder=batch.recursive)
    at_once = batch.at_once(len(jobs), bounded=is_bounded(target.max_memory, limits))
    engines.share(at_once)
    aside = is_stdout(jobs[0].target)
    names = [job.source for job in jobs]
    with Report("Transcoding", names, as_json=as_json, large=_LARGE, aside=aside) as report:

        def one(job: Job) -> Sizes:
            return _transcode(job, engines, target, limits, report)

        work_through(jobs, batch, report, one, at_once)


def _transcode(job: Job, engines: Engines, target: Target, limits: Limits, report: Report) -> Sizes:
    data = read_stream(job.source)
    with limited(limits):
        header = bitstream.read(data, target.max_pixels).header
    codec = engines.decoder(header.stream_id, DEFAULT_DECODER)
    with alone(header.width * header.height):
        start = time.perf_counter()
        with limited(limits):
            encoded = codec.transcode_timed(data, **target.arguments())
        seconds = time.perf_counter() - start
    job.write(encoded.data)
    size = len(encoded.data)
    report.result(
        f"{job.source} -> {job.target}: {encoded.width}x{encoded.height}, {len(data)} to {size}"
        f" bytes, quality {header.quality16 / 16:g} to {encoded.quality:g}, {seconds:.2f} s",
        {
            "input": job.source,
            "output": job.target,
            "width": encoded.width,
            "height": encoded.height,
            "bytes_before": len(data),
            "bytes": size,
            "bpp": encoded.bpp,
            "quality_before": header.quality16 / 16,
            "quality": encoded.quality,
            "trellis": encoded.trellis,
            "lanes": encoded.lanes,
            "model": codec.model,
            "seconds": seconds,
        },
    )
    return Sizes(len(data), size)
