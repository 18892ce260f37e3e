"""Options and arguments that several commands share, and the checks of their values."""

from __future__ import annotations

import enum
import math
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from trellic.constants import DEFAULT_DECODER, DEFAULT_QUALITY, MAX_SEED, TRELLIS_STATES
from trellic.errors import BadParameter
from trellic.model.choice import parse
from trellic.support.bounds import PROFILES, Limits

FILES, LIMITS = "Many files", "Limits"  # panels of --help


class Device(enum.StrEnum):
    """Where engines run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class Precision(enum.StrEnum):
    """Precision of encoder and decoders."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"
    fp16 = "fp16"


class Profile(enum.StrEnum):
    """Names of limits."""

    service = "service"


class Box(NamedTuple):
    """A region of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int


def _box(text: str) -> Box:
    numbers = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text, re.ASCII)
    if numbers is None:
        raise typer.BadParameter(f"{text!r} is not X,Y,WIDTH,HEIGHT in pixels")
    return Box(*map(int, numbers.groups()))


def size(value: str | int) -> int:
    """Read a number of bytes, such as 2G, 800MB or 1.5GiB; a default comes as a number.

    Raises
    ------
    typer.BadParameter
        If it is something else.
    """
    text = str(value)
    parts = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([KMGT]?)(i?)B?", text, re.ASCII | re.IGNORECASE)
    if parts is None or (parts[3] and not parts[2]):
        raise typer.BadParameter(f"{text!r} is not a size such as 2G, 800MB or 1.5GiB")
    power = " KMGT".index(parts[2].upper() or " ")
    found = int(float(parts[1]) * (1024 if parts[3] else 1000) ** power)
    if found < 1:
        raise typer.BadParameter(f"{text!r} is less than a byte")
    return found


def _quality(value: float | None) -> float | None:
    if value is not None and not 1 <= value <= 100:  # false for nan, too
        raise typer.BadParameter(f"{value} is not in the range 1..100")
    return value


def _positive(value: float | None) -> float | None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise typer.BadParameter(f"{value} is not a positive number")
    return value


def _trellis(value: int | None) -> int | None:
    if value is not None and value not in TRELLIS_STATES:
        states = ", ".join(map(str, TRELLIS_STATES))
        raise typer.BadParameter(f"{value} is not one of {states}")
    return value


def _decoder(value: str | None) -> str | None:
    try:
        if value is not None:
            parse(value)
    except BadParameter as error:
        raise typer.BadParameter(str(error)) from error
    return value


def _background(value: str | None) -> str | None:
    if value is None:
        return None
    from trellic.images import colour_of

    try:
        colour_of(value)
    except BadParameter as error:
        raise typer.BadParameter(str(error)) from error
    return value


def _format(value: str | None) -> str | None:
    """Return the suffix of a format."""
    if value is None:
        return None
    from trellic.images.saving import suffixes

    suffix = "." + value.lower().removeprefix(".")
    if suffix not in suffixes():
        known = ", ".join(suffix[1:] for suffix in suffixes())
        raise typer.BadParameter(f"{value!r} is not one of {known}")
    return suffix


def _models() -> list[str]:
    """Names that a shell may complete."""
    from trellic.model import bundle

    return [manifest.name for _, manifest in bundle.installed()]


def _decoders() -> list[str]:
    """Names that a shell may complete."""
    from trellic.model import bundle

    return sorted({name for _, manifest in bundle.installed() for name in manifest.decoders})


class Sides(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


def _sides(text: str) -> Sides:
    numbers = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text, re.ASCII)
    if numbers is None or not (int(numbers[1]) and int(numbers[2])):
        raise typer.BadParameter(f"{text!r} is not WIDTHxHEIGHT in pixels, such as 640x480")
    return Sides(*map(int, numbers.groups()))


def _scale(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"{value} is not above 0 and at most 1")
    return value


_PATHS = (
    "Files to read (with -r also folders; - reads from a pipe), then the file to write; "
    "for several IN, a folder, which is created if needed. "
)
Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN... OUT", show_default=False, help=_PATHS + "For OUT, - writes to a pipe."
    ),
]
DecodePaths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN... OUT",
        show_default=False,
        help=_PATHS + "With a decoder that gives labels, leave out OUT.",
    ),
]
_OF_QUALITY = partial(typer.Option, "-q", "--quality", metavar="1..100", callback=_quality)
Quality = Annotated[
    float | None, _OF_QUALITY(help=f"Quality, in steps of 1/16 (default {DEFAULT_QUALITY:g}).")
]
NewQuality = Annotated[
    float | None,
    _OF_QUALITY(help="Quality of the result, in steps of 1/16. Give this or --max-bytes."),
]
Bpp = Annotated[
    float | None,
    typer.Option(
        metavar="BITS", callback=_positive, help="Best quality with at most BITS bits per pixel."
    ),
]
MaxBytes = Annotated[
    int | None, typer.Option(metavar="BYTES", min=1, help="Largest size of the result, in bytes.")
]
Ssimulacra2 = Annotated[
    float | None,
    typer.Option(
        metavar="SCORE",
        max=99.9,
        help="SSIMULACRA 2 score to reach, to within one point (extra: score).",
    ),
]
if TYPE_CHECKING:
    from trellic.constants import Trellis as _States
    from trellic.images.fit import Fit
else:
    _States = int  # typer reads a number; `_trellis` checks it
Trellis = Annotated[
    _States,
    typer.Option(
        metavar="|".join(map(str, TRELLIS_STATES)),
        callback=_trellis,
        help="Number of trellis states. More states make smaller files but take longer; 0 turns "
        "the trellis off.",
    ),
]
KeptTrellis = Annotated[
    _States | None,
    typer.Option(
        "--trellis",
        metavar="|".join(map(str, TRELLIS_STATES)),
        callback=_trellis,
        help="Number of trellis states (default: as in the file).",
    ),
]
Dither = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        min=0,
        max=MAX_SEED,
        help="Add noise before rounding, which the decoder subtracts again; needs --trellis 0.",
    ),
]
Steady = Annotated[
    bool,
    typer.Option(
        "--steady",
        help="For pictures that are decoded and encoded again and again: an unchanged one mostly "
        "gives the same file. Encoding takes long. Takes no trellis.",
    ),
]
Refine = Annotated[
    bool,
    typer.Option(
        "--refine",
        help="Decode once while encoding, and correct what was lost: fewer bytes at equal "
        "quality from 85 on, for more time.",
    ),
]
Progressive = Annotated[
    bool,
    typer.Option(
        "--progressive",
        help="Code in layers, so that any beginning of the file is a picture. Without trellis.",
    ),
]


class Patching(enum.StrEnum):
    """What ``--patches`` takes."""

    auto = "auto"
    off = "off"


Patches = Annotated[
    Patching,
    typer.Option(
        "--patches",
        help="auto: store screens, or their text and flat areas, in another way where it pays.",
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        "--bytes",
        metavar="N",
        min=1,
        help="Decode only the first N bytes of a file; all of a shorter one.",
    ),
]
Layers = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        min=1,
        help="Use only the first K layers of a progressive file; all, with a warning, if it has "
        "fewer.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        autocompletion=_models,
        help="Name of an installed model, or path of a bundle.",
    ),
]
DecodeModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        autocompletion=_models,
        help="Decode with this model or bundle, which need not be installed. "
        "Default: the installed one that the file names.",
        show_default=False,
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Adapter of the model, for pictures of its kind.",
        show_default=False,
    ),
]
DecodeAdapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="NAME|PATH",
        help="Adapter for files that name none. The others find theirs by themselves.",
        show_default=False,
    ),
]
EmbedAdapter = Annotated[
    bool,
    typer.Option("--embed-adapter", help="Put the adapter into the file: some 130 kB."),
]
DeviceOption = Annotated[Device, typer.Option(help="Where the networks run.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(help="bf16 (needs OpenVINO) and int8 are faster on CPUs that support them."),
]
Decoder = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:0..1]",
        autocompletion=_decoders,
        callback=_decoder,
        help=f"Decoder (default: {DEFAULT_DECODER}; for a small --size or --scale, the fastest one "
        "that is good enough). NAME:x mixes it with its base: 1 is NAME alone, 0 is the base.",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Refuse larger pictures before decoding them.",
        rich_help_panel=LIMITS,
    ),
]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=size,
        help="Use at most this much memory, such as 2G or 800M; refuse pictures that need more.",
        rich_help_panel=LIMITS,
    ),
]
Profiles = Annotated[
    Profile | None,
    typer.Option(
        "--limits",
        help="Limits for files you do not trust: 2^25 pixels, 2 GB and 60 s per picture.",
        rich_help_panel=LIMITS,
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        callback=_positive,
        help="Seconds that each picture may take; loading does not count.",
        rich_help_panel=LIMITS,
    ),
]
Region = Annotated[
    Box | None,
    typer.Option(
        metavar="X,Y,W,H",
        parser=_box,
        help="Decode only this part; X and Y are pixels from the upper left.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "-r",
        "--recursive",
        help="Include the files in folders and their subfolders; OUT gets the same subfolders.",
        rich_help_panel=FILES,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Skip files whose result exists, unless they were changed or put there after it was "
        "written.",
        rich_help_panel=FILES,
    ),
]
KeepSuffix = Annotated[
    bool,
    typer.Option(
        "--keep-suffix",
        help="In a folder, name results photo.jpg.tlc instead of photo.tlc.",
        rich_help_panel=FILES,
    ),
]
Preserve = Annotated[
    bool,
    typer.Option(
        "--preserve",
        help="Keep the modification times of the input files.",
        rich_help_panel=FILES,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only show what would be written, and where.", rich_help_panel=FILES
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j",
        "--jobs",
        metavar="N",
        min=1,
        max=1024,
        help="Number of files to work on at once (default: one per core; 1 with a memory limit).",
        rich_help_panel=FILES,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="png|jpg|webp|tif|avif|...",
        callback=_format,
        help="Format of the pictures (default: from the suffix of OUT; PNG for folders and pipes).",
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="COLOUR",
        callback=_background,
        help="Put this colour, such as white or #ff8800, behind pictures with transparency, which "
        "JPEG cannot hold.",
    ),
]
Size = Annotated[
    Sides | None,
    typer.Option(
        "--size",
        metavar="WxH",
        parser=_sides,
        help="Shrink pictures to fit into W x H pixels. Keeps the proportions; never enlarges.",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        "--scale", metavar="0..1", callback=_scale, help="Multiply width and height by this number."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")]


def limits_of(profile: Profile | None, deadline: float | None) -> Limits:
    """Return the limits of the options; a deadline replaces that of the profile."""
    chosen = Limits() if profile is None else PROFILES[profile.value]
    return chosen if deadline is None else replace(chosen, deadline=deadline)


def fit_of(size: Sides | None, scale: float | None) -> Fit | None:
    """Return the size of the options."""
    if size is None and scale is None:
        return None
    from trellic.images.fit import Fit

    return Fit(size, scale)
