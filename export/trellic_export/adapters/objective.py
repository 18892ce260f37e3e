"""What a model was trained for, so that it can be trained further for the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellic.constants import COLOURS
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic_training.losses.eye import Distortion
from trellic_training.losses.reference import read_reference


@dataclass(frozen=True)
class Objective:
    """The objective that the model itself was trained for.

    Attributes
    ----------
    lmbda : weight of squared error, over quality
    reference : curve that says what a point of the other measures is worth; None if they do not
        count
    """

    lmbda: list[float]
    reference: str | None

    @classmethod
    def of(cls, bundle: Bundle) -> Objective:
        """Read it from a bundle.

        Raises
        ------
        BadParameter
            When the bundle does not say how it was trained, or has other bands than red, green and
            blue.
        """
        bands = bundle.manifest.layout.bands
        if bands != COLOURS:
            raise BadParameter(
                f"model {bundle.manifest.name!r} of {bands} bands",
                expected="one of colour pictures",
            )
        recipe: dict[str, Any] = bundle.manifest.training.get("recipe", {})
        if not recipe.get("lmbda"):
            raise BadParameter(
                f"model {bundle.manifest.name!r} does not say what it was trained for",
                expected="a bundle with a recipe in its manifest, such as 'photo'",
            )
        return cls(list(recipe["lmbda"]), recipe.get("distortion", {}).get("reference"))

    @property
    def measure(self) -> str:
        """The measure of pictures: a name of `trellic_training.losses.eye`, or "psnr"."""
        return "psnr" if self.reference is None else "ssimulacra2"

    def distortion(self, shares: Mapping[str, float]) -> Distortion:
        """Return the distortion: a mixture of measures for the eye, or squared error.

        Parameters
        ----------
        shares : of the measures, where the model is for the eye
        """
        if self.reference is None:
            return Distortion({"squared_error": 1.0})
        mixture = Distortion(shares)
        mixture.follow(read_reference(Path(self.reference)))
        return mixture
