"""Terms of a loss beside rate and distortion: classification and perception."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Classification(BaseModel):
    """A frozen classifier of pictures, whose cross entropy on the decoded pictures counts.

    The training pictures must be of the classifier's labels, a sub-folder for each, and of its
    size. They are shifted and flipped, but not turned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    classifier: Path = Field(description="classifier.pt of trellic train, recipe of a classifier")
    lambda_c: float = Field(ge=0, description="weight of the cross entropy in nats")


class CriticSettings(BaseModel):
    """The critic that tells decoded pictures from photos while a decoder learns to deceive it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    hidden: int = Field(32, ge=1, description="channels of the critic's first layer")
    learning_rate: float = Field(4e-4, gt=0, le=1)
    from_share: float = Field(0.1, ge=0, le=1, description="when in the run the critic sets in")


class Perception(CriticSettings):
    """A critic, whose verdict on the decoded pictures counts."""

    lambda_p: float = Field(ge=0, description="weight of the critic's mean verdict")
