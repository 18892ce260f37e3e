"""What is given to commands that export: refused before long work, not ignored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic_export import cli, family_cli
from trellic_export.adapters import cli as adapt
from trellic_export.distill import cli as distill
from trellic_export.target import target_of
from trellic_training.models.weights import save_weights

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny.zip"


def refused(*words):
    with pytest.raises(BadParameter) as raised:
        cli.main([str(word) for word in words])
    return str(raised.value)


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (["--fp16", "--decoder", "fast=fast.pt"], "--decoder for this export"),
        (["--fp16", "--int8-graphs", "g_a"], "--int8-graphs for this export"),
        (["--fp16", "--licence", "MIT", "--skip-index", "5"], "--licence, --skip-index for"),
        (["--fp16", "--photos", "there", "--count", "3"], "--photos, --count for this export"),
        (["--only", "quality", "--int8-graphs", "g_a"], "--int8-graphs with --only"),
        (["--only", "quality", "--int8", "--photos", "there"], "--photos, --int8 with --only"),
        (["--triton", "there", "--max-size", "512"], "--max-size with --triton"),
        (["--web", "there", "--count", "3"], "--count with --web"),
    ],
)
def test_options_that_nothing_would_use_are_refused(words, unused, tmp_path):
    said = refused(TINY, tmp_path / "a.zip", *words)
    assert sorted(re.findall(r"--[a-z0-9-]+", unused)) == sorted(re.findall(r"--[a-z0-9-]+", said))
    assert said.endswith("which does not use it; leave it out")
    assert not list(tmp_path.iterdir())


def test_graphs_in_8_bits_need_int8_for_weights_too(tmp_path):
    said = refused(tmp_path / "weights.pt", tmp_path / "a.zip", "--int8-graphs", "g_a")
    assert said.startswith("--int8-graphs for this export, which does not use it")


def test_a_bundle_without_a_job_is_not_called_broken_weights(tmp_path):
    said = refused(TINY, tmp_path / "a.zip", "--photos", tmp_path)
    assert said.endswith(
        "without a job; expected weights, or with a bundle --int8, --fp16 or --only"
    )


def test_a_decoder_of_another_encoder_is_refused_before_the_export(model, photos, tmp_path):
    """The bundle was written first, over one that was there, and lacked the decoder."""
    out = tmp_path / "a.zip"
    out.write_bytes(b"before")
    save_weights(model, {}, tmp_path / "weights.pt")
    fast = ROOT / "training" / "checkpoints" / "photo-fast.pt"
    words = [tmp_path / "weights.pt", out, "--photos", photos, "--decoder", f"fast={fast}"]
    words.append("--replace")
    assert "was trained on latents of encoder" in refused(*words)
    assert out.read_bytes() == b"before"


def test_ctrl_c_is_no_success(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trellic_export.slim.slim", stop)
    assert cli.main([str(TINY), str(tmp_path / "a.zip"), "--only", "quality"]) == 130
    assert "stopped at once: the export is not complete" in capsys.readouterr().err


def test_the_place_of_a_result_is_checked_before_long_work(tmp_path):
    """An adapter was trained, and then could not be written."""
    out = tmp_path / "new" / "own.tla"
    assert target_of("adapter", "own", out, ".tla", False) == out
    assert out.parent.is_dir()
    (tmp_path / "folder.tla").mkdir()
    with pytest.raises(IsADirectoryError):
        target_of("adapter", "own", tmp_path / "folder.tla", ".tla", False)
    (tmp_path / "gone.tla").symlink_to(tmp_path / "missing" / "own.tla")
    with pytest.raises(FileNotFoundError):
        target_of("adapter", "own", tmp_path / "gone.tla", ".tla", False)
    (tmp_path / "round.tla").symlink_to(tmp_path / "round.tla")
    with pytest.raises(OSError, match="symbolic links"):
        target_of("adapter", "own", tmp_path / "round.tla", ".tla", False)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        target_of("adapter", "own", tmp_path / "file" / "own.tla", ".tla", False)


def test_a_file_that_exists_is_replaced_only_if_that_is_wanted(tmp_path):
    out = tmp_path / "own.zip"
    out.write_bytes(b"an hour")
    for name in ("weights.pt", "own.tla", "own.new-fast.pt"):
        (tmp_path / name).touch()
    decoder = ["decoders-tiny", "--add-decoder", "fast", "--bundle", TINY, "--photos", tmp_path]
    for main, words in (
        (cli.main, [TINY, out, "--only", "quality"]),
        (cli.main, [TINY, out, "--fp16"]),
        (cli.main, [tmp_path / "weights.pt", out, "--photos", tmp_path]),
        (adapt.main, [tmp_path, "--name", "own", "--out", tmp_path / "own.tla"]),
        (distill.main, [tmp_path, "--name", "own", "--out", out]),
        (family_cli.main, [*decoder, "--out", out]),
        (family_cli.main, [*decoder, "--out", tmp_path / "own.new.zip"]),
    ):
        with pytest.raises(BadParameter, match=r"exists already; .* or add --replace$"):
            main([str(word) for word in words])
    assert out.read_bytes() == b"an hour"
    assert cli.main([str(TINY), str(out), "--only", "quality", "--replace"]) == 0
    assert Bundle(out).manifest.name == "own"
