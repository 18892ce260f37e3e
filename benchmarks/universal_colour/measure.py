"""What models make of test pictures: bits, squared error, the judge's verdict, patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.codecs import Pixels
from benchmarks.labels_rate import payload
from benchmarks.measure import spread
from benchmarks.picture_labels import LabelledSet
from benchmarks.sliced_wasserstein import sliced_wasserstein
from trellic.codec import Codec
from trellic_training.models.photo import PhotoModel
from trellic_training.pixels import PIXEL_RANGE, to_network

RATES = (0.25, 0.4, 0.65)  # bit/pixel, estimated
QUALITIES = (1, 15, 40)  # of real files
GRID = (1.0, 9.0, 18.0, 27.0, 36.0, 47.0, 60.0)  # where bits are looked up
LOOKED_UP = 100  # pictures
PATCHED = 200  # pictures whose patches are compared, which takes longest
AT_ONCE = 100
Row = dict[str, Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coded:
    """Pictures, decoded, and what they cost."""

    bpp: float
    pixels: Pixels


@dataclass(frozen=True)
class Judges:
    """Classifiers of pictures: one that no codec was trained by, and the one that they were."""

    judge: nn.Module
    known: nn.Module


@torch.no_grad()
def coded(model: PhotoModel, pixels: Pixels, quality: float) -> Coded:
    """Code pictures (N, H, W, 3) with plain rounding; the bits are the model's own estimate."""
    made, bits = [], []
    for part in torch.split(torch.from_numpy(pixels), AT_ONCE):
        output = model(to_network(part), torch.full((len(part),), quality))
        bits.append(output.y_bits + output.z_bits)
        made.append(as_pixels(output.x_hat))
    return Coded(float(torch.cat(bits).mean()) / pixels[0, ..., 0].size, np.concatenate(made))


def as_pixels(x_hat: Tensor) -> Pixels:
    """Decoded pictures (N, 3, H, W) around 0, as files have them."""
    levels = ((x_hat + 0.5) * PIXEL_RANGE).round().clamp(0, PIXEL_RANGE)
    pixels: Pixels = levels.to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def qualities_of(model: PhotoModel, pixels: Pixels, rates: Sequence[float]) -> list[float]:
    """Return the qualities at which a model spends so many bits per pixel.

    Raises
    ------
    ValueError
        When no quality of the grid spends so few, or so many.
    """
    few = np.stack(spread(pixels, LOOKED_UP))
    return qualities_at(rates, GRID, lambda quality: coded(model, few, quality).bpp)


def qualities_at(
    rates: Sequence[float], grid: Sequence[float], bits_at: Callable[[float], float]
) -> list[float]:
    """Return the qualities at which so many bits per pixel are spent, between those of a grid.

    Raises
    ------
    ValueError
        When no quality of the grid spends so few, or so many.
    """
    bits = [bits_at(quality) for quality in grid]
    if not bits[0] <= min(rates) <= max(rates) <= bits[-1]:
        raise ValueError(f"{rates} bit/pixel: the model spends {bits[0]:.2f} to {bits[-1]:.2f}")
    return [float(np.interp(bpp, bits, grid)) for bpp in rates]


def measures(pixels: Pixels, test: LabelledSet, judges: Judges) -> Row:
    """Return means over decoded pictures, as many as the test's; "hits" are one a picture."""
    apart = (pixels.astype(np.float64) - test.pixels) / PIXEL_RANGE
    pairs = zip(spread(test.pixels, PATCHED), spread(pixels, PATCHED), strict=True)
    hits, entropy = verdicts(judges.judge, pixels, test.labels)
    known = verdicts(judges.known, pixels, test.labels)
    return {
        "mse": float((apart**2).mean()),
        "sliced_wasserstein": float(np.mean([sliced_wasserstein(a, b) for a, b in pairs])),
        "accuracy": float(hits.mean()),
        "cross_entropy": entropy,
        "hits": [int(hit) for hit in hits],
        "known": {"accuracy": float(known[0].mean()), "cross_entropy": known[1]},
    }


@torch.no_grad()
def verdicts(
    judge: nn.Module, pixels: Pixels, labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], float]:
    """Return which pictures get their label, and the mean cross entropy in nats."""
    parts = torch.split(torch.from_numpy(pixels), AT_ONCE)
    logits = torch.cat([judge(to_network(part)) for part in parts])
    entropy = functional.cross_entropy(logits, torch.from_numpy(labels))
    return logits.argmax(1).numpy() == labels, float(entropy)


def model_rows(
    model: PhotoModel,
    test: LabelledSet,
    judges: Judges,
    say: Callable[[str], None],
    rates: Sequence[float] = RATES,
) -> list[Row]:
    """Return a row for each rate of one model."""
    rows = []
    qualities = qualities_of(model, test.pixels, rates)
    for rate, quality in zip(rates, qualities, strict=True):
        say(f"{rate:g} bit/pixel: quality {quality:.1f}")
        made = coded(model, test.pixels, quality)
        found = measures(made.pixels, test, judges)
        rows.append({"rate": rate, "quality": quality, "bpp": made.bpp, **found})
    return rows


def file_rows(
    bundle: Path,
    decoders: Sequence[str],
    test: LabelledSet,
    judges: Judges,
    qualities: Sequence[int] = QUALITIES,
) -> list[Row]:
    """Return a row for each quality of real files: what every decoder makes of the same ones."""
    codec, rows = Codec.load(bundle, device="cpu", threads=1), []
    pixels = test.pixels[0, ..., 0].size
    for quality in qualities:
        bar = track(test.pixels, f"files of quality {quality}", transient=True)
        files = [codec.encode(picture, quality=quality, trellis=8) for picture in bar]
        row: Row = {
            "quality": quality,
            "file_bpp": 8 * float(np.mean([len(data) for data in files])) / pixels,
            "payload_bpp": 8 * float(np.mean([payload(data) for data in files])) / pixels,
            "decoders": {},
        }
        for name in decoders:
            bar = track(files, f"decoder {name}", transient=True)
            made = np.stack([codec.decode(data, decoder=name) for data in bar])
            row["decoders"][name] = measures(made, test, judges)
        rows.append(row)
    return rows
