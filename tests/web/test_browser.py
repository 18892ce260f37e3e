"""The decoder for web pages, in Chromium."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import numpy as np
import pytest
from benchmarks.web_server import serving
from PIL import Image
from tests.conformance import kit, run

from trellic import bitstream, images
from trellic.codec import Codec
from trellic.limits import PATCH_SIDE
from trellic.model.bundle import Bundle
from trellic.pipeline.patches import spread
from trellic_export.web import export_web

pytestmark = pytest.mark.browser
GOLDEN = Path(__file__).parents[1] / "data" / "golden"

SHOWN = "image => image.dataset.trellic === 'shown' && image.complete && image.naturalWidth > 0"
LATENTS = """
async ([folder, streams, names]) => {
  const from = (name) => import(folder + name);
  const [{ Model }, { Decoder }, { WebEngines, fetching }, { sha256 }] = await Promise.all(
    ['model.js', 'decoder.js', 'engine.js', 'sha256.js'].map(from));
  const base = new URL(folder + 'model.json', location.href);
  const manifest = await (await fetch(base)).json();
  const engines = new WebEngines(manifest, fetching(base));
  const model = new Model(manifest, await engines.file(manifest.integers));
  const decoder = new Decoder(model, {
    exact: (network) => engines.exact(network), decoder: (name) => engines.decoder(name) });
  const { joined } = await from('../load.mjs');
  const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const found = {};
  for (const name of names) {
    const data = new Uint8Array(await (await fetch(`${streams}${name}.tlc`)).arrayBuffer());
    const latents = await decoder.latents(data);
    found[name] = { z: sha256(bytes(latents.z)), y: sha256(bytes(joined(latents))) };
  }
  return found;
}
"""
PICTURES = """
async ([folder, streams, names]) => {
  const { decodeToBlob } = await import(folder + 'client.js');
  const found = {};
  for (const name of names) {
    try {
      const blob = await decodeToBlob(`${streams}${name}.tlc`);
      const data = new Uint8Array(await blob.arrayBuffer());
      let text = '';
      for (let i = 0; i < data.length; i += 8192) {
        text += String.fromCharCode(...data.subarray(i, i + 8192));
      }
      found[name] = { png: btoa(text) };
    } catch (error) {
      found[name] = { kind: error.name };
    }
  }
  return found;
}
"""


# ---- the same bits ----
KIT = [case for case in kit.load() if case.bundle == kit.MODEL]  # of the model of the page


@pytest.fixture(scope="module")
def tiny_site(tmp_path_factory, tiny_path):
    root = tmp_path_factory.mktemp("tiny")
    (root / "index.html").write_text("<!doctype html><link rel=icon href='data:,'>")
    script = (Path(__file__).parent / "load.mjs").read_text()
    # In a page there is no node: what remains of it is what joins slices.
    kept = "\n".join(line for line in script.splitlines() if not line.startswith("import "))
    (root / "load.mjs").write_text(kept)
    export_web(Bundle(tiny_path), root / "web")
    folders = {"/": root, "/streams/": kit.FOLDER / "streams", "/golden/": GOLDEN}
    with serving(folders, compress=False) as site:
        yield site


def test_latents_of_the_kit(tiny_site, browser):
    page = browser.new_page()
    page.goto(f"{tiny_site.address}/index.html")
    cases = [case for case in KIT if not case.refuse]
    found = page.evaluate(LATENTS, ["/web/", "/streams/", [case.name for case in cases]])
    for case in cases:
        expected = {"z": case.z["sha256"], "y": case.y["sha256"]}
        assert found[case.name] == expected, case.name
    page.close()


def test_pictures_of_the_kit(tiny_site, browser):
    page = browser.new_page()
    page.goto(f"{tiny_site.address}/index.html")
    cases = KIT
    found = page.evaluate(PICTURES, ["/web/", "/streams/", [case.name for case in cases]])
    for case in cases:
        if case.refuse:
            assert found[case.name].get("kind", "decoded") not in ("decoded", "Error"), case.name
            continue
        picture = images.from_bytes(base64.b64decode(found[case.name]["png"]))
        assert run.check_picture(case, "quality", picture).faults == [], case.name
    page.close()


def test_patches(tiny_site, browser, tiny):
    """Without loss to the bit; AV1 as Python shows it, up to rounding on the way to RGB."""
    page = browser.new_page()
    page.goto(f"{tiny_site.address}/index.html")
    found = page.evaluate(PICTURES, ["/web/", "/golden/", ["patches", "bare"]])
    page.close()
    for name, most in (("patches", 0), ("bare", 2)):
        data = (GOLDEN / f"{name}.tlc").read_bytes()
        picture = images.from_bytes(base64.b64decode(found[name]["png"]))
        patches = bitstream.patches_of(data)
        seen = spread(patches.mask, PATCH_SIDE)[: picture.height, : picture.width]
        wanted = tiny.decode(data)
        errors = np.abs(picture.pixels.astype(int) - wanted)
        assert errors[seen].max() <= most, name
        assert run.psnr_between(picture.pixels, wanted) > 45, name


# ---- pages ----

WIDTH, HEIGHT = 176, 120


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A site with the model that ships, a photo under several names, and a damaged one."""
    root = tmp_path_factory.mktemp("pages")
    codec = Codec.load(device="cpu", threads=1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = 128 + 90 * np.sin(x / 9) * np.cos(y / 13)
    pixels = np.stack([waves, waves[::-1], 255 - waves], 2).astype(np.uint8)
    data = codec.encode(pixels)
    for name in ("photo", "slow", "later", "beside", "back", "inline"):
        (root / f"{name}.tlc").write_bytes(data)
    (root / "damaged.tlc").write_bytes(data[:-3] + b"xyz")
    Image.fromarray(pixels[:8, :8]).save(root / "small.png")
    decoded = codec.decode(data, decoder="fast")
    export_web(codec.bundle, root / "web")
    with serving({"/": root}, compress=False) as site:
        site.root, site.decoded = root, decoded
        yield site


@pytest.fixture
def visit(pages, browser):
    """Open a page with some body; return it."""
    context = browser.new_context(viewport={"width": 800, "height": 600})
    page = context.new_page()
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))

    def go(body: str, *, query: str = "", name: str = "index.html"):
        head = "<!doctype html><meta charset=utf-8><link rel=icon href='data:,'>"
        script = f"<script type=module src=/web/trellic.js{query}></script>"
        (pages.root / name).write_text(f"{head}<body>{body}{script}")
        page.goto(f"{pages.address}/{name}")
        return page

    yield go
    for gate in pages.gates.values():
        gate.set()
    pages.gates.clear()
    context.close()


def shown(page, selector: str) -> None:
    page.wait_for_function(f"({SHOWN})(document.querySelector('{selector}'))", timeout=30_000)


PIXELS = """
async (image) => {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}
"""


def test_an_image_is_shown(pages, visit):
    """Its pixels are those of Python's decoder, up to the last step of 255."""
    page = visit("<img id=it src=photo.tlc alt=waves>")
    shown(page, "#it")
    rgba = np.array(page.query_selector("#it").evaluate(PIXELS)).reshape(HEIGHT, WIDTH, 4)
    assert run.psnr_between(rgba[..., :3].astype(np.uint8), pages.decoded) > 45
    assert page.said == []


def test_pictures_backgrounds_and_what_is_added_later(visit):
    page = visit(
        "<style>#sheet { width: 50px; height: 50px; background: red url('back.tlc') }</style>"
        "<div id=sheet></div><div id=own style='background-image: url(inline.tlc)'>text</div>"
        "<picture><source srcset=other.tlc type=image/x-trellic media='(width < 9px)'>"
        "<source srcset='beside.tlc 1x' type=image/x-trellic><img id=in src=small.png></picture>"
        "<picture><source srcset=small.png type=image/png>"
        "<source srcset=beside.tlc type=image/x-trellic><img id=first src=small.png></picture>"
    )
    shown(page, "#in")
    assert page.evaluate("document.getElementById('in').naturalWidth") == WIDTH
    assert page.evaluate("first.naturalWidth") == 8  # the browser's own choice comes first
    for name in ("sheet", "own"):
        style = f"getComputedStyle(document.getElementById('{name}')).backgroundImage"
        page.wait_for_function(f"{style}.startsWith('url(\"blob:')", timeout=30_000)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p><img id=late src=later.tlc>')")
    shown(page, "#late")
    page.evaluate("late.src = 'small.png'")
    page.wait_for_function("late.naturalWidth === 8 && !late.dataset.trellic")
    page.evaluate("late.src = 'later.tlc'")
    shown(page, "#late")


def test_a_damaged_file(visit):
    """It keeps its text, fires one event, and is told of once."""
    page = visit(
        "<img id=old src=damaged.tlc alt='a text'><script>window.heard = [];"
        "const hear = (event) => heard.push(event.target.id);</script>"
        "<picture><source srcset=damaged.tlc type=image/x-trellic>"
        "<img id=fallback src=small.png></picture>"
    )
    for name in ("old", "fallback"):
        page.wait_for_function(f"{name}.dataset.trellic === 'error'", timeout=30_000)
    page.wait_for_function("fallback.complete && fallback.naturalWidth === 8")
    page.evaluate(
        "for (const id of ['one', 'two']) { const image = new Image(); image.id = id;"
        "image.alt = id; image.addEventListener('error', hear); image.src = 'damaged.tlc';"
        "document.body.append(image); }"
    )
    page.wait_for_function("heard.length === 2 && one.dataset.trellic === 'error'")
    page.wait_for_timeout(300)  # for events that should not come
    assert sorted(page.evaluate("heard")) == ["one", "two"]
    assert page.evaluate("[old.alt, old.complete, old.naturalWidth]") == ["a text", True, 0]
    told = [text for text in page.said if "damaged.tlc" in text]
    assert len(told) == 1
    assert "CorruptStream: the checksum of the file does not match" in told[0]


def test_a_preview_comes_first(pages, visit):
    pages.gates["/slow.tlc"] = threading.Event()
    page = visit(
        "<img id=it><script>window.loads = 0; it.onload = () => loads++;"
        "window.seen = []; new MutationObserver(() => seen.push(it.dataset.trellic))"
        ".observe(it, { attributeFilter: ['data-trellic'] })</script>"
    )
    page.evaluate("it.src = 'slow.tlc'")
    rough = "it.dataset.trellic === 'preview' && it.complete && it.naturalWidth"
    assert page.wait_for_function(rough, timeout=30_000).json_value() == WIDTH
    pages.gates["/slow.tlc"].set()
    shown(page, "#it")
    page.wait_for_function("loads === 1")
    assert page.evaluate("seen") == ["preview", "shown"]


def test_what_leaves_the_screen_is_cancelled(pages, visit):
    pages.gates["/slow.tlc"] = threading.Event()
    page = visit(
        "<div style='height: 5000px'></div><img id=below src=photo.tlc width=10 height=10>"
        "<div style='height: 5000px'></div>"
    )
    page.evaluate(
        "const top = '<img id=top width=9 height=9 src=slow.tlc>';"
        "document.body.insertAdjacentHTML('afterbegin', top)"
    )
    page.wait_for_function(
        "document.getElementById('top').dataset.trellic === 'preview'", timeout=30_000
    )
    assert page.evaluate("below.dataset.trellic === undefined")
    page.evaluate("below.scrollIntoView()")
    shown(page, "#below")
    pages.gates.pop("/slow.tlc").set()
    page.wait_for_timeout(200)  # in which it would have been decoded
    assert page.evaluate("document.getElementById('top').dataset.trellic") == "preview"
    page.evaluate("scrollTo(0, 0)")
    shown(page, "#top")


DECODE = """
async ([source, options]) => {
  const { decode } = await import('/web/client.js');
  try {
    const bitmap = await decode(source, options);
    return [bitmap.width, bitmap.height];
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
}
"""


def test_what_programs_call(visit):
    page = visit("")

    def decode(**options):
        return page.evaluate(DECODE, ["photo.tlc", options])

    assert decode() == [WIDTH, HEIGHT]
    assert decode(region=[10, 20, 31, 17]) == [31, 17]
    assert decode(decoder="preview") == [WIDTH // 8, HEIGHT // 8]
    assert decode(maxPixels=WIDTH * HEIGHT - 1).startswith("ImageTooLarge: the picture has")
    assert decode(decoder="sharp").startswith("UnknownDecoder: ")
    assert decode(region=[0, 0, WIDTH + 1, 1]).startswith("BadParameter: region")
    assert page.evaluate(DECODE, ["small.png", {}]).startswith("NotATrellicFile: ")
    assert page.evaluate(DECODE, ["missing.tlc", {}]).endswith("status 404")
    aborted = page.evaluate(
        "import('/web/client.js').then(({ decode }) => { const stop = new AbortController();"
        "const result = decode('photo.tlc', { signal: stop.signal }); stop.abort();"
        "return result.catch((error) => error.name) })"
    )
    assert aborted == "Cancelled"


def test_the_demo_page(pages, browser):
    """Files may be chosen before its script has arrived."""
    pages.gates["/web/demo.js"] = threading.Event()
    page = browser.new_page()
    page.goto(f"{pages.address}/web/demo.html", wait_until="commit")
    page.set_input_files("#file", [pages.root / "photo.tlc", pages.root / "small.png"])
    pages.gates.pop("/web/demo.js").set()
    page.wait_for_function(f"/^fast: {WIDTH} . {HEIGHT}, photo.tlc/.test(facts.textContent)")
    page.wait_for_function("other.textContent.startsWith('small.png')")
    page.set_input_files("#file", [pages.root / "damaged.tlc"])
    page.wait_for_function("said.textContent.includes('checksum of the file does not match')")
    page.close()


def test_a_second_visit_fetches_nothing_but_the_manifest(pages, visit):
    """With the service worker, whose scope here is the folder of the decoder."""
    name = "web/page.html"
    page = visit("<img id=it src=../photo.tlc>", query="?offline", name=name)
    page.wait_for_function("navigator.serviceWorker.controller")
    page.reload()
    shown(page, "#it")
    del pages.sent[:]
    page.reload()
    shown(page, "#it")
    fetched = {path for path, _ in pages.sent}
    assert fetched <= {f"/{name}", "/photo.tlc", "/web/model.json", "/web/service-worker.js"}
