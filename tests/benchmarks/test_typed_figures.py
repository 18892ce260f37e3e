"""Figures in the text of README and docs are those of the committed results, or of the code.

Tables between markers are drawn (`benchmarks.readme`); these sentences are typed, so each is
checked here against where its figures come from.
"""

from __future__ import annotations

import ast
import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from benchmarks.adapter_tables import rates
from benchmarks.runs import compare, load
from benchmarks.speed_tables import mean_times
from tests.benchmarks.pages import name_of, not_stated, result

from benchmarks import progressive_tables, readme
from trellic.geometry import Rectangle
from trellic.images import Picture
from trellic.model.bundle import Bundle, find
from trellic.pipeline import memory
from trellic.pipeline.header import header_of
from trellic.pipeline.layers import SPACING16
from trellic_data.batch.outputs import _ROW_GROUP
from trellic_export.proof import prove
from trellic_export.web.kernels import kernels
from trellic_serve import Settings


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


def ratios_of_other_codecs() -> list[str]:
    (one,) = [run for run in result("speed-kodak")["times"] if run["threads"] == 1]
    mean = mean_times(one["rows"])
    ours = "trellic:trellis=32:decoder=quality"
    bf16 = "trellic:trellis=32:precision=bf16:decoder=quality"
    others = [times["decode"] for codec, times in mean.items() if "trellic" not in codec]
    facts = []
    for codec in (ours, bf16):
        decode = mean[codec]["decode"]
        facts.append(f"{decode / max(others):.0f} to {decode / min(others):.0f} times as fast")
    (avif,) = [times["decode"] for codec, times in mean.items() if codec.startswith("avif")]
    stages = [stage["decode"] for stage in one["stages"] if stage["codec"] == ours]
    coding = np.mean([sum(one[k] for k in ("rans", "latents", "networks")) for one in stages])
    assert coding > avif
    return [*facts, "alone take longer than all of AVIF's decoder"]


def speed_of_convolutions() -> list[str]:
    rows = {row["name"]: row["gmac_per_s"] for row in result("peak")["rows"]}
    bare = [speed for name, speed in rows.items() if name.startswith("1x1")]
    floats = [speed for name, speed in rows.items() if name.endswith("fp32")]
    halves = [speed for name, speed in rows.items() if name.endswith("bf16")]
    return [
        f"bare 1x1 convolutions reach {min(bare):.0f} to {max(bare):.0f} GMAC/s",
        f"g_a and the decoders {min(floats):.0f} to {max(floats):.0f} in float32 and"
        f" {min(halves):.0f} to {max(halves):.0f} in bfloat16",
    ]


def losses_of_precisions() -> list[str]:
    found = result("precisions-kodak")["distortion"]
    lost = {kind: [one[kind]["lost_decoding"] for one in found] for kind in ("bf16", "int8")}
    ends = {kind: f"{min(values):.3f} to {max(values):.3f}" for kind, values in lost.items()}
    first, last = found[0]["quality"], found[-1]["quality"]
    return [
        f"loses {ends['bf16']} dB from quality {first:.0f} to {last:.0f}, `int8` {ends['int8']}"
    ]


def numbers_of_photos() -> list[str]:
    count = {n: len(result(f"rd-eye-{n}")["images"]) for n in ("kodak", "gb82", "validation")}
    return [
        f"Kodak has {count['kodak']} photos, and gb82 has {count['gb82']} clean ones",
        f"`validation` has {count['validation']} photos",
    ]


def service_under_load() -> list[str]:
    run = result("serve")
    encode, decode = (run["throughput"][way] for way in ("encode", "decode"))
    held = run["soak"]["resident_mb"]
    assert not {code for code in run["hostile"]["statuses"] if code.startswith("5")}
    assert run["restart"]["lost"] == 0
    assert (run["soak"]["seconds"], run["soak"]["busy"]) == (3600, 0)
    assert round(held[1]) == round(held[-1])
    fulls = [part["at_80_percent_evenly"] for part in (encode, decode)]
    waits = [full["p99_ms"] / full["p50_ms"] for full in fulls]
    assert max(waits) < 3
    assert min(part["share"] for part in (encode, decode)) > 0.9
    assert run["throughput"]["workers"] == run["throughput"]["cores"] == 2
    return [
        f"the soak's process held {held[-1]:.0f} MB with one worker",
        "over 90 % of the library's own",
        f"has a p99 of {encode['ideal_p99_over_p50']:.1f} times its p50 at this load",
        f"An hour's soak: {run['soak']['requests']:,} requests, none refused, and"
        f" {held[-1]:.0f} MB after the first tenth",
        f"Of {run['hostile']['requests']:,} hostile requests none got a 500",
    ]


def shares_of_bfloat16() -> list[str]:
    (one,) = [run for run in result("speed-kodak")["times"] if run["threads"] == 1]
    codecs = (
        "trellic:trellis=32:decoder=quality",
        "trellic:trellis=32:precision=bf16:decoder=quality",
    )
    plain, fast = (
        [
            np.mean([stage[way][name] for stage in one["stages"] if stage["codec"] == codec])
            for way, name in (("encode", "g_a"), ("decode", "g_s"))
        ]
        for codec in codecs
    )
    return [
        f"g_a takes {100 * fast[0] / plain[0]:.0f} % of its time and the decoder `quality`"
        f" {100 * fast[1] / plain[1]:.0f} %"
    ]


def limits_of_the_service() -> list[str]:
    made = Settings()
    assert made.max_pixels == 2**25
    return [
        f"A call has `--deadline` seconds ({made.deadline:.0f}), waiting included, `--max-pixels`"
        f" (2^25), `--max-memory` ({made.max_memory / 1e9:.0f} GB) and `--max-bytes`"
        f" ({made.max_bytes / 2**20:.0f} MiB)"
    ]


def files_of_a_cluster() -> list[str]:
    code = (readme.ROOT / "runtime/trellic_data/batch/run.py").read_text(encoding="utf-8")
    (line,) = (line for line in code.splitlines() if line.startswith("_BATCH = "))
    batch = ast.literal_eval(line.removeprefix("_BATCH = ").partition("  #")[0])  # without Ray
    most = batch["files"], batch["tar"]
    one, two, four = (row for row in result("scale")["rates"])
    gains = [two[way]["files_per_s"] / one[way]["files_per_s"] for way in ("encode", "decode")]
    assert all(four[way]["files_per_s"] < two[way]["files_per_s"] for way in ("encode", "decode"))
    return [
        f"encode {gains[0]:.1f} and decode {gains[1]:.1f} times as many files a second as one",
        f"(`--batch-size`: at most {most[0]}, or {most[1]:,} for shards, unless you say)",
        f"a parquet shard holds {_ROW_GROUP / 2**20:.0f} MB of results in memory",
    ]


def scores_of_qualities() -> list[str]:
    steps = [row for row in result("quality-scale")["scale"] if 30 <= row["quality"] <= 90]
    clean = ("eye-gb82", "eye-validation")
    off = [abs(row["sets"][name] - row["quality"]) for row in steps for name in clean]
    film = {row["quality"]: row["quality"] - row["sets"]["eye-kodak"] for row in steps}
    return [
        f"the score is within {max(off):.1f} points of the quality from 30 to 90",
        f"{film[30]:.0f} at quality 30 and {film[70]:.0f} at 70",
    ]


def gains_of_adapters() -> list[str]:
    sets = result("domains")["sets"]
    rows = [row for rows in sets.values() for row in rows]
    assert all(row["bytes"] < 150_000 for row in rows)
    names = ["medical_bccd", "frames_of_one_game", "aerial_mixed", "game3d_godot"]
    for name, own in zip(names, ((6, 4), (25, 20), (8, 6), (8, 6)), strict=True):
        assert all((row["adapted_to"], row["trained_on"]) == own for row in sets[name])
    names += [f"{what}, 10 minutes" for what in ("microscopy of blood", "frames of one game")]
    blood, frames, aerial, games, longer, more_frames = (
        [float(np.mean(rates(sets[name], "adapted", m))) for m in ("ssimulacra2", "psnr")]
        for name in names
    )
    return [
        f"need {-blood[0]:.1f} % fewer bits by SSIMULACRA 2 and {-blood[1]:.1f} % fewer by PSNR",
        f"need {-frames[0]:.1f} % fewer bits by SSIMULACRA 2 and {-frames[1]:.1f} % fewer by PSNR",
        f"need {aerial[0]:.1f} and {games[0]:.1f} % more bits by SSIMULACRA 2",
        f"needs {-longer[0]:.1f} % fewer bits by SSIMULACRA 2 and {-longer[1]:.1f} % fewer by PSNR,"
        f" frames {-more_frames[0]:.1f} and {-more_frames[1]:.1f} % fewer",
        f"{rows[0]['parameters']:,} parameters",
    ]


def bits_for_games() -> list[str]:
    codecs = {codec.spec: codec for codec in load(readme.RESULTS / "rd-game3d_godot.json")[1]}
    found = compare(codecs["trellic"], codecs["avif"], None).per_image
    return [f"needs {found:.0f} % more bits than AVIF on rendered games"]


def goals_of_the_browser() -> list[str]:
    run = result("web")
    assert max(visit["bytes"] for visit in run["cold"]) <= 3e6
    assert max(visit["preview_ms"] for visit in run["cold"]) <= 2000
    assert max(row["median_ms"] for row in run["warm"] if row["decoder"] == "fast") <= 500
    assert not any(row["tasks_over_50_ms"] for row in run["busy"])
    module = len(kernels())
    foreign = max(result("web_fuzz")["runs"], key=lambda one: one["counts"]["UnknownModel"])
    return [
        "These meet the goals: at most 3 MB for a first visit, a decode with `fast` in 500 ms, the"
        " first picture, a preview, within 2 s, and no task of the page's own thread over 50 ms.",
        f"four convolutions in WebAssembly, {module / 1e3:.0f} kB",
        f"For {foreign['minutes']} of the minutes, `out` was exported from another model",
    ]


def streams_of_the_kit() -> list[str]:
    refused = Counter("refuse" in case for case in _kit()["cases"])
    return [
        f"conformance kit, {refused.total()} streams",
        f"{refused[False]} good ones: z and latents by hash",
        f"{refused[True]} broken ones",
    ]


def streams_by_kind() -> list[str]:
    refused = Counter("refuse" in case for case in _kit()["cases"])
    return [
        f"holds {refused[False]} streams of a small model",
        f"holds {refused[True]} broken streams that must be refused",
    ]


def bounds_of_networks() -> list[str]:
    tiny = readme.ROOT / "tests" / "data" / "tiny.zip"
    largest = [
        max(prove(*network) for network in Bundle(path).networks.items())
        for path in (find("photo"), tiny)
    ]
    return [
        f"The largest bounds are {largest[0]:,} in `photo` and {largest[1]:,} in the tests' small"
        " model."
    ]


def _kit() -> Any:
    path = readme.ROOT / "tests" / "conformance" / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8"))


def goal_of_layers() -> list[str]:
    runs = [result(f"progressive-{name}") for name in ("kodak", "gb82")]
    lengths, first = (
        [
            [one for one, _ in run["summary"][kind][score][1:]]
            for run in runs
            for score in ("psnr", "ssimulacra2")
        ]
        for kind in ("layers", "weighed")
    )
    assert min(map(min, lengths)) > 12
    whole = progressive_tables.whole(readme.RESULTS).splitlines()
    costs = [row.split("|")[4:6] for row in whole if "`--progressive`" in row]
    found = [int(cell.strip().removesuffix(" %")) for row in costs for cell in row]
    assert max(found) < 12
    below = [(75 * 16 - space) / 16 for space in reversed(SPACING16)]
    return [
        f"The whole file meets it, with {min(found)} to {max(found)} %; no shorter length does.",
        f"From 40 % of the length on, layers need {min(map(min, lengths)):.0f} to"
        f" {max(map(max, lengths)):.0f} % more bits than a file made for the length, where layers"
        f" of the first kind needed {min(map(min, first)):.0f} to {max(map(max, first)):.0f} %.",
        f"three layers, of qualities {below[0]:.0f}, {below[1]:.0f} and 75",
    ]


def losses_of_generations() -> list[str]:
    rows = {(row["codec"], row["way"]): row for row in result("generations")["results"]}
    ours, plain, avif = (
        {way: np.array(rows[name, way]["psnr"]) for way in ("steady", "changing", "cropped")}
        for name in ("trellic:steady=1", "trellic", "avif")
    )
    lost = [one["steady"][0] - one["steady"] for one in (ours, plain, avif)]  # by round, from 0
    above = {way: ours[way] - avif[way] for way in ours}
    assert above["steady"][1:].min() > 0
    assert np.ptp(ours["steady"]) < 0.005  # nothing is lost
    assert round(above["cropped"][1], 1) == 0
    codecs = {one["spec"]: one["mean"] for one in result("rd-refined-kodak")["codecs"]}
    refined, best = (codecs[name][-1] for name in ("trellic:refine=1", "trellic"))
    assert (refined["quality"], best["quality"]) == (92, 100)
    yes = "with `--steady` yes:"
    return [
        f"lose nothing. An ordinary file loses {lost[1][1]:.1f} dB in the second round and"
        f" {lost[1][49]:.1f} dB",
        f"AVIF {lost[2][1]:.1f} and {lost[2][49]:.1f} dB",
        f"{yes} {above['steady'][1]:.1f} dB above AVIF in round 2, {above['steady'][49]:.1f} dB in",
        f"{yes} {above['changing'][1]:.1f} dB above AVIF in round 2, {above['changing'][9]:.1f} dB",
        f"{yes} equal in the first round after the crop, {above['cropped'][9]:.1f} dB above",
        f"({refined['ssimulacra2']:.1f} and {best['ssimulacra2']:.1f}), in"
        f" {100 * (1 - refined['bpp'] / best['bpp']):.0f} % fewer bits",
    ]


def photos_that_stand() -> list[str]:
    whole, cropped = (
        [row for row in result(name)["rows"] if row["steady"]]
        for name in ("standing", "standing-cropped")
    )
    moving = [row for row in whole if not row["same"]]
    assert {row["photo"] for row in moving} == {"kodim20.png", "baby.png", "night.png"}
    lost = sorted(row["psnr"][0] - row["psnr"][1] for row in moving)
    cut = [row for row in cropped if not row["same"]]
    most = max(row["psnr"][0] - row["psnr"][1] for row in cut)
    assert round(most, 2) <= 0.05
    standing = len(whole) - len(moving), len(cropped) - len(cut)
    goals = [
        f"{100 * found / len(rows):.0f} % ({found} of {len(rows)})"
        for found, rows in zip(standing, (whole, cropped), strict=True)
    ]
    return [
        f"{goals[0]} where sides are multiples of 64 pixels, {goals[1]} at odd sizes",
        f"In {len(whole) - len(moving)} of these {len(whole)} cases the file is the same.",
        f"{lost[0]:.2f} to {lost[-1]:.2f} dB are lost in the second round",
        f"{len(cropped) - len(cut)} of the {len(cropped)} give the same file, and the others lose"
        " at most 0.05 dB",
    ]


def time_of_standing() -> list[str]:
    rows = [row for name in ("standing", "standing-cropped") for row in result(name)["rows"]]
    slower = []
    for before, row in itertools.pairwise(rows):
        if row["steady"]:
            assert [row[key] for key in ("photo", "quality")] == [
                before[key] for key in ("photo", "quality")
            ]
            slower.append(row["seconds"][0] / before["seconds"][1])
    assert np.mean([20 <= one <= 200 for one in slower]) > 0.75
    return [f"up to {10 * round(max(slower) / 10)} times"]


def time_of_standing_on_its_page() -> list[str]:
    return [f"and {one} elsewhere" for one in time_of_standing()]


def grown(**kind: Any) -> float:
    """Return how many bytes a pixel a kind of file takes beyond an ordinary one."""
    side, model = 4096, Bundle(find("photo"))
    picture = Picture(np.broadcast_to(np.uint8(0), (side, side, 3)))
    plain, more = (
        memory.encoding(picture, model.manifest.layout, halo=0, tiled_h_a=True, **options)
        for options in ({}, kind)
    )
    return (more(memory.SIDES[0]) - plain(memory.SIDES[0])) / side**2


def memory_of_standing() -> list[str]:
    more = grown(still=True) - memory.NETWORK / 16  # a tile is a sixteenth of the picture
    return [f"Memory grows by {more:.0f} bytes a pixel."]


def memory_of_kinds() -> list[str]:
    network = memory.NETWORK / 16
    drawn = grown(drawn=True) - memory.STILL_ENCODING / 4
    return [
        f"+ {memory.LAYERED} per latent of one slice; {memory.LAYERED} in decoding, too",
        f"+ {grown(settled=True) - network:.0f} per pixel with `--refine`,"
        f" {grown(still=True) - network:.0f} with `--steady`; and {memory.NETWORK} per pixel of a"
        " tile",
        f"+ {drawn:.0f} per pixel of a picture that looks drawn, and {memory.STILL_ENCODING} per"
        f" pixel of one slice of 2048 x 2048 pixels; {memory.PATCH_DECODING} per pixel of one",
    ]


@pytest.mark.parametrize(
    ("page", "facts"),
    [
        ("README.md", times_of_the_readme),
        ("README.md", sizes_of_the_readme),
        ("docs/benchmarks.md", numbers_of_photos),
        ("docs/benchmarks.md", ratios_of_other_codecs),
        ("docs/benchmarks.md", speed_of_convolutions),
        ("docs/benchmarks.md", losses_of_precisions),
        ("docs/big-pictures.md", bounds_of_large_pictures),
        ("docs/big-pictures.md", memory_of_kinds),
        ("docs/browser.md", goals_of_the_browser),
        ("docs/browser.md", streams_of_the_kit),
        ("docs/deploy.md", service_under_load),
        ("docs/deploy.md", limits_of_the_service),
        ("docs/deploy.md", shares_of_bfloat16),
        ("docs/dither.md", prices_of_dithers_tables),
        ("docs/domains.md", gains_of_adapters),
        ("docs/model-photo-psnr.md", bits_for_games),
        ("docs/progressive.md", goal_of_layers),
        ("docs/quality.md", scores_of_qualities),
        ("docs/reliability.md", memory_over_many_pictures),
        ("docs/reliability.md", streams_by_kind),
        ("docs/reliability.md", bounds_of_networks),
        ("docs/saving-again.md", losses_of_generations),
        ("docs/saving-again.md", photos_that_stand),
        ("docs/saving-again.md", time_of_standing_on_its_page),
        ("docs/deploy.md", time_of_standing),
        ("docs/saving-again.md", memory_of_standing),
        ("docs/scale.md", files_of_a_cluster),
    ],
    ids=name_of,
)
def test_typed_figures_are_those_of_their_source(page, facts):
    assert not_stated(page, facts()) == []


def test_another_figure_is_noticed():
    (fact,) = memory_over_many_pictures()
    assert not_stated("docs/reliability.md", [fact.replace("holds", "held")])
