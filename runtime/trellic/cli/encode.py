"""``trellic encode``: pictures to .tlc files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from trellic import images
from trellic.cli.decode import read_stream
from trellic.cli.engines import Engines
from trellic.cli.paths import TLC, Job, is_stdout, plan, read
from trellic.cli.report import Report
from trellic.cli.tree import expand
from trellic.cli.work import Batch, Sizes, alone, is_bounded
from trellic.cli.work import run as work_through
from trellic.constants import COLOURS, DEFAULT_DECODER, Trellis
from trellic.images.drawn import drawn_blocks
from trellic.limits import PATCH_SIDE
from trellic.pipeline import memory
from trellic.support.bounds import Limits, limited

if TYPE_CHECKING:
    from trellic.codec import Codec
    from trellic.images import Picture
    from trellic.pipeline.results import Encoded

_GLANCED = 2**22  # pixels of a picture at most that a note may be printed about
_LARGE = 2**20  # bytes of a picture file that take long enough for a progress display


class Target(NamedTuple):
    """How to code pictures; at most one of the first three and the score is given."""

    quality: float | None
    bpp: float | None
    max_bytes: int | None
    trellis: Trellis
    strip: bool
    max_memory: int | None = None
    dither: int | None = None
    ssimulacra2: float | None = None
    progressive: bool | None = None
    like: str | None = None
    patches: str | None = None
    steady: bool | None = None
    refine: bool | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing is asked for that goes without patches."""
        given = self.patches, self.like, self.progressive, self.steady, self.dither
        return all(one is None for one in given)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the codec, which has defaults for the others."""
        given = self._asdict()
        del given["ssimulacra2"], given["like"]
        return {name: value for name, value in given.items() if value is not None}


class Bounds(NamedTuple):
    """Limits of pictures."""

    max_pixels: int
    limits: Limits


def run(
    inputs: Sequence[str],
    output: str,
    target: Target,
    model: str,
    engines: Engines,
    bounds: Bounds,
    batch: Batch,
    as_json: bool,
) -> None:
    """Encode every input; see ``trellic encode --help``.

    Raises
    ------
    typer.BadParameter
        If ``output`` makes no sense: exit code 2.
    typer.Exit
        With code 1 if a file failed.
    """
    sources = expand(inputs, batch.recursive, images.readable())
    jobs = plan(sources, output, TLC, folder=batch.recursive, keep_suffix=batch.keep_suffix)
    if jobs[0].folder is None and Path(output).suffix.lower() in images.suffixes():
        raise typer.BadParameter(
            f"{output!r} looks like a picture; the result is a {TLC} file", param_hint="OUT"
        )
    at_once = batch.at_once(len(jobs), bounded=is_bounded(target.max_memory, bounds.limits))
    engines.share(at_once)
    aside = is_stdout(jobs[0].target)
    names = [job.source for job in jobs]
    with Report("Encoding", names, as_json=as_json, large=_LARGE, aside=aside) as report:

        def one(job: Job) -> Sizes:
            return _encode(job, engines, model, target, bounds, report)

        work_through(jobs, batch, report, one, at_once)


def _encode(
    job: Job, engines: Engines, model: str, target: Target, bounds: Bounds, report: Report
) -> Sizes:
    data = read(job.source)
    before = len(data)
    width, height, _ = images.size_of(data, arrays=True)
    with alone(width * height):
        start = time.perf_counter()
        with limited(bounds.limits):
            memory.check_reading(data, target.max_memory, arrays=True)
            picture = images.from_bytes(data, bounds.max_pixels, arrays=True)
        seconds = time.perf_counter() - start  # loading the engines does not count
        del data  # a picture may be large
        decoder = None if target.ssimulacra2 is None else DEFAULT_DECODER
        codec = engines.both(model, target.trellis, decoder)
        start = time.perf_counter()
        with limited(bounds.limits):
            encoded, score = _encoded(codec, picture, target)
        seconds += time.perf_counter() - start
    job.write(encoded.data)
    _report(job, encoded, score, codec.model, seconds, report)
    colours = picture.bands in (1, COLOURS)
    if colours and target.plain and report.takes_notes and width * height <= _GLANCED:
        with limited(bounds.limits):
            drawn = drawn_blocks(picture.pixels, PATCH_SIDE).any()
        if drawn:
            report.note(
                f"{job.source} looks drawn; --patches auto makes most screens half as large"
            )
    return Sizes(before, len(encoded.data))


def _encoded(codec: Codec, picture: Picture, target: Target) -> tuple[Encoded, float | None]:
    """Encode a picture; if a score was requested, also return the score that it has."""
    if target.like is not None:
        like = read_stream(target.like)
        return codec.encode_again(picture, like, max_memory=target.max_memory), None
    if target.ssimulacra2 is None:
        return codec.encode_picture(picture, **target.arguments()), None
    from trellic.scored import encode_scored

    scored = encode_scored(codec, picture, target.ssimulacra2, **target.arguments())
    return scored.encoded, scored.score


def _report(
    job: Job, encoded: Encoded, score: float | None, model: str, seconds: float, report: Report
) -> None:
    size = len(encoded.data)
    bpp = 8 * size / (encoded.width * encoded.height)
    met = "" if score is None else f"SSIMULACRA 2 {score:.1f}, "
    report.result(
        f"{job.source} -> {job.target}: {encoded.width}x{encoded.height}, {size} bytes, "
        f"{bpp:.3f} bpp, quality {encoded.quality:g}, {met}{seconds:.2f} s",
        {
            "input": job.source,
            "output": job.target,
            "width": encoded.width,
            "height": encoded.height,
            "bytes": size,
            "bpp": bpp,
            "quality": encoded.quality,
            "trellis": encoded.trellis,
            "lanes": encoded.lanes,
            "model": model,
            "seconds": seconds,
        }
        | ({} if score is None else {"ssimulacra2": score}),
    )
