"""What `make mutants` pairs, counts and lists."""

from __future__ import annotations

import json
import tomllib
from types import SimpleNamespace

import pytest

from benchmarks import mutants

PAIRS = tomllib.loads(mutants.TABLE.read_text(encoding="utf-8"))["tests"]


def test_modules_and_their_tests_are_there():
    named = {*PAIRS, *(test for tests in PAIRS.values() for test in tests)}
    assert [name for name in sorted(named) if not is_there(name)] == []


def test_tests_that_a_copy_cannot_pass_are_there():
    assert all(map(is_there, mutants.LINKED))


def is_there(named: str) -> bool:
    """Whether a file, or one test of a file, is in the checkout."""
    path, _, test = named.partition("::")
    if not (mutants.ROOT / path).is_file():
        return False
    return not test or f"def {test}(" in (mutants.ROOT / path).read_text(encoding="utf-8")


def test_every_listed_survivor_has_a_reason():
    record = json.loads(mutants.RECORD.read_text(encoding="utf-8"))
    assert set(record) <= set(PAIRS)
    listed = [why for one in record.values() for found in one["changes"].values() for why in found]
    assert listed
    changes = [found for one in record.values() for found in one["changes"].values()]
    assert all(why for found in changes for why in found.values())


def test_a_module_without_tests_is_refused(capsys):
    assert mutants.main(["runtime/trellic/codec/loaded.py"]) == 1
    assert "runtime/trellic/codec/loaded.py: not in tests/mutants.toml" in capsys.readouterr().out


def test_the_report_names_each_change(capsys):
    assert mutants.main(["--report"]) == 0
    assert "killed (" in capsys.readouterr().out


def test_a_change_is_one_line_without_numbers():
    diff = (
        "--- a.py\n+++ a.py\n@@ -1,3 +1,3 @@\n def f(x):\n-    return -x\n+    return +x\n     pass"
    )
    assert mutants.change_of("a.b.x_f__mutmut_3", diff) == "f: - return -x + return +x"
    assert mutants.change_of("a.b.xǁClassǁ_f__mutmut_12", diff).startswith("Class._f: - ")


@pytest.mark.parametrize(
    ("code", "state"), [(0, "survived"), (1, "killed"), (33, "untested"), (36, "other")]
)
def test_exit_codes(code, state):
    assert mutants.state_of(code) == state


def test_scores_count_all_mutants():
    found = {"killed": 6, "survived": 2, "untested": 2, "other": 0}
    assert mutants.score(found) == "6 of 10 killed (60%); 2 survived, 2 untested"


def test_reasons_are_kept_where_the_change_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "RECORD", tmp_path / "mutants.json")
    found = dict.fromkeys(mutants.STATES, 1)
    for reason in ("why", ""):
        changes = {"survived": {"f: - a + b": reason}, "untested": {}}
        mutants.write("m.py", found | {"changes": changes})
        if reason:  # as written by hand
            text = mutants.RECORD.read_text().replace('"f: - a + b": ""', '"f: - a + b": "why"')
            mutants.RECORD.write_text(text)
    kept = json.loads(mutants.RECORD.read_text())["m.py"]["changes"]["survived"]
    assert kept == {"f: - a + b": "why"}


def test_scores_of_changed_modules_are_printed(monkeypatch):
    first, second, third = sorted(PAIRS)[:3]
    names = f"{first}\n{second}\n{third}\ntraining/of/no/pair.py\n"

    def git(asked, **_):
        assert asked[:2] == ["git", "diff"]
        assert asked[4:] == ["there", "--", *mutants.SOURCES]
        return SimpleNamespace(returncode=0, stdout=names, stderr="")

    monkeypatch.setattr(mutants.subprocess, "run", git)
    found = dict.fromkeys(mutants.STATES, 1)
    record = {
        first: found | {"source": mutants.source_of(first)},
        second: found | {"source": "another"},
    }
    score = "1 of 4 killed (25%); 1 survived, 1 untested, 1 other"
    assert mutants.changed(record, "there").splitlines() == [
        "mutants of modules that changed:",
        f"{first}: {score}",
        f"{second}: {score} (recorded for another version of it)",
        f"{third}: not run yet: make mutants FILES={third}",
    ]
    names = ""
    assert mutants.changed(record, "there").endswith("none is in the table")


def test_a_base_that_is_not_there_is_said():
    assert "nothing to compare with" in mutants.changed({}, "no-such-branch")
