"""Options are typed: a misspelt one is an error for a type checker, and help() shows each."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trellic
from trellic.codec import Codec
from trellic.pipeline.options import DecodeOptions, EncodeOptions

SNIPPET = """
import numpy as np
import trellic

image = np.zeros((8, 8, 3), np.uint8)
codec = trellic.Codec.load("photo", device="cpu")
data = trellic.encode(image, quality=60, trellis=8)
codec.encode_batch([image], quality=60)
trellic.decode(data, decoder="fast").mean()
trellic.encode(image, qualty=60)  # wrong
trellic.encode(image, trellis=7)  # wrong
trellic.encode(3)  # wrong
trellic.decode(data, decodr="fast")  # wrong
codec.encode_batch([image], qualty=60)  # wrong
codec.decode_batch([data], out="gpu")  # wrong
trellic.Codec.load("photo", device="gpu")  # wrong
"""
WRONG = [i for i, line in enumerate(SNIPPET.splitlines(), 1) if line.endswith("# wrong")]


@pytest.fixture(scope="module")
def snippet(tmp_path_factory):
    path = tmp_path_factory.mktemp("typed") / "snippet.py"
    path.write_text(SNIPPET)
    return path


def run(*command: str, cwd: Path) -> str:
    where = {"MYPYPATH": str(Path(trellic.__file__).parents[1])}
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr  # there are errors; 2 would be a fault of the checker
    return done.stdout


@pytest.mark.long
@pytest.mark.slow("mypy reads the whole package")
def test_mypy_finds_what_is_misspelt(snippet):
    pytest.importorskip("mypy")
    said = run(sys.executable, "-m", "mypy", "--strict", snippet.name, cwd=snippet.parent)
    lines = [int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line]
    assert sorted(set(lines)) == WRONG


@pytest.mark.slow("pyright reads the whole package")
def test_pyright_finds_what_is_misspelt(snippet):
    pytest.importorskip("basedpyright")
    settings = {"extraPaths": [str(Path(trellic.__file__).parents[1])]}
    (snippet.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    said = json.loads(
        run(
            *(sys.executable, "-m", "basedpyright", "--outputjson"),
            *("--pythonpath", sys.executable, snippet.name),
            cwd=snippet.parent,
        )
    )
    errors = [d for d in said["generalDiagnostics"] if d["severity"] == "error"]
    assert sorted({d["range"]["start"]["line"] + 1 for d in errors}) == WRONG


@pytest.mark.parametrize(
    ("functions", "options"),
    [
        ((trellic.encode, Codec.encode, Codec.encode_picture, Codec.encode_batch), EncodeOptions),
        (
            (
                *(trellic.decode, Codec.decode, Codec.decode_picture),
                *(Codec.decode_timed, Codec.decode_batch),
            ),
            DecodeOptions,
        ),
    ],
    ids=["encode", "decode"],
)
def test_every_way_in_has_every_option_by_name(functions, options):
    """With one default each, so that no way in drifts from the others."""
    wanted = {name: p.default for name, p in inspect.signature(options).parameters.items()}
    for function in functions:
        signature = inspect.signature(function).parameters
        own = {name: signature[name].default for name in wanted}
        assert own == wanted, function
        assert all(signature[name].kind is inspect.Parameter.KEYWORD_ONLY for name in wanted)
