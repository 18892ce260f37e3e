"""Bars go to stderr, and only to a terminal."""

from __future__ import annotations

import pytest

from trellic_training.bars import shown


@pytest.mark.parametrize(("terminal", "hidden", "bar"), [(1, 0, 1), (1, 1, 0), (0, 0, 0)])
def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch, capsys, terminal, hidden, bar):
    monkeypatch.setenv("TTY_COMPATIBLE", str(terminal))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert list(shown([3, 1, 2], "counting", hidden=bool(hidden))) == [3, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("counting" in err) == bool(bar)
    assert bool(err) == bool(bar)
