"""What one training step asks of a device: operators, bytes, questions of the host.

Run ``python -m benchmarks.train_step`` from the repository's root; no GPU is needed. One step of a
recipe runs on the CPU with a batch of one crop, and all that PyTorch does is counted, but no views.
An operator is about one launch on a GPU. Bytes are those of all tensors that an operator reads or
writes; they grow with the batch, operators do not. On a GPU, SOAP takes Cholesky factors in place
of QR, so that is what is counted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks._machine import REPOSITORY
from benchmarks._rows import Report
from trellic_training.losses.reference import read_reference
from trellic_training.optimizers import soap
from trellic_training.recipes.codec import load_recipe
from trellic_training.stages.end_to_end import Clock, EndToEnd

RESULT = Path(__file__).parent / "results" / "train-step.json"
RECIPES = REPOSITORY / "training" / "trellic_training" / "recipes"
RECIPES_COUNTED = ("photo-eye-gpu", "photo")
ASKS = ("_local_scalar", "nonzero", "lift_fresh")  # a GPU's host waits in these


class Counted(TorchDispatchMode):
    """Counts operators, the bytes that they touch, and what waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if any(name in str(function) for name in ASKS):
            self.found["reads"] += 1
        elif not function.is_view and "detach" not in str(function):
            self.found["operators"] += 1
            touched = tree_leaves((args, kwargs, result))
            self.found["bytes"] += sum(t.nbytes for t in touched if isinstance(t, torch.Tensor))
        return result


def counts(recipe_name: str, crop: int) -> dict[str, dict[str, int]]:
    """Return the counts of each part of a step, in order."""
    recipe = load_recipe(RECIPES / f"{recipe_name}.yaml")
    torch.manual_seed(0)
    module = EndToEnd(recipe, Clock(1))
    module.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    if recipe.distortion.needs_reference:
        module.distortion.follow(read_reference(Path(recipe.distortion.reference)))
    optimizer: Any = module.configure_optimizers()
    batch = torch.randint(0, 256, (1, crop, crop, 3), dtype=torch.uint8)
    found: dict[str, dict[str, int]] = {}

    def count(part: str, work: Any) -> Any:
        with Counted() as counted:
            result = work()
        found[part] = dict(counted.found)
        return result

    with patch.object(soap, "_renewed", soap.orthonormal):
        module.training_step(batch, 0).backward()
        optimizer.step()  # constants are sent and states made in the first step
        optimizer.zero_grad()
        loss = count("forward", lambda: module.training_step(batch, 0))
        count("backward", loss.backward)
        count("clipping", lambda: module.on_before_optimizer_step(optimizer))
        count("optimizer", optimizer.step)
        for group in optimizer.param_groups:
            group["every"] = 1
        count("optimizer, new bases", optimizer.step)
        count("average", lambda: module.ema.update(module.model))
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="What one training step asks of a device.")
    parser.add_argument("--recipes", nargs="+", default=RECIPES_COUNTED)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    report = Report(options.out, {"crop": options.crop, "torch": torch.__version__})
    for name in options.recipes:
        for part, row in counts(name, options.crop).items():
            report.add("parts", {"recipe": name, "part": part, **row})
            print(report.content["parts"][-1], flush=True)


if __name__ == "__main__":
    main()
