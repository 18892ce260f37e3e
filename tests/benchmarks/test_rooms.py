"""What is counted, and what is over a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import rooms

SOURCE = '''
"""A module."""


def short(a, b=1, *, c=2):
    """Two lines of text,

    which do not count.
    """
    return a + b + c


@njit
def kernel({many}):
    pass


class Holder:
    def method(self, {many}):
        return 1


@app.command()
def command({many}) -> None:
    {long}


def function({few}):
    {body}
'''


def tree(root: Path, lines: int = 60, arguments: int = 8) -> Path:
    text = SOURCE.format(
        many=", ".join(f"a{i}" for i in range(arguments)),
        few=", ".join(f"a{i}" for i in range(8)),
        long="\n    ".join(["x = 1"] * 60),
        body="\n    ".join(["x = 1"] * (lines - 1)),
    )
    path = root / "runtime" / "trellic" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return root


def test_lines_and_arguments_are_counted(tmp_path: Path) -> None:
    found = {function.name: function for function in rooms.functions(tree(tmp_path))}
    assert (found["short"].lines, found["short"].arguments) == (2, 3)
    assert found["kernel"].kernel
    assert found["method"].arguments == 8
    assert (found["command"].lines, found["command"].arguments) == (60, 0)
    assert found["function"].lines == 60


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [(60, 8, []), (61, 8, ["function has 61 lines"]), (60, 9, ["method has 9 arguments"])],
)
def test_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: int, arguments: int, said: list[str]
) -> None:
    root = ["--root", str(tree(tmp_path, lines, arguments))]
    assert rooms.main([*root, "--limit"]) == bool(said)
    errors = capsys.readouterr().err.splitlines()
    assert [error.partition("a.py: ")[2] for error in errors] == said
    assert rooms.main(root) == 0
