"""How slim models are trained."""

from __future__ import annotations

from dataclasses import dataclass

from trellic_export.adapters.settings import Training


@dataclass(frozen=True)
class Settings(Training):
    """How a slim model is trained, by SOAP.

    Attributes
    ----------
    imitating : share of the time in which the encoder learns the latents of the large one
    clip : norm of the gradients at most
    """

    minutes: float = 60.0
    batch: int = 4
    learning_rate: float = 2e-3
    imitating: float = 0.4
    clip: float = 1.0
