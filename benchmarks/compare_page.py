"""Photograph the page that ``trellic compare`` makes, for the README.

::

    python -m benchmarks.compare_page samples/osprey.png page.png
    python -m benchmarks.compare_page samples/osprey.png docs/plots/service-page.jpg --service

With ``--service``, ``trellic serve`` is started, and the photo is dropped on its page.
Needs playwright and a Chromium (``pip install playwright``; ``apt-get install chromium`` or
``playwright install chromium``).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serve import Service, listening

SIZE = {"width": 1180, "height": 1075}  # pixels of the window
VIEW = "560px"  # height of the pictures, so that the table fits below


def photograph(page_file: Path, target: Path, left: str, zooms: int, colours: str) -> None:
    """Open a page in Chromium, choose the left picture, zoom in, and save what is seen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme=colours)
        page.goto(page_file.resolve().as_uri())
        page.add_style_tag(content=f"#view {{ height: {VIEW} }}")
        page.get_by_label("Left").select_option(left)
        page.get_by_role("button", name="Fit").click()
        for _ in range(zooms):
            page.get_by_role("button", name="Zoom in").click()
        # Not wait_for_function, which needs eval inside of the page; its policy forbids that.
        page.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        page.wait_for_timeout(300)  # until the pictures are painted
        page.screenshot(path=target)
        browser.close()


def photograph_service(photo: Path, target: Path, quality: float, colours: str) -> None:
    """Start the service, compare a photo on its page in Chromium, and save what is seen."""
    from playwright.sync_api import sync_playwright

    with listening() as place, sync_playwright() as playwright:
        service = Service(place, 1, photo.parent)
        try:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE, color_scheme=colours)
            page.goto(f"http://127.0.0.1:{service.port}/")
            page.locator("#quality").fill(str(round(quality)))
            page.set_input_files("#photo", photo)
            page.frame_locator("#result").locator("tr.ours").wait_for(timeout=180_000)
            page.wait_for_timeout(1000)  # until the pictures are painted
            page.screenshot(path=target)
            browser.close()
        finally:
            service.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page and photograph it; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.service:
        photograph_service(options.photo, options.target, options.quality, options.colours)
        print(f"wrote {options.target}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        command = [sys.executable, "-m", "trellic", "compare", options.photo, "--out", page]
        done = subprocess.run([*command, "--quality", str(options.quality)])
        if done.returncode:
            return done.returncode
        photograph(page, options.target, options.left, options.zooms, options.colours)
    print(f"wrote {options.target}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_page", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("photo", type=Path)
    add("target", type=Path, metavar="OUT.png")
    add("--quality", type=float, default=30.0)
    add("--left", default="JPEG", help="the picture on the left; Trellic is on the right")
    add("--zooms", type=int, default=1, help="how often to zoom in, by half each time")
    add("--colours", choices=("light", "dark"), default="light")
    add("--service", action="store_true", help="the page of trellic serve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
