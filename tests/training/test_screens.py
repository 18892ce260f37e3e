"""Screens that are drawn to be trained on."""

import numpy as np
import pytest
from PIL import Image

from trellic_training.data import screens, widgets
from trellic_training.data.canvas import FRINGED, PLAIN, SMOOTH, WHITE, Canvas, Theme


def canvas(text=SMOOTH, side=64):
    colours = ((200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 0))
    return Canvas(screens.Random(1), Theme(False, WHITE, (0, 0, 0), colours, text, ()), side)


def test_a_seed_gives_the_same_screens_and_another_seed_others():
    first, again, other = (screens.Artist(seed).screen() for seed in (3, 3, 4))
    assert first.size == (screens.SIDE, screens.SIDE)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_screens_are_flat_in_most_places_and_have_sharp_edges():
    pixels = np.stack([np.asarray(screens.Artist(seed).screen(), int) for seed in range(4)])
    steps = np.abs(np.diff(pixels, axis=2)).max(-1)
    assert (steps == 0).mean() > 0.5
    assert (steps > 60).mean() > 0.01


def test_photos_and_fonts_are_taken_from_folders(tmp_path, photos):
    screens.main([str(tmp_path / "out"), "--count", "2", "--photos", str(photos), "--seed", "5"])
    drawn = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in drawn] == ["screen-0000.png", "screen-0001.png"]
    with Image.open(drawn[0]) as picture:
        assert picture.mode == "RGB"


@pytest.mark.parametrize("kind", [PLAIN, SMOOTH, FRINGED])
def test_text_is_drawn_in_three_ways(kind):
    page = canvas(kind)
    page.text((2, 2), "halfway", 20, (0, 0, 0))
    pixels = np.asarray(page.image)
    grey = (pixels == pixels[..., :1]).all()
    assert pixels.min() < 80
    assert grey == (kind != FRINGED)
    assert (set(np.unique(pixels)) == {0, 255}) == (kind == PLAIN)


def test_text_ends_where_it_is_told():
    page = canvas()
    page.text((2, 2), "a long line of text", 14, (0, 0, 0), end=30)
    assert (np.asarray(page.image)[:, 30:] == 255).all()


@pytest.mark.parametrize(
    "draw", [w for w in widgets.WIDGETS if w not in (widgets.photo, widgets.nothing)]
)
def test_each_widget_draws_in_any_box(draw):
    page = canvas(side=200)
    draw(page, (10, 10, 190, 190))
    assert (np.asarray(page.image) != 255).any()
    draw(canvas(), (60, 60, 61, 61))


def test_a_photo_fills_its_box(photos):
    page = canvas()
    widgets.photo(page, (0, 0, 32, 32), sorted(photos.rglob("*.*")))
    assert (np.asarray(page.image)[:32, :32] != 255).any(-1).mean() > 0.5
    assert (np.asarray(page.image)[40:, 40:] == 255).all()
