"""``trellic compare``: one page that shows photos beside their versions by several codecs."""

from __future__ import annotations

import base64
import html
import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import typer

import trellic
from trellic import images
from trellic.cli import measures, rivals
from trellic.cli.engines import Engines
from trellic.cli.measures import Measure
from trellic.cli.paths import is_stdout, read, write
from trellic.cli.report import Report, fail
from trellic.cli.rivals import Aim, Rival
from trellic.constants import Device, Trellis
from trellic.errors import BadParameter
from trellic.images import Picture
from trellic.support.files import check_writable

if TYPE_CHECKING:
    from trellic.codec import Codec

Pixels = npt.NDArray[np.uint8]

SUFFIX = ".compare.html"
BYTES = "bytes"
_WEBP_SIDE = 16383  # pixels; larger pictures are shown as PNG


class Setting(NamedTuple):
    """Settings of Trellic, the largest size of a photo, and what is equal: bytes or a measure."""

    quality: float
    trellis: Trellis
    decoder: str
    max_pixels: int
    equal: str = BYTES


@dataclass(frozen=True)
class Entry:
    """One version of the photo: a row of the table, and a picture.

    Attributes
    ----------
    name, settings : for people
    size : bytes
    pixels : uint8 (H, W, 3) or (H, W)
    mime_type, shown : what the browser shows
    seconds : of encoding and decoding; nothing for the original
    scores : by name of the measure; nothing for the original
    """

    name: str
    settings: str
    size: int
    pixels: Pixels
    mime_type: str
    shown: bytes
    seconds: tuple[float, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


class Photo(NamedTuple):
    """A photo: its name, and its entries, the original first, then Trellic."""

    name: str
    entries: Sequence[Entry]


def run(
    photos: Sequence[str], out: str | None, setting: Setting, model: str, device: Device
) -> None:
    """Write the page; see ``trellic compare --help``.

    Raises
    ------
    typer.BadParameter
        When ``equal`` is neither bytes nor an installed measure.
    typer.Exit
        With code 1 if a photo, a codec or the page failed.
    """
    there, lacking = measures.installed()
    if setting.equal not in (BYTES, *there):
        names = ", ".join([BYTES, *there])
        raise typer.BadParameter(f"{setting.equal!r} is not one of {names}", param_hint="--equal")
    target = out if out is not None else os.path.splitext(photos[0])[0] + SUFFIX
    try:
        if not is_stdout(target):
            check_writable(target)
    except OSError as error:
        raise fail(error) from error
    found = rivals.installed()
    steps = [name for photo in photos for name in (photo, *(rival.name for rival in found))]
    shown: list[Photo] = []
    with Report("Comparing", [*steps, target], as_json=False, aside=is_stdout(target)) as report:
        engines = Engines(device)
        for photo in photos:
            entries = _entries(photo, found, there, setting, model, engines, report)
            if entries:
                shown.append(Photo(os.path.basename(photo), entries))
        if not shown:
            return
        with report.file(target):
            text = page(shown, there, lacking, setting.equal)
            write(target, text.encode())
            names = ", ".join(entry.name for entry in shown[0].entries[1:])
            label = ", ".join(photos)
            report.result(f"{label} -> {target}: {names}, {len(text) / 1e6:.1f} MB", {})


def _entries(
    photo: str,
    found: Sequence[Rival],
    there: Mapping[str, Measure],
    setting: Setting,
    model: str,
    engines: Engines,
    report: Report,
) -> list[Entry]:
    """Return the entries of a photo without those of codecs that failed; none if it failed."""
    entries: list[Entry] = []
    with report.file(photo):
        data = read(photo)
        picture = opaque(images.from_bytes(data, setting.max_pixels))
        codec = engines.both(model, setting.trellis, setting.decoder)
        original, ours = first_two(picture, len(data), setting, codec)
        ours = scored(ours, original, there)
        aim = aim_of(setting.equal, ours, original, there)
        entries += [original, ours]
    if not entries:
        return []
    for rival in found:
        with report.file(rival.name):
            entries.append(scored(entry_of(rival, picture, aim), original, there))
    return entries


def aim_of(equal: str, ours: Entry, original: Entry, there: Mapping[str, Measure]) -> Aim:
    """Return what a rival's file has to reach: Trellic's bytes, or its score.

    Raises
    ------
    BadParameter
        When the photo has no such score.
    """
    if equal == BYTES:
        return lambda data, _: len(data) >= ours.size
    measure, wanted = there[equal], ours.scores[equal]
    if not measure.reached(wanted, wanted):  # nan
        raise BadParameter(f"--equal {equal}", expected="a measure that takes photos of this size")
    return lambda _, decoded: measure.reached(measure.of(original.pixels, decoded()), wanted)


def scored(entry: Entry, original: Entry, there: Mapping[str, Measure]) -> Entry:
    """Return an entry with its scores."""
    scores = {name: one.of(original.pixels, entry.pixels) for name, one in there.items()}
    return replace(entry, scores=scores)


def opaque(picture: Picture) -> Picture:
    """Return a picture's colours, on white where it has alpha; all metadata left out but ICC."""
    return Picture(images.on_colour(picture, "white").pixels, icc=picture.icc)


def first_two(picture: Picture, size: int, setting: Setting, codec: Codec) -> tuple[Entry, Entry]:
    """Return the entries of the original and of Trellic.

    Parameters
    ----------
    picture : from `opaque`
    size : bytes of the photo's file
    codec : warm, so that its times are its own

    Raises
    ------
    BadParameter
        When the decoder makes smaller pictures.
    """
    bare = Picture(picture.pixels)  # the profile is for the browser, and its bytes do not count
    encoded = codec.encode_picture(bare, quality=setting.quality, trellis=setting.trellis)
    decoded = codec.decode_timed(
        encoded.data, decoder=setting.decoder, max_pixels=setting.max_pixels
    )
    if decoded.picture.pixels.shape[:2] != picture.pixels.shape[:2]:
        raise BadParameter(
            f"decoder {setting.decoder!r} makes smaller pictures",
            expected="one that makes pictures of the full size",
        )
    settings = (
        f"model {codec.model}, quality {encoded.quality:g}, trellis {setting.trellis}, "
        f"decoder {setting.decoder}; shown decoded"
    )
    pixels, icc = decoded.picture.pixels, picture.icc
    seconds = (encoded.seconds, decoded.seconds)
    return (
        Entry("Original", "the file as it is", size, picture.pixels, *shown(picture.pixels, icc)),
        Entry("Trellic", settings, len(encoded.data), pixels, *shown(pixels, icc), seconds),
    )


def entry_of(rival: Rival, picture: Picture, aim: Aim) -> Entry:
    """Return the entry of a rival's smallest file that meets the aim, without the ICC profile."""
    match = rivals.match(rival, picture.pixels, aim)
    if rival.mime_type:
        data = match.data
        if picture.icc:  # for the browser's colours only
            data = rival.encode(picture.pixels, match.quality, picture.icc)
        view = rival.mime_type, data
    else:
        view = shown(match.pixels, picture.icc)
    seconds = (match.encode_seconds, match.decode_seconds)
    return Entry(rival.name, rival.settings, len(match.data), match.pixels, *view, seconds)


def shown(pixels: Pixels, icc: bytes | None) -> tuple[str, bytes]:
    """Return pixels as a file without loss: its MIME type and its bytes."""
    suffix = ".webp" if max(pixels.shape[:2]) <= _WEBP_SIDE else ".png"
    return f"image/{suffix[1:]}", images.to_bytes(Picture(pixels, icc=icc), suffix)


def page(
    photos: Sequence[Photo],
    there: Mapping[str, Measure],
    lacking: Sequence[str] = (),
    equal: str = BYTES,
) -> str:
    """Return the HTML page.

    Parameters
    ----------
    there : the measures that are shown
    lacking : a sentence for each that is not installed
    equal : what is equal, "bytes" or the name of a measure
    """
    names = ", ".join(photo.name for photo in photos)
    what = "bytes" if equal == BYTES else there[equal].label.partition(",")[0]
    template = resources.files("trellic.cli").joinpath("compare.html").read_text("utf-8")
    return string.Template(template).substitute(
        title=html.escape(f"{names}: codecs at equal {what}"),
        tables="\n".join(_table(photo, there, equal) for photo in photos),
        notes=html.escape(
            f"Made by Trellic {trellic.__version__}. Bytes without metadata and colour profile; "
            "times of one run on one machine."
        ),
        missing=_missing(lacking),
        pictures="\n".join(_pictures(photo) for photo in photos),
    )


def _missing(lacking: Sequence[str]) -> str:
    """Return a fold-out list of the measures that are not installed."""
    if not lacking:
        return ""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in lacking)
    return f"<details><summary>More measures ({len(lacking)})</summary><ul>{items}</ul></details>"


_LAST = ("Encode, s", "Decode, s", "Settings")


def _table(photo: Photo, there: Mapping[str, Measure], equal: str) -> str:
    labels = [
        measure.label + ("" if measure.rises else " (less is better)") for measure in there.values()
    ]
    columns = ("Bytes", "Bits per pixel", *labels, *_LAST)
    height, width = photo.entries[0].pixels.shape[:2]
    least = (
        "whose file is not smaller than Trellic's"
        if equal == BYTES
        else f"whose {there[equal].label.partition(',')[0]} is not worse than Trellic's"
    )
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ("Codec", *columns))
    rows = "\n".join(_row(entry, width * height, there, columns) for entry in photo.entries)
    return (
        f'<table class="photo"><caption>{html.escape(photo.name)}: {width} x {height} pixels. '
        f"Each codec has the lowest of its qualities {least}; the highest where none is."
        f"</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    )


def _row(entry: Entry, pixels: int, there: Mapping[str, Measure], columns: Sequence[str]) -> str:
    close = [
        measure.text(entry.scores[name]) if name in entry.scores else ""
        for name, measure in there.items()
    ]
    times = [f"{seconds:.3f}" for seconds in entry.seconds] or ["", ""]
    cells = (f"{entry.size:,}", f"{8 * entry.size / pixels:.3f}", *close, *times, entry.settings)
    mark = ' class="ours"' if entry.name == "Trellic" else ""
    text = "".join(
        f'<td data-name="{html.escape(name)}">{html.escape(cell)}</td>'
        for name, cell in zip(columns, cells, strict=True)
    )
    return f'<tr{mark}><th scope="row">{html.escape(entry.name)}</th>{text}</tr>'


def _pictures(photo: Photo) -> str:
    height, width = photo.entries[0].pixels.shape[:2]
    found = "\n".join(_image(entry, width, height) for entry in photo.entries)
    return f'<div class="photo" data-name="{html.escape(photo.name)}">\n{found}\n</div>'


def _image(entry: Entry, width: int, height: int) -> str:
    data = base64.b64encode(entry.shown).decode()
    return (
        f'<img alt="{html.escape(entry.name)}" width="{width}" height="{height}" '
        f'src="data:{entry.mime_type};base64,{data}">'
    )
