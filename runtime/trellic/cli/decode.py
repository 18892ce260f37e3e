"""``trellic decode``: .tlc files to pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer

from trellic import bitstream, images
from trellic.cli.decoders import Expected, Installed
from trellic.cli.engines import Engines
from trellic.cli.paths import TLC, Job, is_stdout, is_stream, plan, read, read_parts
from trellic.cli.report import Report, fail
from trellic.cli.tree import expand
from trellic.cli.work import Batch, Sizes, alone, is_bounded
from trellic.cli.work import run as work_through
from trellic.constants import DEFAULT_DECODER
from trellic.errors import NotATrellicFile, TrellicError
from trellic.pipeline import memory
from trellic.pipeline.region import to_rectangle
from trellic.support.bounds import Limits, limited

if TYPE_CHECKING:
    from trellic.pipeline.results import Damage

SIGNATURE = b"TLC"
_Data = TypeVar("_Data", bound=bytes | memoryview)
SUFFIX = ".png"  # of results in a folder
LARGE = 2**17  # bytes of a stream that take long enough for a progress display


class Setting(NamedTuple):
    """What to decode of the files, and how; None is the codec's default."""

    decoder: str | None
    max_pixels: int
    region: tuple[int, int, int, int] | None = None
    max_memory: int | None = None
    best_effort: bool | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the codec, which has defaults for the others."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Length(NamedTuple):
    """How much of a file to decode: its first bytes or its first layers; None for all."""

    max_bytes: int | None = None
    layers: int | None = None

    @property
    def given(self) -> bool:
        """Whether it is less than all."""
        return self.max_bytes is not None or self.layers is not None

    def of(self, data: bytes | memoryview, *, best_effort: bool) -> tuple[bytes, str]:
        """Return a file of the length, and a warning, "" if there is none.

        With ``best_effort`` the file ends before its first pass that is damaged or missing.

        Raises
        ------
        TrellicError
            As of `bitstream.cut`.
        """
        sound = max(1, bitstream.whole_passes(data)) if best_effort else None
        limits = {"max_bytes": self.max_bytes, "layers": self.layers, "passes": sound}
        shorter = bitstream.cut(data, **limits)
        if sound == shorter.passes < shorter.before:
            return shorter.data, f"only the first {sound} of {shorter.before} passes are whole"
        if not shorter.between:
            return shorter.data, ""
        short = self.max_bytes is not None and self.max_bytes < len(data)
        where = "the length ends" if short else "the file ends, or is damaged,"
        said = f"{where} inside a pass: the first {shorter.passes} of {shorter.before} are decoded"
        return shorter.data, said


class Result(NamedTuple):
    """The form of the results.

    Attributes
    ----------
    installed : the installed models, which know their decoders
    suffix : of its format; None: that of OUT
    fit : the size, None for the picture's own
    length : how much of the file
    background : colour to put behind pictures with transparency; None keeps that
    """

    installed: Installed
    suffix: str | None = None
    fit: images.Fit | None = None
    length: Length = Length()
    background: str | None = None


def models(model: str | None, engines: Engines) -> Installed:
    """Return the installed models, or the one that is to be decoded with.

    Raises
    ------
    typer.Exit
        With code 1 if there is no such bundle.
    """
    try:
        installed = Installed(model)
    except (TrellicError, OSError) as error:
        raise fail(error) from error
    if model is not None:
        engines.decode_with(model, installed.only())
    return installed


def run(
    inputs: Sequence[str],
    output: str,
    setting: Setting,
    result: Result,
    engines: Engines,
    limits: Limits,
    batch: Batch,
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
    sources = expand(inputs, batch.recursive, [TLC])
    jobs = plan(sources, output, result.suffix or SUFFIX, folder=batch.recursive)
    if jobs[0].folder is None:
        _check_suffix(output, result.suffix)
    at_once = batch.at_once(len(jobs), bounded=is_bounded(setting.max_memory, limits))
    engines.share(at_once)
    aside = is_stdout(jobs[0].target)
    names = [job.source for job in jobs]
    with Report("Decoding", names, as_json=as_json, large=LARGE, aside=aside) as report:

        def one(job: Job) -> Sizes:
            return _decode(job, engines, setting, result, limits, report)

        work_through(jobs, batch, report, one, at_once)


def _check_suffix(output: str, asked: str | None) -> None:
    """Refuse a file whose name has no known format, or another one than --format."""
    suffix = _suffix(output, None)
    if asked is not None:
        if (
            not is_stream(output)
            and suffix in images.suffixes()
            and not images.same_format(suffix, asked)
        ):
            raise typer.BadParameter(
                f"{asked[1:]!r}, and {output!r} ends with {suffix!r}", param_hint="--format"
            )
    elif suffix not in images.suffixes():
        raise typer.BadParameter(
            f"{output!r} has the suffix {suffix!r}; expected one of {', '.join(images.suffixes())}"
            ", a --format, or a folder",
            param_hint="OUT",
        )


def _suffix(path: str, asked: str | None) -> str:
    """Return the suffix of the format to write; for a pipe, a device or ``-`` that of PNG."""
    suffix = Path(path).suffix.lower()
    return asked or (SUFFIX if not suffix and is_stream(path) else suffix)


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
    """Refuse data that is not a .tlc file, as `read_stream` does."""
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise NotATrellicFile(images.describe(bytes(data)), expected="a .tlc file")
    return data


def _read(
    path: str, setting: Setting, result: Result
) -> tuple[bytes | memoryview, Setting, Expected]:
    """Read a file, or map it for a part; damage is found before engines are loaded.

    Also returns the name of the decoder for it, and what is expected of that decoder.
    """
    expected = result.installed.expect(setting.decoder or DEFAULT_DECODER)
    if result.length.given:
        return read_stream(path), _with_decoder(setting, DEFAULT_DECODER), expected
    if setting.region is None and result.fit is None and not expected.part:
        whole = read_stream(path)
        read = bitstream.read_prefix if setting.best_effort else bitstream.read
        read(whole, setting.max_pixels)
        return whole, _with_decoder(setting, DEFAULT_DECODER), expected
    mapped = checked(read_parts(path))
    header = bitstream.read_header(mapped)
    height, width = to_rectangle(setting.region, header.width, header.height).shape
    name = result.installed.draft(header.stream_id, result.fit, width, height)
    setting = _with_decoder(setting, name)
    return mapped, setting, result.installed.expect(setting.decoder or DEFAULT_DECODER)


def _with_decoder(setting: Setting, name: str) -> Setting:
    """Fill in the decoder if the user named none."""
    return setting._replace(decoder=setting.decoder or name)


def _check_memory(
    data: bytes | memoryview, setting: Setting, result: Result, suffix: str, expected: Expected
) -> None:
    """Refuse pictures that could be decoded but not written."""
    layout = bitstream.read_contents(data)
    part = to_rectangle(setting.region, layout.header.width, layout.header.height)
    height, width = part.coarser(expected.scale).shape
    alpha, networks = "alpha" in layout.chunks, expected.networks
    sizes = [((width, height), suffix)]
    if result.fit is not None:  # resizing takes as much as an uncompressed format
        sizes = [((width, height), ".bmp"), (result.fit.size(*part.shape[::-1]), suffix)]
    need = max(
        memory.writing(size[0] * size[1], kind, alpha=alpha, networks=networks)
        for size, kind in sizes
    )
    purpose = f"writing a picture of {width}x{height} pixels"
    memory.check(need, setting.max_memory, purpose, ", or decode a region (--region)")


def _decode(
    job: Job,
    engines: Engines,
    setting: Setting,
    result: Result,
    limits: Limits,
    report: Report,
) -> Sizes:
    suffix = _suffix(job.target, result.suffix)
    with limited(limits):
        data, setting, expected = _read(job.source, setting, result)
        if result.length.given:
            data, warning = result.length.of(data, best_effort=bool(setting.best_effort))
            if warning:
                report.warning(job.source, warning)
        _check_memory(data, setting, result, suffix, expected)
    header = bitstream.read_header(data)
    codec = engines.decoder(header.stream_id, setting.decoder or DEFAULT_DECODER)
    images.prepare(suffix)
    with alone(header.width * header.height):
        start = time.perf_counter()
        with limited(limits):
            decoded = codec.decode_timed(data, **setting.arguments())
        damage, picture = decoded.damage, _fitted(decoded.picture, header, setting, result.fit)
        del decoded  # a picture may be large
        if result.background is not None:
            picture = images.on_colour(picture, result.background)
        written = images.to_bytes(picture, suffix)
        seconds = time.perf_counter() - start
    job.write(written)
    _report(job, damage, picture, setting, seconds, report)
    return Sizes(len(data), len(written))


def _fitted(
    picture: images.Picture, header: bitstream.Header, setting: Setting, fit: images.Fit | None
) -> images.Picture:
    """Shrink a picture to the requested size, whatever size the decoder makes."""
    if fit is None:
        return picture
    height, width = to_rectangle(setting.region, header.width, header.height).shape
    small = fit.size(width, height)
    return images.resized(picture, (min(small[0], picture.width), min(small[1], picture.height)))


def _report(
    job: Job,
    damage: Damage | None,
    picture: images.Picture,
    setting: Setting,
    seconds: float,
    report: Report,
) -> None:
    fields: dict[str, object] = {
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
        fields["damage"] = damage and asdict(damage)
    if damage:
        report.warning(job.source, str(damage))
    report.result(
        f"{job.source} -> {job.target}: {picture.width}x{picture.height}, decoder "
        f"{setting.decoder}, {seconds:.2f} s",
        fields,
    )
