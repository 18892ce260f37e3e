"""The runner of cases: what passes, what fails, what has no check."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import cases


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    def run():
        monkeypatch.setattr(sys, "argv", ["cases", "--cases", str(tmp_path)])
        return cases.main(), capsys.readouterr().out

    return run


def test_a_check_passes_or_fails_by_its_inputs(run, tmp_path):
    folder = tmp_path / "07-transparency"
    folder.mkdir()
    grey = Image.fromarray(np.tile(np.uint8([0, 0, 200, 90]), (4, 1)))
    grey.save(folder / "grey8.png", transparency=0)
    code, out = run()
    assert code == 0
    assert "grey8 50% clear" in out
    grey.save(folder / "grey8.png", transparency=7)
    code, out = run()
    assert code == 1
    assert out.startswith("FAIL  07-transparency")


def test_a_folder_without_a_check_is_told(run, tmp_path):
    (tmp_path / "99-new").mkdir()
    assert run() == (2, "?     99-new: no check\n")
