"""``trellic compare``: one page that shows a photo beside what codecs make of it at equal bytes."""

from __future__ import annotations

import base64
import html
import math
import os
import string
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

import trellic
from trellic import images
from trellic.cli import rivals
from trellic.cli.engines import Engines
from trellic.cli.metrics import psnr, ssim
from trellic.cli.paths import is_stdout, read, write
from trellic.cli.report import Report
from trellic.cli.rivals import Rival
from trellic.constants import Device, Trellis
from trellic.errors import BadParameter
from trellic.images import Picture

if TYPE_CHECKING:
    from trellic.codec import Codec

Pixels = npt.NDArray[np.uint8]

SUFFIX = ".compare.html"
_WEBP_SIDE = 16383  # pixels; larger pictures are shown as PNG


class Setting(NamedTuple):
    """What Trellic is set to, and how large a photo may be."""

    quality: float
    trellis: Trellis
    decoder: str
    max_pixels: int


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
    """

    name: str
    settings: str
    size: int
    pixels: Pixels
    mime_type: str
    shown: bytes
    seconds: tuple[float, ...] = ()


def run(photo: str, out: str | None, setting: Setting, model: str, device: Device) -> None:
    """Write the page; see ``trellic compare --help``.

    Raises
    ------
    typer.Exit
        With code 1 if the photo, a codec or the page failed.
    """
    target = out if out is not None else os.path.splitext(photo)[0] + SUFFIX
    found = rivals.installed()
    steps = [photo, *(rival.name for rival in found), target]
    entries: list[Entry] = []
    with Report("Comparing", steps, as_json=False, aside=is_stdout(target)) as report:
        with report.file(photo):
            data = read(photo)
            picture = opaque(images.from_bytes(data, setting.max_pixels))
            codec = Engines(device).both(model, setting.trellis, setting.decoder)
            original, ours = first_two(picture, len(data), setting, codec)
            entries += [original, ours]
        if not entries:
            return
        for rival in found:
            with report.file(rival.name):
                entries.append(entry_of(rival, picture, ours.size))
        with report.file(target):
            text = page(os.path.basename(photo), entries)
            write(target, text.encode())
            names = ", ".join(entry.name for entry in entries[1:])
            report.result(f"{photo} -> {target}: {names}, {len(text) / 1e6:.1f} MB", {})


def opaque(picture: Picture) -> Picture:
    """Return a picture's colours, on white where it has alpha; all metadata left out but ICC."""
    if picture.alpha is None:
        return Picture(picture.pixels, icc=picture.icc)
    alpha = picture.alpha.astype(np.uint16)
    alpha = alpha if picture.grey else alpha[..., None]
    mixed = (picture.pixels * alpha + 255 * (255 - alpha) + 127) // 255
    return Picture(mixed.astype(np.uint8), icc=picture.icc)


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


def entry_of(rival: Rival, picture: Picture, size: int) -> Entry:
    """Return a rival's entry at ``size`` bytes or just above; an ICC profile is not counted."""
    match = rivals.match(rival, picture.pixels, size)
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


def page(name: str, entries: list[Entry]) -> str:
    """Return the HTML page.

    Parameters
    ----------
    name : of the photo
    entries : the original first, then Trellic
    """
    original = entries[0].pixels
    height, width = original.shape[:2]
    template = resources.files("trellic.cli").joinpath("compare.html").read_text("utf-8")
    return string.Template(template).substitute(
        title=html.escape(f"{name}: codecs at equal bytes"),
        caption=f"{width} x {height} pixels. Each codec has the lowest of its qualities whose file "
        "is not smaller than Trellic's.",
        rows="\n".join(_row(entry, original) for entry in entries),
        notes=f"Made by Trellic {trellic.__version__}. Bytes without metadata and colour profile; "
        "PSNR over all samples; SSIM of the luma, 7x7 windows; times of one run on one machine.",
        pictures="\n".join(_image(entry, width, height) for entry in entries),
    )


_COLUMNS = ("Bytes", "Bits per pixel", "PSNR, dB", "SSIM", "Encode, s", "Decode, s", "Settings")


def _row(entry: Entry, original: Pixels) -> str:
    bits = 8 * entry.size / (original.shape[0] * original.shape[1])
    close = ("", "")
    if entry.seconds:
        close = (_number(psnr(original, entry.pixels), 2), _number(ssim(original, entry.pixels), 4))
    times = [f"{seconds:.3f}" for seconds in entry.seconds] or ["", ""]
    cells: Iterable[str] = (f"{entry.size:,}", f"{bits:.3f}", *close, *times, entry.settings)
    mark = ' class="ours"' if entry.name == "Trellic" else ""
    text = "".join(
        f'<td data-name="{name}">{html.escape(cell)}</td>'
        for name, cell in zip(_COLUMNS, cells, strict=True)
    )
    return f'<tr{mark}><th scope="row">{html.escape(entry.name)}</th>{text}</tr>'


def _number(value: float, digits: int) -> str:
    if math.isfinite(value):
        return f"{value:.{digits}f}"
    return "\N{INFINITY}" if math.isinf(value) else "n/a"


def _image(entry: Entry, width: int, height: int) -> str:
    data = base64.b64encode(entry.shown).decode()
    return (
        f'<img alt="{html.escape(entry.name)}" width="{width}" height="{height}" '
        f'src="data:{entry.mime_type};base64,{data}">'
    )
