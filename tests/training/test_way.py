"""The trainer's way: bar and estimate, signals, quiet, what is kept."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console

from trellic.errors import BadParameter
from trellic.model.bundle import Bundle, find
from trellic_export.family import decoder_of
from trellic_training.cli import adapt
from trellic_training.cli import finetune as finetune_cli
from trellic_training.cli import train as cli
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.decoder_weights import save_decoder, state_of_synthesis
from trellic_training.models.weights import load_weights, save_weights
from trellic_training.recipes.codec import load_quantized_recipe
from trellic_training.stages import progress
from trellic_training.stages.end_to_end import train
from trellic_training.stages.interrupted import Interrupted
from trellic_training.stages.progress import TimeBar, estimate, spell, too_short

SLOW = """
import sys
from pathlib import Path
from trellic_training.cli import train
code = train.main(["tiny", "--photos", sys.argv[1], "--out", sys.argv[2], "--minutes", "10"])
sys.exit(code)
"""


@pytest.mark.long
@pytest.mark.slow("a process that trains is stopped by a signal")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_before_the_run_ends_and_it_can_go_on(signum, packed, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", SLOW, str(packed), str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes)
    assert "measuring" in run.stderr.readline()
    time.sleep(1)
    run.send_signal(signum)
    printed, said = run.communicate(timeout=60)
    assert run.returncode == 128 + signum, said
    assert f"stopped by {signal.Signals(signum).name}; continue with --resume" in said
    assert "stopping after this step" in said
    assert "error" not in said.lower()
    content = torch.load(out / "last.ckpt", weights_only=True)
    _, facts = load_weights(out / "weights.pt")
    assert facts["steps"] == content["global_step"] > 0
    assert 0 < facts["share"] < 0.5
    for foreign in ("litlogger", "LeafSpec", "GPU available", "Epoch", "--:--", "Tip"):
        assert foreign not in printed + said


@pytest.mark.slow("trains, and is stopped")
def test_a_run_from_python_that_is_stopped_says_what_to_go_on_from(tiny_recipe, packed, tmp_path):
    import lightning

    if threading.current_thread() is not threading.main_thread():
        pytest.skip("NOT RUN: signals are taken over in the main thread alone")

    class Send(lightning.Callback):
        sent = False  # a second signal would end this process at once

        def on_train_batch_end(self, *args: object) -> None:
            if not self.sent:
                self.sent = True
                taken_over = signal.getsignal(signal.SIGTERM)
                taken_over(signal.SIGTERM, None)  # a real one: test_a_signal_... in a process

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"SIGTERM; continue with --resume .*last.ckpt") as stop:
        train(tiny_recipe, packed, tmp_path, 5, progress=False, watchers=[Send()])
    assert torch.load(stop.value.checkpoint, weights_only=True)["global_step"] == 1
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# ---- bar and estimate ----


def stage_of(seconds: float, share: float, warmup: int = 10) -> SimpleNamespace:
    clock = SimpleNamespace(seconds=seconds, share=lambda: share)
    return SimpleNamespace(clock=clock, recipe=SimpleNamespace(warmup_steps=warmup))


def test_the_estimate_counts_what_is_left():
    said = estimate(stage_of(3600, 0.25), 100, 2.0)
    assert said == "2 steps a second: about 5,500 steps in 1 h 0 min"


def test_a_run_that_is_too_short_is_told_what_would_do():
    assert too_short(stage_of(60, 1.0), 100, 1.0) is None
    said = too_short(stage_of(60, 1.0), 99, 0.5)
    assert said == (
        "99 steps are too few to be of use: the warm-up alone takes 10; try --minutes 4"
    )
    assert "too few" in estimate(stage_of(60, 0.5), 3, 0.5)


def test_times_in_words():
    assert [spell(minutes) for minutes in (0.5, 42.2, 75, 600)] == [
        "30 s", "42 min", "1 h 15 min", "10 h 0 min",
    ]  # fmt: skip


@pytest.mark.parametrize("terminal", [False, True])
def test_bar_and_lines_show_share_step_and_time_left(terminal, monkeypatch):
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.value)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, highlight=False, markup=False)
    bar = TimeBar(console)
    stage = stage_of(600, 0.0)
    stage.shown = {"loss": None}
    trainer = SimpleNamespace(global_step=0, callback_metrics={"loss": 1.23456, "z_share": 1})
    for _ in range(130):
        now.value += 1
        trainer.global_step += 1
        stage.clock.share = lambda: now.value / 600
        bar.on_train_batch_end(trainer, stage)
    bar.on_train_end(trainer, stage)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "1 steps a second: about 600 steps in 10 min" in text
    assert "loss 1.235" in text
    assert "z_share" not in text
    assert "8 min left" in text
    if not terminal:
        assert text.count("left") == 2  # a line a minute
        assert " 10%  step 60" in text
    assert "warning" not in text


@pytest.mark.slow("the command trains")
def test_the_command_warns_of_a_short_run_and_leaves_a_curve(photos, tmp_path, capfd, monkeypatch):
    out = tmp_path / "run"
    arguments = ["tiny", "--photos", photos, "--out", out, "--minutes", "0.01"]
    assert cli.main([*map(str, arguments)]) == 0
    said = capfd.readouterr().err
    assert "too few to be of use: the warm-up alone takes 50" in said
    for foreign in ("litlogger", "LeafSpec", "GPU available", "Epoch", "--:--"):
        assert foreign not in said


# ---- what is kept ----


@pytest.mark.slow("the second stage runs")
def test_finetuning_keeps_what_it_started_from(model, photos, tmp_path):
    weights, out = tmp_path / "first.pt", tmp_path / "run"
    save_weights(model.eval(), {"steps": 1}, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    run = ["--photos", str(photos), "--out", str(out), "--minutes", "0.01"]
    assert finetune_cli.main(["finetune-tiny", "--weights", str(weights), *run]) == 0
    assert (out / "first-stage.pt").read_bytes() == weights.read_bytes()
    _, facts = load_weights(out / "weights.pt")
    assert facts["finetuning"]["started_from"] == {"file": "first.pt", "sha256": digest}
    # tuned again: the first stage's weights stay
    tuned = hashlib.sha256((out / "weights.pt").read_bytes()).hexdigest()
    assert finetune_cli.main(["finetune-tiny", "--weights", str(out / "weights.pt"), *run]) == 0
    assert (out / "first-stage.pt").read_bytes() == weights.read_bytes()
    _, facts = load_weights(out / "weights.pt")
    assert facts["finetuning"]["started_from"]["sha256"] == tuned


def test_a_checkpoint_that_is_refused_leaves_no_copy_of_the_weights(model, photos, tmp_path):
    weights, wrong, out = tmp_path / "first.pt", tmp_path / "wrong.ckpt", tmp_path / "run"
    save_weights(model.eval(), {"steps": 1}, weights)
    torch.save({"state_dict": {}}, wrong)
    run = ["--photos", photos, "--out", out, "--weights", weights, "--resume", wrong]
    with pytest.raises(BadParameter, match="networks differ"):
        finetune_cli.main(["finetune-tiny", *map(str, run)])
    assert not (out / "first-stage.pt").exists()


@pytest.mark.slow("the second stage runs")
def test_finetuning_goes_on_from_a_decoder(model, photos, tmp_path):
    save_weights(model.eval(), {}, tmp_path / "first.pt")
    with torch.no_grad():
        for value in model.g_s.parameters():
            value += 0.25
    save_decoder(decoder_of(model, {}), tmp_path / "decoder.pt")
    given = ["--weights", str(tmp_path / "first.pt"), "--decoder", str(tmp_path / "decoder.pt")]
    run = ["--photos", str(photos), "--out", str(tmp_path / "run"), "--minutes", "0.01"]
    assert finetune_cli.main(["finetune-tiny", *given, *run]) == 0
    made, facts = load_weights(tmp_path / "run" / "weights.pt")
    ours = zip(made.g_s.parameters(), model.g_s.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=0.1) for a, b in ours)
    assert facts["finetuning"]["started_from"]["file"] == "decoder.pt"
    first = (tmp_path / "run" / "first-stage.pt").read_bytes()
    assert first == (tmp_path / "first.pt").read_bytes()


def test_training_names_what_it_started_from(model, photos, tmp_path):
    weights = tmp_path / "first.pt"
    save_weights(model, {}, weights)
    run = ["tiny", "--photos", str(photos), "--out", str(tmp_path / "run"), "--minutes", "0.01"]
    assert cli.main([*run, "--resume", str(weights)]) == 0
    _, facts = load_weights(tmp_path / "run" / "weights.pt")
    assert facts["started_from"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "command"),
    [("finetune", "trellic finetune"), ("decoders", "trellic finetune --add-decoder")],
)
def test_a_recipe_of_another_kind_is_named(name, command, photos, tmp_path):
    with pytest.raises(BadParameter, match=rf"{name}.yaml: .*looks like a recipe for {command}$"):
        cli.main([name, "--photos", str(photos), "--out", str(tmp_path)])


def test_what_finetuning_cannot_start_from_is_named(model, photos, tmp_path):
    save_weights(model, {}, tmp_path / "first.pt")
    run = ["--photos", str(photos), "--out", str(tmp_path)]
    with pytest.raises(BadParameter, match=r"photo.yaml: .*looks like a recipe for trellic train$"):
        finetune_cli.main(["photo", "--weights", str(tmp_path / "first.pt"), *run])
    with pytest.raises(BadParameter, match=r"none.pt is not a Trellic checkpoint \(.*No such file"):
        finetune_cli.main(["finetune-tiny", "--weights", str(tmp_path / "none.pt"), *run])


@pytest.mark.slow("the command trains and exports")
def test_a_folder_alone_adapts_the_model_that_ships(model, photos, tmp_path, monkeypatch, capsys):
    save_weights(model.eval(), {}, tmp_path / "shipped.pt")
    with torch.no_grad():
        for value in model.g_s.parameters():
            value += 0.25
    save_decoder(decoder_of(model, {}), tmp_path / "decoder.pt")
    monkeypatch.setattr(adapt, "SHIPPED", tmp_path / "shipped.pt")
    monkeypatch.setattr(adapt, "SHIPPED_DECODER", tmp_path / "decoder.pt")
    monkeypatch.setattr(adapt, "RECIPE", "finetune-tiny")
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(photos), "--minutes", "0.01", "--out", "runs/My Shop"]) == 0
    printed = capsys.readouterr().out
    assert "trellic export 'runs/My Shop/weights.pt' my-shop.zip --photos 'runs/My " in printed
    assert f"--decoder fast={adapt.CHECKPOINTS / 'photo-fast.pt'}" in printed
    assert re.search(r"^(gain on the \d+ pictures|no picture was set aside)", printed, re.M)
    _, facts = load_weights(tmp_path / "runs" / "My Shop" / "weights.pt")
    assert facts["finetuning"]["started_from"]["file"] == "decoder.pt"
    first = tmp_path / "runs" / "My Shop" / "first-stage.pt"
    assert first.read_bytes() == (tmp_path / "shipped.pt").read_bytes()
    monkeypatch.setattr(adapt, "SHIPPED", tmp_path / "none.pt")
    with pytest.raises(BadParameter, match=r"part of a clone.*pip install -e '/.*\[export\]'$"):
        cli.main([str(photos), "--out", "runs/Other"])


def test_the_weights_that_are_adapted_are_those_of_the_shipped_model():
    """In a clone, which is where tests run. They are the decoder's that the bundle has."""
    assert cli.shipped_recipe(cli.Path(adapt.RECIPE)).is_file()
    first, _ = load_weights(adapt.SHIPPED)
    start = copy.deepcopy(first)
    start.g_s.load_state_dict(state_of_synthesis(adapt.SHIPPED_DECODER, start))
    shipped = Bundle(find("photo"))
    graph = onnx.load_from_string(shipped.graph(shipped.manifest.decoders["quality"].graph))
    stored = [numpy_helper.to_array(each) for each in graph.graph.initializer]
    for model, same in ((start, True), (first, False)):
        weight = model.g_s.state_dict()["0.trunk.0.weight"].numpy()
        close = [np.allclose(e, weight, atol=1e-4) for e in stored if e.shape == weight.shape]
        assert any(close) == same
    recipe = load_quantized_recipe(cli.shipped_recipe(cli.Path(adapt.RECIPE)))
    found = adapt.shipped_tables(start, recipe)
    assert np.array_equal(found.freqs, shipped.tables.freqs)  # so tables need not be fitted
    assert adapt.shipped_tables(start, recipe.model_copy(update={"trellis_step": 20})) is None
    with torch.no_grad():
        start.h_s[0].bias += 1.0
    assert adapt.shipped_tables(start, recipe) is None
    for name in adapt.OTHER_DECODERS:
        assert (adapt.CHECKPOINTS / f"photo-{name}.pt").is_file()


def test_what_is_no_folder_and_no_recipe_is_one_error(tmp_path):
    with pytest.raises(
        BadParameter,
        match=r"no file or folder 'phots', and no shipped .* name; shipped",
    ):
        cli.main(["phots"])


def test_a_folder_that_changed_since_it_was_packed_is_noticed(photos, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(photos, folder)
    packed = cli.packed_photos(folder, tmp_path)
    assert cli.packed_photos(folder, tmp_path) == packed
    (folder / "wave-9.png").write_bytes((folder / "wave-0.png").read_bytes())
    with pytest.raises(BadParameter, match=r"'.*mine' have changed .*; name another .*--out, or"):
        cli.packed_photos(folder, tmp_path)
    shutil.rmtree(packed)  # the remedy
    assert len(PackedPhotos(cli.packed_photos(folder, tmp_path)).training) == 4  # one set aside
    with pytest.raises(BadParameter, match=r"no folder '.*gone'"):
        cli.packed_photos(tmp_path / "gone", tmp_path)


def test_ctrl_c_before_the_first_step_says_that_nothing_was_saved(
    photos, tmp_path, monkeypatch, capsys
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trellic_training.stages.end_to_end.EndToEnd.on_fit_start", interrupted)
    run = ["tiny", "--photos", str(photos), "--out", str(tmp_path / "run"), "--minutes", "1"]
    assert cli.main(run) == 130
    assert "stopped at once" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.ckpt").exists()
