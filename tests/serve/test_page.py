"""The page at ``/``, and what it asks for."""

from __future__ import annotations

import re
import shutil

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import picture_file
from tests.serve.test_coding import problem

from trellic.cli import rivals
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic_export.web import export_web
from trellic_serve import page
from trellic_serve.app import create_app
from trellic_serve.settings import Settings


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"https?:|//[a-z]|url\(|@import", answer.text)
    assert set(re.findall(r'find\("([a-z]+)"\)', answer.text)) <= set(
        re.findall(r'id="([a-z]+)"', answer.text)
    )


def test_the_demo_of_the_browser_decoder(client, tiny_path, tmp_path):
    """Linked and served where `trellic export --web` wrote a folder, and not elsewhere."""
    assert page.DEMO not in client.get("/").text
    problem(client.get("/web/demo.html"), 404, "NotFound")
    export_web(Bundle(tiny_path), tmp_path / "web")
    settings = Settings(models=(str(tiny_path),), device="cpu", web=tmp_path / "web")
    with TestClient(create_app(settings)) as other:
        assert page.DEMO in other.get("/").text
        demo = other.get("/web/demo.html")
        assert (demo.status_code, "demo.js" in demo.text) == (200, True)
        kernels = other.get("/web/kernels.wasm")
        assert kernels.headers["content-type"] == "application/wasm"
        assert kernels.content[:4] == b"\0asm"
        problem(other.get("/web/../settings.py"), 404, "NotFound")
    with pytest.raises(BadParameter, match=r"no demo.html in .*trellic export photo --web"):
        Settings(web=tmp_path)


def test_a_photo_is_compared(client, photo, monkeypatch):
    monkeypatch.setattr(rivals, "installed", lambda: [next(rivals._jpeg())])
    answer = client.post("/compare?quality=30", content=photo)
    assert answer.status_code == 200, answer.text
    names = re.findall(r'<img alt="([^"]+)"', answer.text)
    assert names == ["Original", "Trellic", "JPEG"]
    problem(client.post("/compare", content=b"none"), 415, "NotAPicture")
    monkeypatch.setattr(page, "MAX_PIXELS", 100)
    problem(client.post("/compare", content=photo), 413, "ImageTooLarge")


@pytest.mark.browser
@pytest.mark.slow("Chromium opens the page of a service and drops a photo on it")
def test_in_a_browser(tmp_path, tiny_path, monkeypatch):
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium") or pytest.skip("no Chromium")
    from tests.serve.test_server import Process

    from trellic_serve import server

    place = server.listen("127.0.0.1", 0, 5)
    service = Process(tiny_path, place)
    (tmp_path / "photo.png").write_bytes(picture_file())
    (tmp_path / "no.png").write_bytes(b"none")
    try:
        service.wait_for('"ready"')
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox"]
            )
            shown = browser.new_page()
            faults = []
            shown.on("pageerror", lambda fault: faults.append(fault))
            shown.goto(f"http://127.0.0.1:{service.port}/")
            shown.set_input_files("#photo", tmp_path / "no.png")
            sync_api.expect(shown.locator("#state.wrong")).to_contain_text("expected a PNG")
            shown.set_input_files("#photo", tmp_path / "photo.png")
            frame = shown.frame_locator("#result")
            sync_api.expect(frame.locator("tr.ours")).to_be_visible(timeout=60_000)
            sync_api.expect(shown.locator("#state")).to_have_text("Done.")
            frame.locator("#view").wait_for()
            shown.screenshot(path=tmp_path / "page.png")
            browser.close()
        assert faults == []
        assert service.end() == 0
    finally:
        place.close()
        service.process.kill()
