"""What a point of a measure is worth, from a model's curve of bits and measures over ``lmbda``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trellic.errors import BadParameter

COLUMNS = ("lmbda", "bpp", "psnr", "ssimulacra2", "ms_ssim", "jod")
SHIPPED = Path(__file__).parent / "curves"
LEAST = 3  # points


@dataclass(frozen=True)
class ReferenceCurve:
    """Means over pictures at several weights of the distortion.

    Attributes
    ----------
    name : what to call it in messages
    points : for each ``lmbda``, rising, the columns of `COLUMNS`
    """

    name: str
    points: tuple[tuple[float, ...], ...]

    def slopes(self, measure: str) -> tuple[Tensor, Tensor]:
        """Logarithm of each ``lmbda``, and of the bits per pixel that a point costs there.

        Raises
        ------
        BadParameter
            When the measure does not rise with the bits.
        """
        columns = dict(zip(COLUMNS, np.array(self.points).T, strict=True))
        steps = np.diff(columns[measure]), np.diff(columns["bpp"]), np.diff(columns["lmbda"])
        if not all((step > 0).all() for step in steps):
            raise BadParameter(
                f"reference curve {self.name}: {measure} does not rise with lmbda and bits",
                expected="a curve of a trained model",
                remedy="name one in the recipe (distortion: reference), such as photo",
            )
        slope = np.gradient(columns["bpp"], columns[measure])
        log = np.log(columns["lmbda"]), np.log(slope)
        return torch.from_numpy(log[0]).float(), torch.from_numpy(log[1]).float()

    def write(self, path: Path) -> None:
        """Write a CSV file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([f"{value:.8g}" for value in point] for point in self.points)


def read_reference(path: Path) -> ReferenceCurve:
    """Read a curve: a CSV file, or the name of a shipped one.

    Raises
    ------
    BadParameter
        When there is none, or the file is something else.
    """
    found = path if path.is_file() else SHIPPED / f"{path.name}.csv"
    if not found.is_file():
        shipped = ", ".join(sorted(curve.stem for curve in SHIPPED.glob("*.csv")))
        raise BadParameter(f"no reference curve {str(path)!r}", remedy=f"shipped: {shipped}")
    try:
        with found.open(encoding="utf-8", newline="") as file:
            rows = [tuple(float(row[name]) for name in COLUMNS) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        rows = []
        cause: Exception | None = error
    else:
        cause = None
    if len(rows) < LEAST:
        raise BadParameter(
            f"{found} is not a reference curve",
            expected=f"CSV with the columns {', '.join(COLUMNS)}, {LEAST} rows or more",
        ) from cause
    return ReferenceCurve(str(path), tuple(sorted(rows)))
