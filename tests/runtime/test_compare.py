"""``trellic compare``: the page, what is in it, and how it behaves in a browser."""

from __future__ import annotations

import base64
import io
import math
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trellic import images
from trellic.cli import compare, measures, metrics, rivals
from trellic.constants import DEFAULT_TRELLIS
from trellic.images import Picture

DATA = Path(__file__).parents[1] / "data"
SAMPLES = Path(__file__).parents[2] / "samples"
MODEL = ("--model", "tiny", "--device", "cpu")
SIDES = ((0, -1), (1, 1))  # fingers, left and right
RNG = np.random.default_rng(8)


@pytest.fixture(autouse=True)
def only_the_tiny_model(tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIC_MODELS", str(DATA))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def crop():
    return images.read(SAMPLES / "osprey.png").pixels[60:200, 150:360].copy()


class Page(HTMLParser):
    """What the tests want to know of a page."""

    def __init__(self, text):
        super().__init__()
        self.images, self.rows, self.links, self.open, self.ids = [], [], [], [], []
        self.caption = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[key] for key in ("src", "href", "srcset", "action") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img" and "src" in found:
            self.images.append(found)
        if tag == "tr":
            self.rows.append([])
        if tag not in ("img", "meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.caption += data if "caption" in self.open else ""
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def write(tmp_path, pixels, name="photo.png", **more):
    images.write(tmp_path / name, Picture(pixels, **more))
    return tmp_path / name


def picture_of(image):
    head, _, data = image["src"].partition(";base64,")
    return head, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


# ---- the page ----


def test_the_page_holds_everything(tmp_path, crop, trellic):
    photo = write(tmp_path, crop)
    result = trellic("compare", photo, *MODEL)
    assert result.code == 0, result.err
    target = tmp_path / "photo.compare.html"
    text = target.read_text("utf-8")
    assert f"{photo} -> {target}: Trellic, JPEG" in result.out
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(link.startswith("data:image/") for link in page.links)
    rest = re.sub(r'src="[^"]*"', "", text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(", rest)
    assert "default-src 'none'" in text
    assert set(re.findall(r'find\("([a-z-]+)"\)', text)) <= set(page.ids)
    names = [image["alt"] for image in page.images]
    expected = ["Original", "Trellic", *(rival.name for rival in rivals.installed())]
    assert names == expected == [row[0] for row in page.rows[1:]]
    for image in page.images:
        assert (image["width"], image["height"]) == ("210", "140")
        assert picture_of(image)[1].shape == (140, 210, 3)
    head, shown = picture_of(page.images[0])
    assert head == "data:image/webp"
    np.testing.assert_array_equal(shown, crop)


def test_the_table_says_what_the_files_are(tmp_path, crop, trellic):
    photo = write(tmp_path, crop)
    result = trellic("compare", photo, "--out", tmp_path / "x.html", "--quality", 30, *MODEL)
    assert result.code == 0
    page = Page((tmp_path / "x.html").read_text("utf-8"))
    trellic("encode", photo, tmp_path / "a.tlc", "-q", 30, *MODEL)
    trellic("decode", tmp_path / "a.tlc", tmp_path / "a.png")
    size = (tmp_path / "a.tlc").stat().st_size
    decoded = images.read(tmp_path / "a.png").pixels
    rows = {row[0]: row[1:] for row in page.rows[1:]}
    assert rows["Original"][0] == f"{photo.stat().st_size:,}"
    psnr = f"{metrics.psnr(crop, decoded):.2f}"
    heads = page.rows[0][1:]
    assert heads[2:4] == ["PSNR, dB", "MS-SSIM"]
    assert rows["Trellic"][:3] == [f"{size:,}", f"{8 * size / crop[..., 0].size:.3f}", psnr]
    np.testing.assert_array_equal(picture_of(page.images[1])[1], decoded)
    assert f"quality 30, trellis {DEFAULT_TRELLIS}, decoder quality" in rows["Trellic"][-1]
    for image in page.images[2:]:
        found = rows[image["alt"]]
        assert int(found[0].replace(",", "")) >= size  # nobody is short of bytes
        close = metrics.psnr(picture_of(image)[1], crop)
        assert float(found[2]) == pytest.approx(close, abs=0.01)
        assert all(float(seconds) >= 0 for seconds in found[-3:-1])


def test_names_are_escaped(tmp_path, crop, trellic):
    photo = write(tmp_path, crop[:40, :50], "<b>&$x'.png")
    assert trellic("compare", photo, "--out", tmp_path / "x.html", *MODEL).code == 0
    text = (tmp_path / "x.html").read_text("utf-8")
    assert "<title>&lt;b&gt;&amp;$x&#x27;.png: codecs" in text
    assert "<b>" not in text


@pytest.mark.parametrize("kind", ["grey", "alpha", "profile", "tiny"])
def test_kinds_of_pictures(tmp_path, crop, trellic, kind):
    pixels = {"grey": crop[:64, :64, 1], "tiny": crop[:3, :5]}.get(kind, crop[:64, :64])
    alpha = np.tile(np.uint8(range(0, 256, 4)), (64, 1)) if kind == "alpha" else None
    icc = None
    if kind == "profile":
        from PIL import ImageCms

        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = write(tmp_path, np.ascontiguousarray(pixels), alpha=alpha, icc=icc, xmp=b"<secret/>")
    result = trellic("compare", photo, *MODEL)
    assert result.code == 0, result.err
    page = Page((tmp_path / "photo.compare.html").read_text("utf-8"))
    for image in page.images:
        data = base64.b64decode(image["src"].partition(",")[2])
        assert b"secret" not in data
        assert picture_of(image)[1].shape == (*pixels.shape[:2], 3)
        with Image.open(io.BytesIO(data)) as opened:
            assert (opened.info.get("icc_profile") is not None) == (kind == "profile")
    if kind == "alpha":
        assert (picture_of(page.images[0])[1][:, 0] == 255).all()  # clear is white


def test_bad_photos_and_places(tmp_path, crop, trellic):
    (tmp_path / "no.png").write_bytes(b"nothing")
    result = trellic("compare", tmp_path / "no.png", *MODEL)
    assert result.code == 1
    assert result.err.startswith(f"error: {tmp_path / 'no.png'}: ")
    assert result.err.count("\n") == 1
    assert list(tmp_path.glob("*.html")) == []
    photo = write(tmp_path, crop[:20, :20])
    result = trellic("compare", photo, "--out", tmp_path / "none" / "x.html", *MODEL)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert trellic("compare", photo, "--quality", 0, *MODEL).code == 2
    assert trellic("compare").code == 2


def test_the_place_of_the_page_is_checked_first(tmp_path, crop, trellic, monkeypatch):
    """Minutes of encoding were lost."""
    monkeypatch.setattr("trellic.cli.compare._entries", lambda *_: pytest.fail("encodes"))
    photo = write(tmp_path, crop[:20, :20])
    for out, fault in ((tmp_path / "none" / "x.html", "no such"), (tmp_path, "is a folder")):
        result = trellic("compare", photo, "--out", out, *MODEL)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert fault in result.err


def test_a_codec_that_fails_is_named_and_left_out(tmp_path, crop, trellic, monkeypatch):
    def broken(*_):
        raise OSError("encoder error -2")

    jpeg, *_ = rivals.installed()
    found = [jpeg, rivals.Rival("Broken", "", broken, broken, "")]
    monkeypatch.setattr(rivals, "installed", lambda: found)
    result = trellic("compare", write(tmp_path, crop), *MODEL)
    assert result.code == 1
    assert "Broken: encoder error -2" in result.err
    page = Page((tmp_path / "photo.compare.html").read_text("utf-8"))
    assert [image["alt"] for image in page.images] == ["Original", "Trellic", "JPEG"]


# ---- its parts ----


def at_least(size):
    return lambda data, _: len(data) >= size


@pytest.mark.parametrize("name", [rival.name for rival in rivals.installed()])
def test_rivals_get_the_least_file_that_is_not_smaller(crop, name):
    (rival,) = (rival for rival in rivals.installed() if rival.name == name)
    found = rivals.match(rival, crop, at_least(5000))
    assert len(found.data) >= 5000
    assert found.data == rival.encode(crop, found.quality, None)
    assert len(rival.encode(crop, found.quality - 1, None)) < 5000
    assert found.pixels.shape == crop.shape
    assert metrics.psnr(crop, found.pixels) > 25
    assert rivals.match(rival, crop, at_least(1)).quality == 1
    assert rivals.match(rival, crop, at_least(10**9)).quality == 100


def test_psnr():
    x = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert metrics.psnr(x, x) == math.inf
    assert metrics.psnr(np.zeros_like(x), np.full_like(x, 255)) == 0
    assert metrics.psnr(x, x ^ 1) == pytest.approx(48.1308, abs=1e-4)


def test_measures_are_named_and_say_what_they_need(crop):
    there, lacking = measures.installed()
    assert {"psnr", "ms-ssim"} <= there.keys()
    assert len(there) + len(lacking) == len(measures.MEASURES) == 8
    assert all("remedy: " in text for text in lacking)
    noisy = np.clip(crop + RNG.normal(0, 9, crop.shape), 0, 255).astype(np.uint8)
    for name, measure in measures.MEASURES.items():
        if name in there and min(crop.shape[:2]) >= measure.smallest:
            best, worse = (measure.of(crop, other) for other in (crop, noisy))
            assert measure.reached(best, worse), name
            assert not measure.reached(worse, best), name
            assert math.isfinite(measure.of(crop[..., 1], noisy[..., 1])), name
        assert not measure.reached(math.nan, math.nan)
        tiny = np.zeros((3, 3, 3), np.uint8)
        if measure.smallest > 3:
            assert measure.text(measure.of(tiny, tiny)) == "n/a"


def test_equal_scores(tmp_path, crop, trellic):
    """Each codec is as good as Trellic by the measure, and one quality lower it is not."""
    photo = write(tmp_path, crop)
    result = trellic("compare", photo, "--equal", "psnr", "-q", 30, *MODEL)
    assert result.code == 0, result.err
    page = Page((tmp_path / "photo.compare.html").read_text("utf-8"))
    assert "whose PSNR is not worse than Trellic's" in page.caption
    rows = {row[0]: float(row[3]) for row in page.rows[2:]}
    assert all(value >= rows["Trellic"] for value in rows.values())
    original = compare.Entry("Original", "", 9, crop, "", b"")
    ours = replace(original, name="Trellic", scores={"psnr": rows["Trellic"]})
    aim = compare.aim_of("psnr", ours, original, measures.MEASURES)
    jpeg = rivals.installed()[0]
    found = rivals.match(jpeg, crop, aim)
    lower = jpeg.decode(jpeg.encode(crop, found.quality - 1, None))
    assert metrics.psnr(crop, lower) < rows["Trellic"] <= metrics.psnr(crop, found.pixels)
    assert trellic("compare", photo, "--equal", "beauty", *MODEL).code == 2


def test_a_score_that_the_photo_has_not(tmp_path, crop, trellic):
    photo = write(tmp_path, crop[:100])
    result = trellic("compare", photo, "--equal", "ms-ssim", *MODEL)
    assert result.code in (1, 2)
    assert "a measure that takes photos of this size" in result.err
    assert list(tmp_path.glob("*.html")) == []


def test_several_photos_and_one_that_fails(tmp_path, crop, trellic):
    first, second = write(tmp_path, crop, "a.png"), write(tmp_path, crop[:90, :70], "b.png")
    (tmp_path / "no.png").write_bytes(b"nothing")
    result = trellic("compare", first, tmp_path / "no.png", second, *MODEL)
    assert result.code == 1
    assert "no.png: " in result.err
    page = Page((tmp_path / "a.compare.html").read_text("utf-8"))
    count = 2 + len(rivals.installed())
    assert len(page.images) == 2 * count
    assert {image["width"] for image in page.images[count:]} == {"70"}
    assert [row[0] for row in page.rows].count("Trellic") == 2


def test_large_pictures_are_shown_as_png():
    assert compare.shown(np.zeros((16384, 1, 3), np.uint8), None)[0] == "image/png"


# ---- in a browser ----


def one_page(entries, *more):
    return compare.page([compare.Photo("x", entries), *more], measures.MEASURES, ["x needs y"])


def shown_at(page, x, y):
    """Colour of the page at a place."""
    data = page.screenshot(clip={"x": x, "y": y, "width": 1, "height": 1})
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[0, 0].astype(int)


def until(page, condition):
    """Wait for a condition of a page whose policy forbids `eval`.

    Playwright's own `wait_for_function` evaluates a condition inside of the page unless it holds at
    once, and the policy refuses that.
    """
    ends = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < ends, condition
        page.wait_for_timeout(50)


@pytest.mark.browser
def test_the_slider_in_a_browser(tmp_path, browser):
    """Two flat pictures: which one is seen where says what the page does."""
    red, blue = (np.tile(np.uint8(colour), (300, 400, 1)) for colour in ([200, 0, 0], [0, 0, 200]))
    entries = [
        compare.Entry("Original", "", 9, red, *compare.shown(red, None)),
        compare.Entry("Trellic", "", 9, blue, *compare.shown(blue, None), (0.0, 0.0)),
    ]
    (tmp_path / "x.html").write_text(one_page(entries), "utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    problems, requests = [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "x.html").as_uri())
    until(page, "[...document.images].every(image => image.complete)")
    box = page.locator("#view").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def colours():
        return [
            "red" if shown_at(page, middle[0] + at, middle[1])[0] > 100 else "blue"
            for at in (-150, -50, 50, 150)
        ]

    def zoomed():
        return int(page.locator("#zoom").inner_text().split()[0])

    assert colours() == ["red", "red", "blue", "blue"]
    page.mouse.move(*middle)  # the line, by mouse
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1], steps=4)
    page.mouse.up()
    assert colours() == ["red", "red", "red", "blue"]
    page.get_by_label("Divider").focus()  # the line, by its keys
    page.keyboard.press("Home")
    assert colours() == ["blue"] * 4
    page.keyboard.press("End")
    assert colours() == ["red"] * 4
    page.get_by_label("Left").select_option("Trellic")
    assert colours() == ["blue"] * 4
    assert page.locator("#left-name").inner_text() == "Trellic"
    assert zoomed() == 100
    page.get_by_role("button", name="Zoom in").click()
    assert zoomed() == 150
    page.mouse.move(*middle)
    page.mouse.wheel(0, -300)
    assert zoomed() == 300
    assert "pixels" in page.locator("#view").get_attribute("class")
    page.locator("#view").focus()
    page.keyboard.press("-")
    assert zoomed() == 200
    before = page.locator("#left-layer img").bounding_box()
    page.keyboard.press("ArrowRight")
    page.mouse.move(middle[0] - 200, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] - 230, middle[1] + 10, steps=3)
    page.mouse.up()
    after = page.locator("#left-layer img").bounding_box()
    moved = after["x"] - before["x"], after["y"] - before["y"]
    assert moved == pytest.approx((-70, 10), abs=0.01)
    page.keyboard.press("1")
    assert zoomed() == 100
    assert problems == []
    assert len(requests) == 1  # nothing but the page itself
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_a_page_fits_its_window_and_a_reload_keeps_the_view(tmp_path, browser, width):
    names = ("Original", "Trellic", "JPEG (mozjpeg)")
    words, scores = (
        "4:2:0, progressive, trellis quantization",
        dict.fromkeys(measures.MEASURES, 32.1234),
    )

    def photo(*shape):
        pixels = np.zeros((*shape, 3), np.uint8)
        shown = compare.shown(pixels, None)
        return [compare.Entry(n, words, 10**6, pixels, *shown, (0.1, 0.1), scores) for n in names]

    other = compare.Photo("a name of a photo that is long.jpg", photo(400, 200))
    (tmp_path / "x.html").write_text(one_page(photo(300, 400), other), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 844})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "x.html").as_uri())
    for of in ("document.documentElement", "document.querySelector('.wide')"):
        assert page.evaluate(f"{of}.scrollWidth - {of}.clientWidth") <= 1, of
    assert "pinch" in page.locator("body").inner_text()
    page.set_viewport_size({"width": 844, "height": 500})  # a phone that is turned
    until(page, "Math.abs(2 * x + width * scale - view.clientWidth) < 0.01")
    page.set_viewport_size({"width": width, "height": 844})
    page.get_by_label("Right").select_option("JPEG (mozjpeg)")
    page.get_by_label("Photo").select_option(other.name)
    assert page.locator("#right-name").inner_text() == "JPEG (mozjpeg)"
    assert page.locator("#left-layer img").get_attribute("width") == "200"
    assert page.locator("table:visible caption").inner_text().startswith(other.name)
    page.locator("#in").click()
    page.wait_for_timeout(400)
    assert "right=2" in page.url
    seen = page.locator("#zoom").inner_text()
    page.reload()
    assert page.locator("#zoom").inner_text() == seen
    assert page.locator("#right-name").inner_text() == "JPEG (mozjpeg)"
    assert page.locator("#left-layer img").get_attribute("width") == "200"
    page.locator("#flicker").click()
    page.wait_for_timeout(700)
    assert "100%" in page.locator("#left-layer").get_attribute("style")
    assert problems == []
    page.close()


@pytest.mark.browser
def test_two_fingers_pinch(tmp_path, browser):
    pixels = np.zeros((300, 400, 3), np.uint8)
    shown = compare.shown(pixels, None)
    entries = [compare.Entry(name, "", 9, pixels, *shown) for name in ("Original", "Trellic")]
    (tmp_path / "x.html").write_text(one_page(entries), "utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto((tmp_path / "x.html").as_uri())
    box = page.locator("#view").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    before = int(page.locator("#zoom").inner_text().split()[0])
    fingers = context.new_cdp_session(page)

    def touch(kind, *apart):
        points = [{"x": x + side * away, "y": y, "id": i} for away in apart for i, side in SIDES]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for away in (40, 50, 60):
        touch("touchMove", away)
    touch("touchEnd")
    after = int(page.locator("#zoom").inner_text().split()[0])
    assert after == pytest.approx(2 * before, rel=0.05)
    context.close()


@pytest.mark.browser
def test_light_and_dark(tmp_path, browser):
    pixels = np.zeros((20, 20, 3), np.uint8)
    entries = [compare.Entry(name, "", 9, pixels, *compare.shown(pixels, None)) for name in "ab"]
    (tmp_path / "x.html").write_text(one_page(entries), "utf-8")
    seen = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((tmp_path / "x.html").as_uri())
        seen.append(shown_at(page, 2, 2).mean())
        page.close()
    assert seen[0] > 240
    assert seen[1] < 30


@pytest.mark.browser
def test_every_picture_of_a_real_page_is_shown(tmp_path, crop, trellic, browser):
    assert trellic("compare", write(tmp_path, crop), *MODEL).code == 0
    page = browser.new_page()
    page.goto((tmp_path / "photo.compare.html").as_uri())
    until(page, "[...document.images].every(image => image.complete)")
    sizes = page.evaluate("pictures.map(picture => [picture.naturalWidth, picture.naturalHeight])")
    assert sizes == [[210, 140]] * (2 + len(rivals.installed()))
    page.close()
