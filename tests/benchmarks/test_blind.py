"""Votes on crops: equal bytes, whole pages, and choices that are counted for the right codec."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.codecs import Pixels
from PIL import Image

from benchmarks import blind


class Paint:
    """Shifts samples; a file's length is so many bytes for each step of quality."""

    ladder = (1, 100)

    def __init__(self, shift: int, bytes_a_step: float, step: float = 1 / 16) -> None:
        self._shift, self._a_step, self._step = shift, bytes_a_step, step
        self._pixels = np.zeros(0, np.uint8)

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        self._pixels = pixels
        return bytes(round(self._a_step * round(quality / self._step) * self._step))

    def decode(self, _: bytes) -> Pixels:
        return self._pixels + np.uint8(self._shift)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, shape in enumerate(((70, 100, 3), (64, 64, 3), (20, 90, 3))):
        noise = np.random.default_rng(number).integers(0, 200, shape).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def some(photos: list[Path], count: int = 8) -> list[blind.Trial]:
    made = blind.trials(photos, Paint(1, 50), Paint(2, 40), (20, 60), count, 32)
    return list(made)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def pixels_of(source: str) -> Pixels:
    raw = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def test_crops_come_from_files_of_equal_size(photos: list[Path]) -> None:
    found = some(photos)
    assert len(found) == 8
    for one in found:
        assert abs(one.sizes[0] - one.sizes[1]) <= 0.01 * one.sizes[1]
        with Image.open(photos[0].parent / one.photo) as photo:
            whole = np.asarray(photo)
        crop = whole[one.top : one.top + 32, one.left : one.left + 32]
        assert np.array_equal(one.original, crop)
        assert np.array_equal(one.ours, crop + 1)
        assert np.array_equal(one.theirs, crop + 2)
    assert {one.photo for one in found} == {"0.png", "1.png"}  # the third one has no room
    assert {one.sizes[1] for one in found} == {800, 2400}
    places = {(one.photo, one.left, one.top, one.sizes[1]) for one in found}
    assert len(places) == 8


def test_the_same_crops_every_time(photos: list[Path]) -> None:
    first, second = some(photos), some(photos)
    assert [(a.photo, a.left, a.top) for a in first] == [(b.photo, b.left, b.top) for b in second]


def test_sizes_that_cannot_be_met_are_left_out(photos: list[Path]) -> None:
    coarse = Paint(1, 50, step=30)
    assert not list(blind.trials(photos, coarse, Paint(2, 40), (20,), 8, 32))


def test_the_page_holds_the_pictures_and_needs_no_network(photos: list[Path]) -> None:
    found = some(photos)
    page = blind.page(found, "Ours", "<Theirs>")
    data = data_of(page)
    assert (data["ours"], data["theirs"]) == ("Ours", "<Theirs>")
    assert len(data["trials"]) == len(found)
    for trial, one in zip(data["trials"], found, strict=True):
        for name in ("original", "ours", "theirs"):
            assert np.array_equal(pixels_of(trial[name]), getattr(one, name))
        assert trial["bytes"] == {"ours": one.sizes[0], "theirs": one.sizes[1]}
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]*", "", page))
    assert blind.page(found[:-1], "Ours", "Theirs") != page
    assert data_of(blind.page(found[:-1], "a", "b"))["page"] != data["page"]


def test_sheets_show_original_ours_and_theirs(photos: list[Path]) -> None:
    found = some(photos)
    pair = list(blind.sheets(found * 2, "Ours", "Theirs", 1))
    assert len(pair) == 2  # ten crops, then six
    assert pair[0].width == 3 * 32 + 2 * 6
    assert pair[0].height > pair[1].height
    top = np.asarray(pair[0])[:32]
    for start, name in ((0, "original"), (38, "ours"), (76, "theirs")):
        assert np.array_equal(top[:, start : start + 32], getattr(found[0], name))


def votes(path: Path, page: str, *choices: str) -> Path:
    saved = {"page": page, "ours": "Trellic", "theirs": "AVIF"}
    path.write_text(json.dumps({**saved, "votes": [{"choice": choice} for choice in choices]}))
    return path


def test_votes_of_several_voters_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = votes(tmp_path / "a.json", "x", "ours", "same", "ours")
    second = votes(tmp_path / "b.json", "x", "theirs", "ours")
    assert blind.main(["count", str(first), str(second)]) == 0
    text = capsys.readouterr().out
    assert "Trellic 3, AVIF 1, cannot tell 1" in text
    assert "Trellic in 75.0 % of those decided (95 %: 30.1 to 95.4)" in text
    other = votes(tmp_path / "c.json", "y", "ours")
    assert blind.main(["count", str(first), str(other)]) == 2
    assert "different pages (x, y)" in capsys.readouterr().err
    other.write_text("{}")
    assert blind.main(["count", str(other)]) == 2
    assert "expected files that a page" in capsys.readouterr().err


@pytest.mark.browser
def test_a_voter_who_always_picks_ours(tmp_path: Path, photos: list[Path], browser: Any) -> None:
    path = tmp_path / "blind.html"
    path.write_text(blind.page(some(photos), "Ours", "Theirs"), encoding="utf-8")
    ours = {trial["ours"] for trial in data_of(path.read_text())["trials"]}
    page = browser.new_page(viewport={"width": 900, "height": 700})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    sides = []
    for turn in range(8):
        source = page.locator("#A img").get_attribute("src")
        sides.append("A" if source in ours else "B")
        if turn == 3:  # a slip, taken back
            page.keyboard.press("0")
            page.keyboard.press("Backspace")
        if turn % 2:
            page.click(f'[data-choice="{sides[-1]}"]')
        else:
            page.keyboard.press("1" if sides[-1] == "A" else "2")
        if turn == 5:  # what was chosen outlives the page
            page.reload()
    assert page.locator("#result").inner_text() == "Ours: 8. Theirs: 0. Cannot tell: 0."
    with page.expect_download() as started:
        page.click("#end .save")
    saved = json.loads(Path(started.value.path()).read_text())
    assert blind.total([saved]) == {"ours": 8, "theirs": 0, "same": 0}
    assert sorted(vote["trial"] for vote in saved["votes"]) == list(range(8))
    assert [vote["ours_is_a"] for vote in saved["votes"]] == [side == "A" for side in sides]
    assert not problems
    page.close()
