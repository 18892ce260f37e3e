"""Plots as SVG files: the same each time, short, and nothing that can be seen is lost."""

import re
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from benchmarks import svg


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("L 497.128374 1.005001", "L 497.13 1.01"),
        ("M -0.001234 12.000000", "M 0 12"),
        ('x="-3.14159"', 'x="-3.14"'),
        ('transform="scale(0.015625)"', 'transform="scale(0.015625)"'),
        ("12.3456) scale(0.0833 -0.0833)", "12.35) scale(0.0833 -0.0833)"),
        ("stroke-width: 0.8", "stroke-width: 0.8"),
        ("L 1234.56789 2", "L 1234.57 2"),
        ("<g>\n     <path/>\n  </g>", "<g>\n<path/>\n</g>"),
    ],
)
def test_places_have_two_decimals(before, after):
    assert svg.shortened(before) == after


def test_a_figure_is_the_same_each_time_and_a_picture(tmp_path):
    for name in "ab":
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot([0, 1, 2.5], [3.25, 1 / 3, 7], label="1/3 & more")
        svg.save(figure, tmp_path / f"{name}.svg", "#123456")
    first = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert first == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ET.fromstring(first).tag.endswith("svg")
    assert "#123456" in first
    assert not re.search(r"\d\.\d{3}", re.sub(r"scale\([^)]*\)", "", first))
