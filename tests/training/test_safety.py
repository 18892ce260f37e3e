"""No file of weights or of a run can run code."""

from __future__ import annotations

import ast
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from trellic.errors import BadParameter
from trellic_training.cli import finetune as finetune_cli
from trellic_training.cli import train as cli
from trellic_training.cli.lock import only_run
from trellic_training.data.files import load
from trellic_training.models.compressai import read_state
from trellic_training.models.decoder_weights import load_decoder
from trellic_training.models.weights import average_of, load_weights, save_weights
from trellic_training.recipes.codec import load_quantized_recipe
from trellic_training.stages.end_to_end import train
from trellic_training.stages.interrupted import LAST
from trellic_training.stages.quantized import finetune
from trellic_training.stages.trainer import make_trainer
from trellic_training.universal.networks import Classifier

from .conftest import RECIPES

ROOT = Path(__file__).parents[2]


class Planted:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path) -> Path:
    return tmp_path / "trace"


@pytest.fixture(params=["zip", "pickle"])
def file(request, tmp_path, trace) -> Path:
    """A file as of torch.save, or a bare pickle, that holds code wherever one looks first."""
    content = {
        name: Planted(trace)
        for name in ("state_dict", "trellic_weights", "trellic_decoder", "encoder", "g_a.0.weight")
    }
    path = tmp_path / "run.ckpt"
    if request.param == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@pytest.mark.parametrize("read", [load_weights, load_decoder, read_state])
def test_weights_with_code_are_refused(read, file, trace):
    with pytest.raises(BadParameter, match=r"run.ckpt .*it holds objects that would run code"):
        read(file)
    assert not trace.exists()


def test_checkpoints_with_code_are_refused(tiny_recipe, model, packed, file, trace, tmp_path):
    quantized = load_quantized_recipe(RECIPES / "finetune-tiny.yaml")
    ways = (
        lambda: average_of(file, tiny_recipe.model),
        lambda: train(tiny_recipe, packed, tmp_path, 1, resume=file, steps=1, progress=False),
        lambda: finetune(
            quantized, model, packed, tmp_path, 1, resume=file, steps=1, progress=False
        ),
    )
    for way in ways:
        with pytest.raises(BadParameter, match=r"run.ckpt .*it holds objects that would run code"):
            way()
        assert not trace.exists()


@pytest.mark.slow("trains, to have a checkpoint")
def test_code_in_an_honest_checkpoint_is_found_too(tiny_recipe, packed, trace, tmp_path):
    """Whatever of it Lightning would look at."""
    checkpoint = train(tiny_recipe, packed, tmp_path, 1, steps=1, progress=False)
    content = torch.load(checkpoint, weights_only=True)
    for name in ("callbacks", "loops", "optimizer_states", "new"):
        torch.save(content | {name: Planted(trace)}, checkpoint)
        with pytest.raises(BadParameter, match="it holds objects that would run code"):
            train(tiny_recipe, packed, tmp_path, 1, resume=checkpoint, steps=2, progress=False)
        assert not trace.exists()


def test_models_of_a_report_with_code_are_refused(file, tmp_path, trace, monkeypatch):
    from trellic_training.universal.run import Work

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "classifier.pt").write_bytes(file.read_bytes())
    work = Work.__new__(Work)
    work.out = tmp_path
    with pytest.raises(BadParameter, match="holds no model of this report"):
        work._classifier()
    assert not trace.exists()
    torch.save(Classifier().state_dict(), tmp_path / "models" / "classifier.pt")
    assert isinstance(work._classifier(), Classifier)


@pytest.mark.slow("every command that loads runs")
def test_nothing_loads_pickles():
    """In every source: torch.load says weights_only=True, Lightning too, pickle is not used."""
    faults = []
    for path in (
        p for part in ("training", "export", "benchmarks") for p in (ROOT / part).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            words = {word.arg: word.value for word in node.keywords}
            name = ast.unparse(node.func)
            safe = (
                isinstance(words.get("weights_only"), ast.Constant) and words["weights_only"].value
            )
            if name == "torch.load" and not safe:
                faults.append(f"{path.name}:{node.lineno} {name}")
            if name.endswith("trainer.fit") and "ckpt_path" in words and not safe:
                faults.append(f"{path.name}:{node.lineno} {name}")
            own = "pickle.dumps" in ast.unparse(node)  # what was pickled in the same breath
            if name in ("pickle.load", "pickle.loads", "joblib.load") and not own:
                faults.append(f"{path.name}:{node.lineno} {name}")
    assert faults == []


# ---- full disks ----


def test_a_full_disk_is_named_and_leaves_the_weights_before(model, tmp_path, full_disk):
    """torch raised its own RuntimeError, and a part of the file stayed."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"before")
    with full_disk(), pytest.raises(OSError, match=r"weights\.pt"):
        save_weights(model, {}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]
    assert path.read_bytes() == b"before"


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, full_disk):
    """Lightning writes to /tmp, and copied over the earlier checkpoint from there."""
    path = tmp_path / LAST
    path.write_bytes(b"before")
    trainer = make_trainer(tmp_path, steps=1, progress=False, accelerator="cpu")
    content = {"state_dict": {"a": torch.ones(1000)}}
    with full_disk(), pytest.raises(OSError, match=LAST):
        trainer.strategy.save_checkpoint(content, path)
    assert [file.name for file in tmp_path.iterdir()] == [LAST]
    assert path.read_bytes() == b"before"
    trainer.strategy.save_checkpoint(content, path)
    assert load(path)["state_dict"]["a"].sum() == 1000


# ---- wrong and missing files, by name ----


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, r"run.ckpt cannot be resumed from \(.*No such file"),
        (lambda path: path.write_bytes(b""), r"run.ckpt cannot be resumed from \("),
        (lambda path: path.write_text("Dear diary"), r"run.ckpt .*no file of torch.save"),
        (
            lambda path: torch.save({"a": 1}, path),
            r"run.ckpt cannot be resumed from \(it is no checkpoint of a run, such as last.ckpt",
        ),
        (
            lambda path: torch.save(
                {"state_dict": {}, "trellic": {"stage": "QuantizedStage"}}, path
            ),
            "it is of the stage QuantizedStage, not EndToEnd",
        ),
        (
            lambda path: torch.save({"state_dict": {"a": torch.ones(1)}}, path),
            "its networks differ from the recipe's",
        ),
    ],
)
def test_what_cannot_be_resumed_from_is_named(make, fault, tiny_recipe, packed, tmp_path):
    path = tmp_path / "run.ckpt"
    make(path)
    with pytest.raises(BadParameter, match=fault):
        train(tiny_recipe, packed, tmp_path, 1, resume=path, steps=1, progress=False)


def test_damaged_weights_are_called_damaged(model, tmp_path):
    """Torch speaks of miniz, of Errno 22 and of its own names for layers."""
    path = tmp_path / "weights.pt"
    save_weights(model, {}, path)
    whole, content = path.read_bytes(), load(path)
    for length in (100, 5000, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(BadParameter, match=r"checkpoint \(it is damaged, such as cut off\)"):
            load_weights(path)
    content["state"][next(iter(content["state"]))] = torch.ones(2)
    torch.save(content, path)
    with pytest.raises(BadParameter, match="its networks have other layers or sizes"):
        load_weights(path)


def test_a_checkpoint_in_place_of_weights_leads_to_them(tmp_path):
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.5"}, tmp_path / LAST)
    with pytest.raises(BadParameter, match=r"for --resume; name the \.pt file of that run"):
        load_weights(tmp_path / LAST)
    (tmp_path / "weights.pt").touch()
    with pytest.raises(BadParameter, match=r"for --resume; name .*/weights\.pt"):
        load_weights(tmp_path / LAST)


def test_photos_that_are_missing_or_damaged_are_named(tmp_path):
    def run(photos: Path) -> None:
        arguments = ["tiny", "--photos", photos, "--out", tmp_path / "out", "--minutes", "0.01"]
        cli.main([*map(str, arguments)])

    with pytest.raises(BadParameter, match=r"no folder '.*nowhere'; expected a folder of photos"):
        run(tmp_path / "nowhere")
    packed = tmp_path / "packed"
    packed.mkdir()
    whole = {"source": ".", "name": "a", "offset": 0, "height": 9, "width": 9, "validation": False}
    (packed / "photos.bin").write_bytes(bytes(9 * 9 * 3 - 1))
    for text in ("", "[]", '[{"name": "a"}]', "{}", "3", json.dumps([whole])):
        (packed / "photos.json").write_text(text)
        with pytest.raises(BadParameter, match=r"packed (is not a folder of packed|has no photo)"):
            run(packed)


def test_weights_of_another_model_are_named(tiny_recipe, tiny_config, model, packed, tmp_path):
    other = tiny_config.model_copy(update={"wide": 2 * tiny_config.wide})
    settings = tiny_recipe.model_copy(update={"model": other})
    path = tmp_path / "other.pt"
    save_weights(model, {}, path)
    fault = r"other.pt cannot be resumed from \(the weights' model differs"
    with pytest.raises(BadParameter, match=fault):
        train(settings, packed, tmp_path, 1, resume=path, steps=1, progress=False)


@pytest.mark.parametrize("main", [cli.main, finetune_cli.main])
def test_two_runs_at_a_time_do_not_share_a_folder(main, packed, tmp_path):
    """Both succeeded, and the weights of one were lost."""
    out = tmp_path / "runs" / "a"
    weights = ["--weights", str(packed / "none.pt")] if main is finetune_cli.main else []
    words = ["finetune-tiny" if weights else "none", "--photos", str(packed), *weights]
    with only_run(out), pytest.raises(BadParameter, match=r"another run is writing to .*--out"):
        main([*words, "--out", str(out)])
    assert not (tmp_path / "runs").exists()
    with pytest.raises(BadParameter, match="none"):  # the lock is free again
        main([*words, "--out", str(out)])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_a_new_run_does_not_replace_an_earlier_one(command, packed, tmp_path):
    """An hour of training was lost when somebody repeated the command."""
    (tmp_path / LAST).write_bytes(b"an hour")
    weights = ["--weights", str(packed / "none.pt")] if command == "finetune" else []
    place = ["--photos", str(packed), "--out", str(tmp_path), "--minutes", "0.01", *weights]
    own = [] if command == "train" else ["--weights", str(tmp_path / "first-stage.pt")]
    for more in ([], own, ["--resume", str(packed / LAST)]):
        main = {"train": cli.main, "finetune": finetune_cli.main}[command]
        with pytest.raises(BadParameter, match=r"weights of an earlier run.*--resume"):
            main(["finetune-tiny" if weights else "tiny", *place, *more])
    assert (tmp_path / LAST).read_bytes() == b"an hour"
