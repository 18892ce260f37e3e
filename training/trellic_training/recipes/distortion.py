"""The distortion of a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trellic.constants import COLOURS
from trellic.errors import BadParameter
from trellic_training.losses.eye import ERRORS, LEAST_SIDES


class Mixture(BaseModel):
    """Shares of several measures in the distortion: they sum to 1.

    Each is weighted in bits per point, so that the model of the reference curve would gain equally
    from each. ``lmbda`` still says how much all of them count against bits. Without a reference,
    the curve is measured on the weights that a run starts from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    squared_error: float = Field(default=1.0, ge=0)
    ssimulacra2: float = Field(default=0.0, ge=0)
    ms_ssim: float = Field(default=0.0, ge=0)
    jod: float = Field(default=0.0, ge=0, description="CVVDP")
    flat: float = Field(default=0.0, ge=0, description="bits a pixel; see Distortion")
    reference: Path | None = Field(default=None, description="CSV, or a shipped one's name")

    @model_validator(mode="after")
    def _shares_sum_to_1(self) -> Mixture:
        total = sum(self.shares.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares of the measures sum to {total:g}, not to 1")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share of squared error and of each other measure."""
        shares = {"squared_error": self.squared_error}
        return shares | {name: float(getattr(self, name)) for name in ERRORS}

    @property
    def needs_reference(self) -> bool:
        """Whether any measure counts whose weight comes from a curve."""
        return any(self.shares[name] for name in ERRORS)

    def check_bands(self, bands: int) -> None:
        """Check that the measures that count are of pictures of so many bands.

        Raises
        ------
        BadParameter
            When one is of colours alone.
        """
        if bands != COLOURS and (self.squared_error != 1 or self.flat):
            raise BadParameter(
                f"a distortion of {bands} bands that is more than squared error",
                expected="squared_error: 1 and flat: 0",
            )

    def check_sides(self, sides: Iterable[int]) -> None:
        """Check that pictures are large enough for the measures that count.

        Raises
        ------
        BadParameter
            When one is too small.
        """
        for side in sides:
            for name, least in LEAST_SIDES.items():
                if self.shares[name] and side < least:
                    raise BadParameter(
                        f"{name} of pictures of {side} pixels a side",
                        expected=f"{least} or more",
                        remedy="choose larger crops in the recipe's phases",
                    )
