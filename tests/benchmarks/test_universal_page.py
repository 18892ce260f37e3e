"""The figures in the text of docs/universal.md are those of the committed report."""

import re

from benchmarks.universal_tables import TABLES, report_beside

from benchmarks import readme

PAGE = readme.ROOT / "docs" / "universal.md"


def strangers(text: str) -> set[str]:
    """Percentages with one decimal in a page's text that are in none of its tables."""
    drawn = "".join(draw(readme.RESULTS) for draw in TABLES.values())
    known = set(re.findall(r"\d+\.\d(?= ?%)", drawn))
    return set(re.findall(r"\b\d+\.\d(?= %)", readme.BLOCK.sub("", text))) - known


def test_percentages_of_the_text_are_in_the_tables():
    text = PAGE.read_text(encoding="utf-8")
    assert not strangers(text)
    assert strangers(text.replace("12.5 %", "12.6 %")) == {"12.6"}  # so that it can fail


def test_facts_of_the_run_are_those_of_its_report():
    report, text = report_beside(readme.RESULTS), PAGE.read_text(encoding="utf-8")
    limits = report["limits"]
    facts = [
        f"{report['epochs']:.2f} epochs",
        f"{100 * limits['classifier']['accuracy']:.2f} % on the original digits",
        f"cross entropy {limits['classifier']['cross_entropy']:.4f}",
        f"{limits['sliced_floor']:.4f} apart in sliced W",
    ]
    assert [fact for fact in facts if fact not in text] == []
    whole = (PAGE.parent / "universal" / "report.md").read_text(encoding="utf-8")
    assert "Partial" not in whole
    assert re.search(r"training of 24 models: \S+ min, 46.6 min of one core", whole)
