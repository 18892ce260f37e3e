"""Figures in the text of README and docs are those of the committed results, or of the code.

Tables between markers are drawn (`benchmarks.readme`); these sentences are typed, so each is
checked here against where its figures come from.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from benchmarks.speed_tables import mean_times

from benchmarks import readme
from trellic.geometry import Rectangle
from trellic.images import Picture
from trellic.model.bundle import Bundle, find
from trellic.pipeline import memory
from trellic.pipeline.header import header_of


def result(name: str) -> Any:
    return json.loads((readme.RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def times_of_the_readme() -> list[str]:
    (one,) = [run for run in result("speed-kodak")["times"] if run["threads"] == 1]
    mean = mean_times(one["rows"])
    names = {
        "Trellic": "trellic:trellis=32:decoder=quality",
        "Trellic, `--decoder fast`": "trellic:trellis=32:decoder=fast",
        "AVIF at speed 6": "avif:speed=6",
    }
    lines = []
    for name, codec in names.items():
        encode, decode = (1000 * mean[codec][way] for way in ("encode", "decode"))
        lines.append(f"| {name} | {encode:.0f} ms | {decode:.0f} ms |")
    return lines


def large_picture() -> Any:
    (large,) = [r for r in result("big")["results"] if round(r["megapixels"]) == 100]
    return large


def sizes_of_the_readme() -> list[str]:
    large = large_picture()
    peak = max(large[way]["peak_bytes"] for way in ("encode", "decode")) / 1e9
    (rate,) = [
        row["mean_curve"]["percent"]
        for row in result("rd-kodak")["bd_rates"]
        if (row["codec"], row["anchor"], row["score"])
        == ("trellic:decoder=quality:trellis=32", "avif", "psnr")
    ]
    return [
        f"A picture of 100 megapixels takes {peak:.1f} GB of memory.",
        f"It needs {-rate:.0f} % fewer bits than AVIF at equal PSNR on Kodak.",
        f"The package includes the model for photos ({find('photo').stat().st_size / 1e6:.0f} MB).",
    ]


def bounds_of_large_pictures() -> list[str]:
    side, model = 10_000, Bundle(find("photo"))
    manifest = model.manifest
    layout, decoder = manifest.layout, manifest.decoders["quality"]
    blank = Picture(np.broadcast_to(np.uint8(0), (side, side, 3)))
    halo = -(-manifest.encoder.halo // layout.stride)
    tiled = manifest.hyper_encoder.halo > 0
    encoding = memory.encoding(blank, layout, halo=halo, tiled_h_a=tiled)(memory.SIDES[0])
    header = header_of(model, (side, side), 16 * 75, 32, [32] * 100, grey=False)
    whole, read = Rectangle(0, 0, side, side), decoder.channels or layout.latents
    graph = decoder.graph
    decoding = memory.decoding(header, whole, read, halo=graph.halo, alpha=False)(memory.SIDES[0])
    pixels = side**2
    file = large_picture()["source_bytes"]
    most = max(encoding, memory.reading(pixels, file, deep=False))
    made = max(decoding, memory.writing(pixels, ".png", alpha=False))
    return [
        f"A picture of 100 megapixels takes at most {most / 1e9:.1f} GB to encode and"
        f" {made / 1e9:.1f} GB to decode."
    ]


def memory_over_many_pictures() -> list[str]:
    held = result("soak")["resident_mb"]
    return [
        f"holds {held[0]:.0f} MB after the first hundred, {held[1]:.0f} MB after the second, and"
        f" {held[-1]:.0f} MB after the last."
    ]


def prices_of_dithers_tables() -> list[str]:
    found = result("dither")
    over = {int(n): 1 + share / 100 for n, share in found["excess_of_the_source_percent"].items()}
    least = found["rows"][0]["tables"]
    return [
        f"would take {100 * (over[1] / over[16] - 1):.0f} % more bits on a mixed Gaussian source,"
        f" and {100 * (least['1'] / least['16'] - 1):.0f} % more at its smallest deviation",
        f"would save another {100 * (over[16] - over[64]):.1f} %.",
    ]


@pytest.mark.parametrize(
    ("page", "facts"),
    [
        ("README.md", times_of_the_readme),
        ("README.md", sizes_of_the_readme),
        ("docs/big-pictures.md", bounds_of_large_pictures),
        ("docs/reliability.md", memory_over_many_pictures),
        ("docs/dither.md", prices_of_dithers_tables),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_typed_figures_are_those_of_their_source(page, facts):
    text = " ".join((readme.ROOT / page).read_text(encoding="utf-8").split())
    assert [fact for fact in facts() if fact not in text] == []
