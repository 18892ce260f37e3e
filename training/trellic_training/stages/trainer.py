"""Lightning's trainer as all stages use it, and a run from start or checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trellic_training.data.files import load, reading, save
from trellic_training.stages.interrupted import LAST, Interrupted
from trellic_training.stages.progress import TimeBar
from trellic_training.stages.quiet import quiet
from trellic_training.stages.stage import OWN_STATE, Stage
from trellic_training.stages.stopping import StopOnSignal


class WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint beside its place, and renames it.

    Lightning writes it to the system's temporary folder. From there it is copied over the earlier
    one, of which a full disk then leaves nothing.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; the earlier one stays if that fails."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save(checkpoint, Path(path))


def make_trainer(
    out: Path,
    *,
    steps: int | None,
    progress: bool,
    accelerator: str = "auto",
    save_every: int = 500,
    watchers: Sequence[lightning.Callback] = (),
) -> lightning.Trainer:
    """Trainer whose checkpoints (``last.ckpt``) and logs lie in a folder."""
    checkpoints = lightning.pytorch.callbacks.ModelCheckpoint(
        out, filename="last", every_n_train_steps=save_every, enable_version_counter=False
    )
    bar = [TimeBar()] if progress else []
    with quiet():
        return lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            max_steps=-1 if steps is None else steps,
            plugins=WholeCheckpoints(),
            callbacks=[checkpoints, *watchers, *bar, StopOnSignal()],
            logger=lightning.pytorch.loggers.TensorBoardLogger(str(out), name="log"),
            log_every_n_steps=25,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def run(
    trainer: lightning.Trainer,
    stage: Stage[Any, Any],
    batches: Iterable[Any],
    out: Path,
    resume: Path | None,
) -> Path:
    """Train until the stage stops; returns the newest checkpoint.

    Raises
    ------
    BadParameter
        When the checkpoint is of another stage or model.
    Interrupted
        When a signal stopped the run, which is saved then.
    KeyboardInterrupt
        When Ctrl-C stopped it before the first step, or came twice.
    """
    if resume is not None:
        check_checkpoint(resume, stage)
    final = out / LAST
    with quiet():
        try:
            trainer.fit(stage, batches, ckpt_path=resume, weights_only=True)
        except SystemExit as left:  # Lightning's answer to Ctrl-C before the first step
            raise KeyboardInterrupt from left
        trainer.save_checkpoint(final)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StopOnSignal) and callback.signum is not None:
            raise Interrupted(callback.signum, final)
    return final


def check_checkpoint(path: Path, stage: Stage[Any, Any]) -> None:
    """Read a checkpoint as Lightning will: tensors and plain values, of this stage and model.

    Raises
    ------
    BadParameter
        When it is not.
    """
    with reading(path, "cannot be resumed from"):
        content = load(path)
        if "state_dict" not in content:
            raise ValueError(f"it is no checkpoint of a run, such as {LAST}")
        own, name = content.get(OWN_STATE, {}), type(stage).__name__
        if own.get("stage", name) != name:
            raise ValueError(f"it is of the stage {own['stage']}, not {name}")
        theirs = {name: value.shape for name, value in content["state_dict"].items()}
        if theirs != {name: value.shape for name, value in stage.state_dict().items()}:
            raise ValueError("its networks differ from the recipe's")
