"""The tables of the pages are those of the committed results."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import readme


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_tables_agree_with_the_committed_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert readme.BLOCK.search(text), "the page has no tables"
    new, _ = readme.update(text)
    assert text == new, "run: python -m benchmarks.readme --write"


def test_every_table_is_shown_somewhere() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in readme.PAGES)
    assert {match[2] for match in readme.BLOCK.finditer(text)} == set(readme.TABLES)
    assert text.count("<!-- table:") == len(readme.BLOCK.findall(text))


def test_another_result_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, results = tmp_path / "README.md", tmp_path / "results"
    shutil.copytree(readme.RESULTS, results)
    page.write_text("before\n<!-- table: coder -->\n<!-- end of table -->\nafter\n")
    monkeypatch.setattr(readme, "PAGES", (page,))
    assert readme.main(["--check"]) == 1
    assert "differs" in capsys.readouterr().out
    assert readme.main(["--write"]) == 0
    assert readme.main(["--check"]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table: coder -->\n| coder |")
    assert text.endswith("<!-- end of table -->\nafter\n")
    run = json.loads((results / "coder.json").read_text())
    run["speeds"][-1]["decode"] += 1
    (results / "coder.json").write_text(json.dumps(run))
    assert readme.update(text, results)[1]


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(readme.UnknownTableError, match="'none'"):
        readme.update("<!-- table: none -->\n<!-- end of table -->")
