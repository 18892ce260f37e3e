"""The reference curve of a run's distortion: named, kept from an earlier run, or measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trellic.errors import BadParameter
from trellic_training.losses.reference import COLUMNS, ReferenceCurve, read_reference
from trellic_training.models.photo import PhotoModel
from trellic_training.recipes.distortion import Mixture
from trellic_training.recipes.lmbda import lmbda_at
from trellic_training.stages.validation import QUALITIES, coded

FILE = "reference.csv"


def reference_of(
    mixture: Mixture, out: Path, resume: Path | None, measured: Callable[[], ReferenceCurve]
) -> ReferenceCurve:
    """Return the curve that a run's distortion follows, and keep it in its folder.

    Parameters
    ----------
    mixture : with the name of a curve, or none
    out : folder of the run
    resume : file that the run continues from; a curve beside it is used again
    measured : makes one where there is none
    """
    kept = [out / FILE, resume.with_name(FILE)] if resume is not None else []
    found = mixture.reference or next((path for path in kept if path.is_file()), None)
    curve = measured() if found is None else read_reference(found)
    curve.write(out / FILE)
    return curve


def measured_reference(
    model: PhotoModel | None, lmbda: Sequence[float] | None, crops: Tensor
) -> ReferenceCurve:
    """Code validation crops with the weights that a run starts from.

    Parameters
    ----------
    model : None where training starts from nothing
    lmbda : of the recipe that the model was trained by; None if that is unknown
    crops : as of `validation_crops`

    Raises
    ------
    BadParameter
        When there is no such model, or no crop.
    """
    if model is None or lmbda is None or not len(crops):
        lacking = "photo to validate on" if model and lmbda else "trained weights with their recipe"
        raise BadParameter(
            f"no {lacking} to measure what a point of each measure is worth",
            remedy="name a curve in the recipe (distortion: reference), such as photo",
        )
    weights = lmbda_at(lmbda, torch.tensor(QUALITIES)).tolist()
    points = []
    for quality, weight in zip(QUALITIES, weights, strict=True):
        found = {"lmbda": weight, **coded(model.eval(), crops, quality)}
        points.append(tuple(found[name] for name in COLUMNS))
    return ReferenceCurve("measured on the weights that the run starts from", tuple(points))
