"""Silences Lightning's greetings, advertisements, and warnings of what is intended here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HARMLESS = (
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from .*best_model_score",  # a resumed run may write elsewhere
    "The 'train_dataloader' does not have many workers",  # crops come from memory
    "Found .* in eval mode",  # nothing here behaves by mode
    ".*isinstance.treespec, LeafSpec.. is deprecated",  # an older form of torch's tree functions
)


@contextmanager
def quiet() -> Iterator[None]:
    """Let only those warnings of Lightning through that matter."""
    greeter = logging.getLogger("lightning.pytorch")
    level = greeter.level
    greeter.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in HARMLESS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        greeter.setLevel(level)
