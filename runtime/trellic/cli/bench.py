"""``trellic bench``: throughput and latency on this machine, stage by stage."""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trellic import images
from trellic.cli.engines import Engines
from trellic.cli.report import Report
from trellic.cli.stdout import printing
from trellic.constants import Trellis
from trellic.images import Picture
from trellic.support.cores import usable_cores

if TYPE_CHECKING:
    from trellic.codec import Codec

_SYNTHETIC = (512, 768)  # rows and columns, as the Kodak photos
_STEEPNESS = 1.5
Stages = list[dict[str, float]]  # seconds of each stage, one dict a run


class Setting(NamedTuple):
    """Settings of a measurement: quality, trellis, decoder, number of runs."""

    quality: float
    trellis: Trellis
    decoder: str
    repeat: int


def run(
    inputs: Sequence[str], setting: Setting, model: str, engines: Engines, as_json: bool
) -> None:
    """Measure; see ``trellic bench --help``.

    Raises
    ------
    typer.Exit
        With code 1 if a file or the model cannot be used.
    """
    with Report("Measuring", inputs, as_json=as_json) as report:
        for name in inputs or [""]:
            with report.file(name or "the synthetic picture"):
                codec = engines.both(model, setting.trellis, setting.decoder)
                picture = images.read(name) if name else synthetic()
                fields = {"input": name or "synthetic"} | measure(codec, picture, setting)
                with printing():
                    report.result("", fields) if as_json else _print(fields)


def measure(codec: Codec, picture: Picture, setting: Setting) -> dict[str, Any]:
    """Encode and decode a picture several times.

    Parameters
    ----------
    codec : Codec
        Warmed up.
    picture : Picture
        What to code.
    setting : Setting
        How, and how often.

    Returns
    -------
    dict
        Seconds of every stage, median and least over the runs, and pixels a second (median).
    """
    encodes: Stages = []
    decodes: Stages = []
    for _ in range(setting.repeat):
        encoded = codec.encode_picture(picture, quality=setting.quality, trellis=setting.trellis)
        decoded = codec.decode_timed(encoded.data, decoder=setting.decoder)
        encodes.append(encoded.stages | {"total": encoded.seconds})
        decodes.append(decoded.stages | {"total": decoded.seconds})
    pixels = picture.width * picture.height
    return {
        "width": picture.width,
        "height": picture.height,
        "bytes": len(encoded.data),
        "bpp": 8 * len(encoded.data) / pixels,
        **setting._asdict(),
        "model": codec.model,
        "device": codec.device,
        "precision": codec.precision,
        "machine": machine(),
        "encode": _summary(encodes, pixels),
        "decode": _summary(decodes, pixels),
    }


def synthetic() -> Picture:
    """Make a random picture about as hard to code as a photo.

    Its amplitudes fall faster with frequency than those of photos (as 1/frequency), because a
    random field has detail everywhere and photos do not.

    Returns
    -------
    Picture
        RGB, the same every time.
    """
    rows, columns = _SYNTHETIC
    noise = np.random.default_rng(0).standard_normal((3, rows, columns))
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    frequency[0, 0] = np.inf
    planes = np.fft.irfft2(np.fft.rfft2(noise) / frequency**_STEEPNESS, s=(rows, columns))
    planes[1:] = planes[0] + 0.3 * planes[1:]  # colours of photos are correlated
    planes *= 50 / planes.std()
    return Picture(
        np.ascontiguousarray((planes + 128).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    )


def machine() -> str:
    """Name the processor, the cores that may be used, and the system."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {usable_cores()} cores, {platform.system()}"


def _summary(runs: Stages, pixels: int) -> dict[str, Any]:
    median = {stage: statistics.median(run[stage] for run in runs) for stage in runs[0]}
    least = {stage: min(run[stage] for run in runs) for stage in runs[0]}
    return {"median": median, "least": least, "pixels_per_second": pixels / median["total"]}


def _print(fields: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(
        f"{fields['input']}: {fields['width']}x{fields['height']}, quality {fields['quality']:g}, "
        f"trellis {fields['trellis']}, {fields['bytes']} bytes, {fields['bpp']:.3f} bpp"
    )
    print(f"model {fields['model']} on {fields['device']}; {fields['machine']}")
    table = Table("stage", "median ms", "least ms", "Mpixel/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for direction in ("encode", "decode"):
        summary = fields[direction]
        for stage, seconds in summary["median"].items():
            total = stage == "total"
            table.add_row(
                f"{direction} {stage}",
                f"{1e3 * seconds:.1f}",
                f"{1e3 * summary['least'][stage]:.1f}",
                f"{summary['pixels_per_second'] / 1e6:.2f}" if total else "",
                end_section=total,
                style="bold" if total else None,
            )
    Console(highlight=False).print(table)
