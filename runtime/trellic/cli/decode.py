"""``trellic decode``: .tlc files to pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import typer

from trellic import bitstream, images
from trellic._files import read_bytes
from trellic.cli.engines import Engines
from trellic.cli.paths import Job, plan
from trellic.cli.report import Report
from trellic.errors import NotATrellicFile

SIGNATURE = b"TLC"
SUFFIX = ".png"  # in a folder
_LARGE = 2**17  # bytes of a stream that take long enough for a progress display


class Setting(NamedTuple):
    """How to decode."""

    decoder: str
    max_pixels: int
    best_effort: bool = False


def run(
    inputs: Sequence[str],
    output: str,
    setting: Setting,
    device: str,
    as_json: bool,
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
    suffix = Path(output).suffix.lower()
    if jobs[0].folder is None and suffix not in images.suffixes():
        raise typer.BadParameter(
            f"{output!r} has the suffix {suffix!r}; expected one of {', '.join(images.suffixes())}"
            ", or a folder",
            param_hint="OUT",
        )
    engines = Engines(device)
    with Report("Decoding", inputs, as_json=as_json, large=_LARGE) as report:
        for job in jobs:
            with report.file(job.source):
                _decode(job, engines, setting, report)


def read_stream(path: str) -> bytes:
    """Read a file that should be a .tlc file.

    Raises
    ------
    NotATrellicFile
        If it is something else; the error says what.
    OSError
        If it cannot be read.
    """
    data = read_bytes(path)
    if not data.startswith(SIGNATURE):
        raise NotATrellicFile(images.describe(data), expected="a .tlc file")
    return data


def _decode(job: Job, engines: Engines, setting: Setting, report: Report) -> None:
    job.check()
    data = read_stream(job.source)
    # Damage is found before engines are loaded for nothing.
    read = bitstream.read_prefix if setting.best_effort else bitstream.read
    header = read(data, setting.max_pixels).header
    codec = engines.decoder(header.stream_id, setting.decoder)
    start = time.perf_counter()
    decoded = codec.decode_timed(data, **setting._asdict())
    picture = decoded.picture
    written = images.to_bytes(picture, Path(job.target).suffix)
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
    if setting.best_effort:
        fields["damage"] = decoded.damage and asdict(decoded.damage)
    if decoded.damage:
        report.warning(job.source, str(decoded.damage))
    report.result(
        f"{job.source} -> {job.target}: {picture.width}x{picture.height}, decoder "
        f"{setting.decoder}, {seconds:.2f} s",
        fields,
    )
