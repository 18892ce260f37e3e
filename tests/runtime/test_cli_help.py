"""Help: examples and topics, without the packages of extras, and what to install for them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from trellic.cli import topics
from trellic.errors import MissingExtra
from trellic.support import installed

WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "lightning", "yaml", "pytorch_msssim"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from trellic.cli import main
for arguments in sys.argv[1].split(";"):
    sys.argv = ["trellic", *arguments.split()]
    try:
        main()
    except SystemExit as left:
        print("exit", left.code)
"""


def flat(text):
    return re.sub(r"[\s│]+", " ", text)


def test_help_of_commands_with_extras_works_without_them():
    """And says what to install; a wrong call is told of first, a right one names the package."""
    calls = [
        "train -h",
        "finetune --help",
        "finetune x --add-decoder fast --help",
        "export --help",
        "train photo",
        "train photo --photos a --out b",
    ]
    run = [sys.executable, "-c", WITHOUT_EXTRAS, ";".join(calls)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    out = flat(done.stdout)
    assert re.findall(r"exit (\w+)", out) == ["0", "0", "0", "0", "2", "1"]
    assert out.count("[training]'") == 2
    assert out.count("[export]'") == 2
    assert "one of: cifar, classifier-cifar, judge-cifar, mnist_universal, mnist_univ" in out
    assert "one of: decoders, decoders-cifar, decoders-cut, decoders-eye" in out
    for name in ("train", "finetune", "add-decoder", "export"):
        assert topics.EXAMPLES[name][0] in out
    assert "a recipe needs a folder of photos" in flat(done.stderr)
    assert "error: trellic train needs the package 'torch'" in done.stderr


@pytest.mark.parametrize(
    "command", ["encode", "decode", "transcode", "info", "models", "bench", "compare"]
)
def test_help_shows_examples(trellic, command):
    out = flat(trellic(command, "--help").out)
    for example in topics.EXAMPLES[command]:
        assert example in out


def test_help_of_transcode_has_no_default_quality(trellic):
    out = flat(trellic("transcode", "--help").out)
    assert "Give this or --max-bytes." in out
    assert "default 75" not in out
    assert trellic("transcode", "a.tlc", "b.tlc").code == 2


@pytest.mark.parametrize("command", ["serve", "batch"])
def test_help_of_services_shows_examples(trellic, command):
    pytest.importorskip("fastapi" if command == "serve" else "fsspec")
    out = flat(trellic(command, "--help").out)
    for example in topics.EXAMPLES[command]:
        assert example in out


def test_examples_fit_a_terminal():
    lines = [line for text in topics.TOPICS.values() for line in text.splitlines()]
    assert max(map(len, [*lines, *sum(topics.EXAMPLES.values(), ())])) <= 88


def test_help_on_topics_and_commands(trellic):
    overview = trellic("help").out
    for name in topics.TOPICS:
        assert name in overview
        assert trellic("help", name).out.strip() == topics.TOPICS[name]
    assert "Usage: trellic encode" in trellic("help", "encode").out
    assert "[RECIPE" in trellic("help", "train").out or "RECIPE" in trellic("help", "train").out
    wrong = trellic("help", "qualty")
    assert wrong.code == 2
    assert "did you mean 'quality'" in flat(wrong.err)


@pytest.mark.parametrize(
    ("words", "expected"), [("trellic enc", "encode"), ("trellic encode --mod", "--model")]
)
def test_shells_complete(words, expected):
    parts = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    env = {**os.environ, "_TRELLIC_COMPLETE": "complete_bash", **parts}
    run = [sys.executable, "-m", "trellic"]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    assert expected in done.stdout


def test_shells_complete_models_and_decoders():
    from trellic.cli import options

    assert "photo" in options._models()
    assert {"fast", "quality"} <= set(options._decoders())


# ---- how an extra is installed ----


def test_from_a_clone(monkeypatch, tmp_path):
    clone = tmp_path / "a clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    monkeypatch.setattr(installed, "_ROOT", clone)
    assert installed.install_command("training") == f"pip install -e '{clone}[training]'"
    assert f"pip install -e '{clone}[cpu]'" in str(MissingExtra.of("numba", "cpu", "a"))


def from_origin(monkeypatch, tmp_path, origin):
    class Distribution:
        def read_text(self, name):
            assert name == "direct_url.json"
            return origin

    monkeypatch.setattr(installed, "_ROOT", tmp_path / "site-packages")
    monkeypatch.setattr(installed.importlib.metadata, "distribution", lambda name: Distribution())
    return installed.install_command("export")


def test_installed_from_a_folder(monkeypatch, tmp_path):
    origin = json.dumps({"url": tmp_path.as_uri(), "dir_info": {}})
    (tmp_path / "pyproject.toml").touch()
    assert from_origin(monkeypatch, tmp_path, origin) == f"pip install -e '{tmp_path}[export]'"
    assert installed.install_command("score") == f"pip install '{tmp_path}[score]'"


@pytest.mark.parametrize("origin", [None, "{}", "no JSON", '{"url": "https://example.org/a.whl"}'])
def test_installed_from_an_index(monkeypatch, tmp_path, origin):
    assert from_origin(monkeypatch, tmp_path, origin) == "pip install 'trellic[export]'"
