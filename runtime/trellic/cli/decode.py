"""``trellic decode``: .tlc files to pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

from trellic import bitstream, images
from trellic.cli.decoders import Expected
from trellic.cli.engines import Engines
from trellic.cli.paths import Job, is_stdout, is_stream, plan, read, read_parts
from trellic.cli.report import Report
from trellic.errors import NotATrellicFile
from trellic.pipeline import memory
from trellic.pipeline.region import to_rectangle
from trellic.support.bounds import Limits, limited

SIGNATURE = b"TLC"
_Data = TypeVar("_Data", bound=bytes | memoryview)
SUFFIX = ".png"  # in a folder
LARGE = 2**17  # bytes of a stream that take long enough for a progress display


class Setting(NamedTuple):
    """What is decoded of the files, and how; None is the codec's default."""

    decoder: str
    max_pixels: int
    region: tuple[int, int, int, int] | None = None
    max_memory: int | None = None
    best_effort: bool | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the codec, whose defaults hold for what is not given."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def run(
    inputs: Sequence[str],
    output: str,
    setting: Setting,
    engines: Engines,
    limits: Limits,
    as_json: bool,
    expected: Expected,
) -> None:
    """Decode every input; see ``trellic decode --help``.

    Raises
    ------
    typer.BadParameter
        If ``output`` makes no sense: exit code 2.
    typer.Exit
        With code 1 if a file failed.
    """
    jobs = plan(inputs, output, SUFFIX)
    suffix = _suffix(output)
    if jobs[0].folder is None and suffix not in images.suffixes():
        raise typer.BadParameter(
            f"{output!r} has the suffix {suffix!r}; expected one of {', '.join(images.suffixes())}"
            ", or a folder",
            param_hint="OUT",
        )
    aside = is_stdout(jobs[0].target)
    with Report("Decoding", inputs, as_json=as_json, large=LARGE, aside=aside) as report:
        for job in jobs:
            with report.file(job.source):
                _decode(job, engines, setting, limits, report, expected)


def _suffix(path: str) -> str:
    """Return the suffix that says what to write: of a pipe, a device or ``-`` PNG's."""
    suffix = Path(path).suffix.lower()
    return SUFFIX if not suffix and is_stream(path) else suffix


def is_picture(path: str) -> bool:
    """Whether a path has the suffix of a picture, which no .tlc file has."""
    return Path(path).suffix.lower() in images.suffixes()


def read_stream(path: str) -> bytes:
    """Read a file that should be a .tlc file.

    Raises
    ------
    NotATrellicFile
        If it is something else; the error says what.
    OSError
        If it cannot be read.
    """
    return checked(read(path))


def checked(data: _Data) -> _Data:
    """Refuse what is no .tlc file, as `read_stream` does."""
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise NotATrellicFile(images.describe(bytes(data)), expected="a .tlc file")
    return data


def _read(
    path: str, setting: Setting, expected: Expected
) -> tuple[bytes | memoryview, bitstream.Header]:
    """Read a file, or map it for a part; damage is found before engines are loaded for it."""
    if setting.region is None and not expected.part:
        whole = read_stream(path)
        read = bitstream.read_prefix if setting.best_effort else bitstream.read
        return whole, read(whole, setting.max_pixels).header
    mapped = checked(read_parts(path))
    header = bitstream.read_header(mapped)
    to_rectangle(setting.region, header.width, header.height)
    return mapped, header


def _check_memory(
    data: bytes | memoryview, setting: Setting, suffix: str, expected: Expected
) -> None:
    """Refuse what could be decoded but not written."""
    layout = bitstream.read_contents(data)
    part = to_rectangle(setting.region, layout.header.width, layout.header.height)
    height, width = part.coarser(expected.scale).shape
    alpha, networks = "alpha" in layout.chunks, expected.networks
    need = memory.writing(width * height, suffix, alpha=alpha, networks=networks)
    purpose = f"writing a picture of {width}x{height} pixels"
    memory.check(need, setting.max_memory, purpose, ", or decode a region (--region)")


def _decode(
    job: Job,
    engines: Engines,
    setting: Setting,
    limits: Limits,
    report: Report,
    expected: Expected,
) -> None:
    job.check()
    suffix = _suffix(job.target)
    with limited(limits):
        data, header = _read(job.source, setting, expected)
        _check_memory(data, setting, suffix, expected)
    codec = engines.decoder(header.stream_id, setting.decoder)
    images.prepare(suffix)
    start = time.perf_counter()
    with limited(limits):
        decoded = codec.decode_timed(data, **setting.arguments())
    picture = decoded.picture
    written = images.to_bytes(picture, suffix)
    seconds = time.perf_counter() - start
    job.write(written)
    fields = {
        "input": job.source,
        "output": job.target,
        "width": picture.width,
        "height": picture.height,
        "decoder": setting.decoder,
        "seconds": seconds,
    }
    if setting.region:
        fields["region"] = list(setting.region)
    if setting.best_effort:
        fields["damage"] = decoded.damage and asdict(decoded.damage)
    if decoded.damage:
        report.warning(job.source, str(decoded.damage))
    report.result(
        f"{job.source} -> {job.target}: {picture.width}x{picture.height}, decoder "
        f"{setting.decoder}, {seconds:.2f} s",
        fields,
    )
