"""How large the code is: medians, longest modules, longest functions, most arguments.

    python -m benchmarks.rooms [--limit]

A kernel is a function that numba compiles; it is counted apart, since a call costs it registers.
Lines of a function run from ``def`` to its end, without its docstring. Of a command of typer the
body alone counts, and not its arguments, since each of them is an option of the user's; for the
same reason arguments by keyword alone do not count in the modules that people call (`CALLED`).
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("runtime", "export", "training")
KERNELS = {"njit", "kernel", "device", "intrinsic"}  # decorators
COMMANDS = {"app.command", "models_app.command"}
CALLED = {
    "runtime/trellic/__init__.py",
    "runtime/trellic/codec/encoding.py",
    "runtime/trellic/scored.py",
    "training/trellic_training/stages/decoder_training.py",
    "training/trellic_training/stages/end_to_end.py",
    "training/trellic_training/stages/quantized.py",
}
MAX_LINES, MAX_ARGUMENTS = 60, 8


@dataclass(frozen=True)
class Module:
    """A module and its length in lines."""

    path: str
    lines: int


@dataclass(frozen=True)
class Function:
    """A function, its length, and what it is."""

    path: str
    name: str
    lines: int
    arguments: int
    kernel: bool

    @property
    def faults(self) -> list[str]:
        """What is over the limit; kernels have none."""
        if self.kernel:
            return []
        found = [f"{self.lines} lines"] * (self.lines > MAX_LINES)
        return found + [f"{self.arguments} arguments"] * (self.arguments > MAX_ARGUMENTS)


def modules(root: Path) -> list[Module]:
    """All modules below the source roots that are there, with their lengths."""
    return [
        Module(str(path.relative_to(root)), len(path.read_text(encoding="utf-8").splitlines()))
        for source in SOURCES
        for path in sorted((root / source).rglob("*.py"))
    ]


def functions(root: Path) -> list[Function]:
    """All functions and methods of these modules; one inside another counts in both."""
    return [
        function
        for module in modules(root)
        for function in _functions_of(module.path, (root / module.path).read_text(encoding="utf-8"))
    ]


def _functions_of(path: str, source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {_name(decorator) for decorator in node.decorator_list}
            command = bool(decorators & COMMANDS)
            yield Function(
                path,
                node.name,
                lines=_lines(node, node.body[0].lineno if command else node.lineno),
                arguments=0 if command else _arguments(node, path not in CALLED),
                kernel=bool(decorators & KERNELS),
            )


def _name(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef, first: int) -> int:
    """Lines from the first one named to the end, without those of the docstring."""
    lines = (node.end_lineno or first) - first + 1
    if ast.get_docstring(node) is not None:
        text = node.body[0]
        lines -= (text.end_lineno or text.lineno) - text.lineno + 1
    return lines


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, by_keyword: bool) -> int:
    """Arguments as ruff's PLR0913 counts them, or without those by keyword alone."""
    named = [*node.args.posonlyargs, *node.args.args, *(node.args.kwonlyargs if by_keyword else [])]
    return len(named) - (bool(named) and named[0].arg in ("self", "cls"))


def report(root: Path, longest: int = 5) -> str:
    """The figures as Markdown tables."""
    files, all_of_them = modules(root), functions(root)
    plain = [function for function in all_of_them if not function.kernel]
    kernels = [function for function in all_of_them if function.kernel]
    rows = ["| | count | median, lines | longest, lines |", "|---|---:|---:|---:|"]
    for name, lines in (
        ("modules", [file.lines for file in files]),
        ("functions", [function.lines for function in plain]),
        ("kernels", [function.lines for function in kernels]),
    ):
        if lines:
            rows.append(f"| {name} | {len(lines)} | {statistics.median(lines):g} | {max(lines)} |")
    rows += ["", "| longest | lines |", "|---|---:|"]
    for file in sorted(files, key=lambda file: -file.lines)[:longest]:
        rows.append(f"| `{file.path}` | {file.lines} |")
    for function in sorted(plain, key=lambda function: -function.lines)[:longest]:
        rows.append(f"| `{function.path}`: `{function.name}` | {function.lines} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; with ``--limit``, fail where a function is over a limit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rooms", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="another tree of the same project")
    parser.add_argument(
        "--limit",
        action="store_true",
        help=f"fail where a function has over {MAX_LINES} lines or {MAX_ARGUMENTS} arguments",
    )
    options = parser.parse_args(arguments)
    print(report(options.root))
    over = [function for function in functions(options.root) if function.faults]
    for function in over if options.limit else ():
        faults = ", ".join(function.faults)
        print(f"error: {function.path}: {function.name} has {faults}", file=sys.stderr)
    return int(options.limit and bool(over))


if __name__ == "__main__":
    sys.exit(main())
