"""Break the code in many small ways, and count the ways that no test notices (mutmut).

::

    python -m benchmarks.mutants FILE...     # modules of tests/mutants.toml; all if none is named
    python -m benchmarks.mutants --report    # what the record says, survivors with their reasons
    python -m benchmarks.mutants --changed main    # the scores of modules that a branch changed

A mutant is one function with one thing changed: a sign, a constant, a name left out. The tests that
tests/mutants.toml pairs with its module either fail (it is killed) or pass (it survives).
Results go to benchmarks/results/mutants.json, module by module.

mutmut mutates plain functions. It leaves alone what has a decorator, so compiled kernels, and
constants of modules. A kernel is held by tests of equality with its plain reference, which is
mutated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.rooms import ROOT

TABLE: Final = ROOT / "tests" / "mutants.toml"
RECORD: Final = ROOT / "benchmarks" / "results" / "mutants.json"
WORK: Final = ROOT / "build" / "mutants"
SOURCES: Final = ("runtime", "export", "training")
BESIDE: Final = ("tests", "benchmarks", "docs", "samples")  # what tests read
LEFT_OUT: Final = ("checkpoints", "__pycache__")
# Tests of links in the checkout, which the copy that is mutated does not have.
LINKED: Final = ("tests/training/test_universal.py::test_a_recipe_is_named_or_given_by_its_path",)
KILLED: Final = {1, 3}  # pytest's exit codes: a test failed, pytest did
UNTESTED: Final = {5, 33}
SURVIVED: Final = 0
STATES: Final = ("killed", "survived", "untested", "other")
SETTINGS: Final = """

[tool.mutmut]
source_paths = ["src"]
only_mutate = ["{module}"]
also_copy = {beside}
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Mutate modules, or report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--report", action="store_true", help="print the record, run nothing")
    parser.add_argument("--changed", metavar="BASE", help="print scores of what differs from BASE")
    options = parser.parse_args(arguments)
    if options.report or options.changed:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        print(changed(record, options.changed) if options.changed else report(record))
        return 0
    pairs = tomllib.loads(TABLE.read_text(encoding="utf-8"))["tests"]
    chosen = options.files or list(pairs)
    unknown = sorted(set(chosen) - set(pairs))
    if unknown:
        print(f"error: {', '.join(unknown)}: not in {TABLE.relative_to(ROOT)}, which pairs modules")
        return 1
    for module in chosen:
        found = mutate(module, pairs[module])
        write(module, found)
        print(f"{module}: {score(found)}", flush=True)
    return 0


def mutate(module: str, tests: Sequence[str]) -> dict[str, Any]:
    """Run mutmut on one module.

    Returns
    -------
    how many mutants were killed, survived, have no test that calls them, or ended otherwise (out of
    time); and the changes that survived or have no test, each once.
    """
    place = stage(module, tests)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "TRELLIC_CACHE": str(_private(WORK / "cache"))}
    program = str(Path(sys.executable).with_name("mutmut"))
    log = place / "log"
    with log.open("wb") as out:
        ended = subprocess.run(
            [program, "run", "--max-children", "1"],
            cwd=place,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    (meta,) = [*place.glob("mutants/src/**/*.meta")] or [None]
    codes = json.loads(meta.read_text())["exit_code_by_key"] if meta else {}
    if ended.returncode or None in codes.values():
        raise SystemExit(f"error: mutmut failed on {module}; {log} says why")
    states = {name: state_of(code) for name, code in codes.items()}
    found: dict[str, Any] = {state: [*states.values()].count(state) for state in STATES}
    found["source"] = source_of(module)
    found["changes"] = {"survived": {}, "untested": {}}
    open_ones = [name for name, state in states.items() if state in found["changes"]]
    for name, diff in zip(open_ones, _diffs(open_ones, place, environment), strict=True):
        found["changes"][states[name]].setdefault(change_of(name, diff), "")
    shutil.rmtree(place)
    return found


def stage(module: str, tests: Sequence[str]) -> Path:
    """Lay the tree out as mutmut wants it, all packages under src; return the folder."""
    place = WORK / module.replace("/", ".")
    shutil.rmtree(place, ignore_errors=True)
    packages = place / "src"
    packages.mkdir(parents=True)
    for source in SOURCES:
        for folder in (ROOT / source).iterdir():
            if folder.name not in LEFT_OUT:
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(folder, packages / folder.name, ignore=ignored)
    for name in BESIDE:
        (place / name).symlink_to(ROOT / name)
    inside = "src/" + module.split("/", 1)[1]
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + SETTINGS.format(
        module=inside,
        beside=json.dumps([name for name in BESIDE if name != "tests"]),
        tests=json.dumps(
            [*tests, *(f"--deselect={test}" for test in LINKED), "-m", "not slow and not network"]
        ),
    )
    (place / "pyproject.toml").write_text(settings, encoding="utf-8")
    return place


def _private(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _diffs(names: list[str], place: Path, environment: dict[str, str]) -> list[str]:
    """Return what each mutant changes; ``mutmut show`` would start Python anew for each."""
    program = (
        "import json, sys; from mutmut.mutation.diff_apply import get_diff_for_mutant as diff;"
        "print(json.dumps([diff(name) for name in json.load(sys.stdin)]))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env=environment,
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(shown.stdout)
    return found


def state_of(code: int) -> str:
    """Return what an exit code of a mutant's tests means."""
    if code in KILLED:
        return "killed"
    if code == SURVIVED:
        return "survived"
    return "untested" if code in UNTESTED else "other"


def change_of(name: str, diff: str) -> str:
    """Return a change in one line, without numbers that move: ``function: - before + after``."""
    function = re.sub(r"^x_?|__mutmut_\d+$", "", name.rpartition(".")[2]).replace("ǁ", ".")
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "@@"))]
    changed = [f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in ("+", "-")]
    return f"{function.strip('.')}: {' '.join(changed)}"


def score(found: dict[str, Any]) -> str:
    """Return the counts in words, with the share that was killed."""
    total = sum(found[state] for state in STATES)
    share = found["killed"] / total if total else 1.0
    rest = ", ".join(f"{found[state]} {state}" for state in STATES[1:] if found[state])
    return f"{found['killed']} of {total} killed ({share:.0%})" + (f"; {rest}" if rest else "")


def write(module: str, found: dict[str, Any]) -> None:
    """Put a module's result into the record; reasons that still fit are kept."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    old = record.get(module, {}).get("changes", {})
    for state, changes in found["changes"].items():
        for change in changes:
            changes[change] = old.get(state, {}).get(change, "")
    record[module] = found
    text = json.dumps(dict(sorted(record.items())), indent=1, ensure_ascii=False)
    RECORD.write_text(text + "\n", encoding="utf-8")


def report(record: dict[str, Any]) -> str:
    """Return the record as text."""
    lines = []
    for module, found in record.items():
        lines.append(f"{module}: {score(found)}")
        for state, changes in found["changes"].items():
            lines += [f"  {state}: {change}  [{why or 'open'}]" for change, why in changes.items()]
    return "\n".join(lines)


def changed(record: dict[str, Any], base: str) -> str:
    """Return the recorded score of each module that differs from a commit, one a line.

    A score of another version of the module says so.
    """
    asked = ["git", "diff", "--name-only", "--merge-base", base, "--", *SOURCES]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        return f"mutants: nothing to compare with: {listed.stderr.strip()}"
    pairs = tomllib.loads(TABLE.read_text(encoding="utf-8"))["tests"]
    lines = []
    for module in listed.stdout.split():
        if module in record:
            same = record[module].get("source") == source_of(module)
            note = "" if same else " (recorded for another version of it)"
            lines.append(f"{module}: {score(record[module])}{note}")
        elif module in pairs:
            lines.append(f"{module}: not run yet: make mutants FILES={module}")
    return "\n".join(["mutants of modules that changed:", *(lines or ["none is in the table"])])


def source_of(module: str) -> str:
    """Return the first half of the digest of a module; empty where it is gone."""
    path = ROOT / module
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32] if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
