"""``python -m benchmarks.web DIR``: the decoder for web pages, in Chromium.

``DIR`` is what ``trellic export MODEL --web DIR`` wrote. Measured are the sizes of what a page
fetches, the time to the first pictures of a page that nobody visited before, the time of a decode
when all is loaded, with one thread and with several, and how long the page's own thread was busy.
Beside wall time stands the processor time of all of the browser's processes, which says what one
core that does nothing else would take, even on a machine that does much else.
Needs playwright and a Chromium (``make web-tools``; ``apt-get install chromium``).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._machine import REPOSITORY, describe
from benchmarks._rows import Report
from benchmarks.web_server import Site, serving
from trellic.codec import Codec
from trellic.model.bundle import find_stream

SIZE = (768, 512)
COUNT = 6  # images of the page on which its own thread is watched
PAGE = """<!doctype html><meta charset=utf-8><link rel=icon href="data:,">
<script>
window.times = {};
const note = () => { for (const { dataset, id } of document.images)
  times[`${id} ${dataset.trellic}`] ??= performance.now(); };
new MutationObserver(note).observe(document,
  { subtree: true, attributeFilter: ['data-trellic'] });
window.long = [];
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) long.push(duration);
}).observe({ type: 'longtask', buffered: true });
</script>
%s
<script type=module src=/web/trellic.js></script>
"""
WARM = """
async ([decoder, repeats]) => {
  const { decode } = await import('/web/client.js');
  const bytes = new Uint8Array(await (await fetch('/photo.tlc')).arrayBuffer());
  const times = [];
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    (await decode(bytes, { decoder })).close();
    times.push(performance.now() - start);
  }
  return times;
}
"""


def processor_ms() -> float:
    """Processor time so far of the processes that this one started, and they, in turn."""
    parents, ticks = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # ended by now
            continue
        parents[int(entry.parent.name)] = int(fields[1])
        ticks[int(entry.parent.name)] = sum(map(int, fields[11:13]))
    ours, found = {os.getpid()}, set[int]()
    while ours:
        ours = {pid for pid, parent in parents.items() if parent in ours}
        found |= ours
    return 1000 * sum(ticks[pid] for pid in found) / os.sysconf("SC_CLK_TCK")


def sizes(site: Site) -> dict[str, Any]:
    """Bytes that the pages visited so far were sent, compressed where that is usual."""
    largest = sorted(dict(site.sent).items(), key=lambda entry: -entry[1])
    return {"bytes": sum(size for _, size in site.sent), "largest": dict(largest[:6])}


def cold(browser: Any, site: Site) -> dict[str, Any]:
    """Visit a page with one image, nothing kept from before."""
    del site.sent[:]
    context = browser.new_context()
    page = context.new_page()
    before = processor_ms()
    page.goto(f"{site.address}/one.html")
    page.wait_for_function("times['a shown'] && a.complete", timeout=120_000)
    times, took = page.evaluate("times"), processor_ms() - before
    context.close()
    preview = times.get("a preview")
    return {
        "preview_ms": preview and round(preview),
        "picture_ms": round(times["a shown"]),
        "processor_ms": round(took),
        **sizes(site),
    }


def warm(browser: Any, site: Site, decoder: str, repeats: int) -> dict[str, Any]:
    """Decode again and again."""
    page = browser.new_page()
    page.goto(f"{site.address}/empty.html")
    page.evaluate(WARM, [decoder, 1])
    before = processor_ms()
    times = page.evaluate(WARM, [decoder, repeats])
    took = (processor_ms() - before) / len(times)
    isolated = page.evaluate("crossOriginIsolated")
    page.close()
    return {
        "isolated": isolated,
        "least_ms": round(min(times)),
        "median_ms": round(statistics.median(times)),
        "processor_ms": round(took),
    }


def busy(browser: Any, site: Site) -> dict[str, Any]:
    """Longest tasks of the page's own thread while images are decoded."""
    page = browser.new_page()
    page.goto(f"{site.address}/many.html")
    last = f"times['i{COUNT - 1} shown'] && Object.keys(times).length >= {COUNT}"
    page.wait_for_function(last, timeout=120_000)
    long = page.evaluate("long")
    page.close()
    return {
        "images": COUNT,
        "tasks_over_50_ms": len(long),
        "longest_ms": round(max(long, default=0)),
    }


def prepare(folder: Path, root: Path, image: Path) -> list[str]:
    """Write pages and a stream; return the names of the decoders of full size."""
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    codec = Codec.load(str(find_stream(model["streamId"])), device="cpu", threads=1)
    with Image.open(image) as opened:
        pixels = np.asarray(opened.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))
    data = codec.encode(pixels)
    names = ["photo", *(f"i{i}" for i in range(COUNT))]
    for name in names:
        (root / f"{name}.tlc").write_bytes(data)
    many = "".join(f"<img id={name} src={name}.tlc width=200>" for name in names[1:])
    pages = {"one": "<img id=a src=photo.tlc>", "many": many, "empty": ""}
    for name, body in pages.items():
        text = PAGE % body if body else "<!doctype html><link rel=icon href='data:,'>"
        (root / f"{name}.html").write_text(text, encoding="utf-8")
    return [name for name, info in model["decoders"].items() if info["scale"] == 1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="that trellic export --web wrote")
    parser.add_argument("--image", type=Path, default=REPOSITORY / "samples" / "osprey.png")
    parser.add_argument("--repeats", type=int, default=20, help="decodes when all is loaded")
    parser.add_argument("--visits", type=int, default=3, help="of a page for the first time")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(arguments)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        root = Path(temporary)
        decoders = prepare(options.folder, root, options.image)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        head = {
            "machine": describe(["playwright"]),
            "load": os.getloadavg()[0],
            "chromium": browser.version,
            "size": SIZE,
        }
        report = Report(options.json, head)
        for isolated in (False, True):
            with serving({"/": root, "/web/": options.folder}, isolated=isolated) as site:
                site.compress_all()
                for visit in range(0 if isolated else options.visits):
                    report.measure("cold", {"visit": visit}, partial(cold, browser, site))
                for name in decoders:
                    work = partial(warm, browser, site, name, options.repeats)
                    report.measure("warm", {"decoder": name}, work)
                if not isolated:
                    report.measure("busy", {}, partial(busy, browser, site))
        browser.close()
    print(json.dumps(report.content, indent=1))


if __name__ == "__main__":
    main()
