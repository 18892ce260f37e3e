"""What the experiments of docs/experiments measure: their arithmetic, on known inputs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.bdrate import bd_rate
from benchmarks.borders import Coder, cost, distance, mosaic, seams
from benchmarks.borders_tables import FAR, dependence, summary
from benchmarks.laplacian import EXPONENTS, Fit, code_length, entropy_and_error, shrink
from benchmarks.latent_labels import places, right, train
from benchmarks.perception import by_model, markdown, means
from benchmarks.video import report

from benchmarks import drift, recognition
from trellic import bitstream
from trellic.codec import Codec
from trellic.geometry import Rectangle

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TINY = str(Path(__file__).parents[1] / "data" / "tiny.zip")
RNG = np.random.default_rng(5)


def photo(height=96, width=128):
    y, x = np.mgrid[:height, :width]
    plane = 128 + 60 * np.sin(x / 9) * np.cos(y / 7) + RNG.normal(0, 6, (height, width))
    return np.clip(np.stack([plane, plane + 10, 255 - plane], 2), 0, 255).astype(np.uint8)


# ---- perception at a fixed rate ----


def test_decoders_of_one_model_share_its_file():
    assert by_model("a:fast,b.zip:x:0.5,a:quality") == {
        "a": ["fast", "quality"],
        "b.zip": ["x:0.5"],
    }
    with pytest.raises(ValueError, match="MODEL:DECODER"):
        by_model("photo")


def test_rates_are_told_apart():
    row = {"image": "a", "coder": "m:fast", "bpp": 0.2}
    rows = [row | {"rate": r, "scores": {"psnr": 10 * r, "cvvdp": 9}} for r in (2.0, 1.0, 1.0)]
    lines = markdown({"rows": rows}).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 1 | `m:fast` | 0.200 | 10.00 | 9.000")


# ---- densities ----


@pytest.mark.parametrize(("draw", "exponent"), [(RNG.normal, 2.0), (RNG.laplace, 1.0)])
def test_the_family_that_samples_come_from_fits_best(draw, exponent):
    k = np.rint(draw(0, 3, 60_000)).astype(np.int64)
    lengths = {e: code_length(k, e) for e in EXPONENTS}
    assert min(lengths, key=lengths.get) == pytest.approx(exponent, abs=0.11)
    bits, _ = entropy_and_error([k.astype(float)])
    assert bits < lengths[min(lengths, key=lengths.get)] / len(k) < bits + 0.02


def test_shrinkage_of_laplace_leaves_laplace_and_zeros():
    t = RNG.laplace(0, 2, 100_000)
    shrunk = shrink(t, 1.0)
    assert (shrunk == 0).mean() == pytest.approx(1 - np.exp(-0.5), abs=0.01)
    assert np.abs(shrunk[shrunk != 0]).mean() == pytest.approx(2, abs=0.05)
    plain, wide = entropy_and_error([t]), entropy_and_error([t], 0.3)
    assert wide[0] < plain[0]
    assert wide[1] > plain[1]


# ---- drift ----


def test_parts_of_the_error_add_up_and_are_what_they_say():
    one = photo()
    noise = RNG.normal(0, 5, one.shape)
    shifted = np.clip(one.astype(int) + 3, 0, 255).astype(np.uint8)
    mean = one.reshape(6, 16, 8, 16, 3).mean((1, 3)).repeat(16, 0).repeat(16, 1)
    flat = np.clip(mean + 0.7 * (one - mean), 0, 255).astype(np.uint8)
    noisy = np.clip(one + noise, 0, 255).astype(np.uint8)
    largest_part = {"shift": shifted, "lost detail": flat, "new detail": noisy}
    for name, other in largest_part.items():
        found = drift.parts(one, other)
        assert sum(found[part] for part in drift.PARTS) == pytest.approx(found["mse"])
        assert max(drift.PARTS, key=found.get) == name
        assert found[name] > 0.8 * found["mse"]
    assert drift.parts(one, flat)["strength"] == pytest.approx(0.7, abs=0.02)
    assert drift.parts(one, one)["mse"] == 0


def test_the_first_round_is_what_the_codec_makes():
    pixels = photo()
    rounds = drift.Rounds(TINY, 60)
    kept = rounds.run(pixels, drift.Loop(8, keep_hyper=True), 2)
    codec = Codec.load(TINY, device="cpu", threads=1)
    decoded = codec.decode(codec.encode(pixels, quality=60, trellis=8))
    assert kept[0]["mse"] == pytest.approx(drift.parts(pixels, decoded)["mse"])
    assert "latents changed" in kept[1]
    assert "latents changed" not in kept[0]


# ---- recognition ----


@pytest.mark.slow("networks and a search, as often as latents are recovered")
def test_recovered_latents_are_compared_with_those_of_the_file():
    seen = recognition.Recognition(TINY, 60, 8)
    rounds, rows = seen.measure(photo())
    assert len(rounds) == recognition.ROUNDS + 1
    assert np.mean(rounds[-1]["latents"]) < np.mean(rounds[0]["latents"])
    plane = seen.layout.plane(*photo().shape[1::-1])
    assert sum(row["latents"] for row in rows) == seen.layout.latents * np.prod(plane.latents)
    skipped = [row for row in rows if not row["from"]]
    assert all(row["on_mean"] == row["latents"] > 0 for row in skipped)
    assert any(row["on_mean"] < row["latents"] for row in rows)
    assert (rounds[-1]["hyper_latents_wrong"] > 0) == any(row["moved2"] for row in rows)


def test_latents_are_sorted_by_step_and_scale_index():
    moved, scale = np.array([0.1, 0.2, -2.0, 0.5]), np.array([0, 11, 12, 0], np.uint8)
    first, on_mean = np.array([True, True, True, False]), np.array([True, False, False, True])
    rows = recognition.classes(moved, np.full(4, 0.5), on_mean, scale, first)
    found = {(row["step"], row["from"]): row for row in rows if row["latents"]}
    assert set(found) == {("first", 0), ("first", 1), ("first", 12), ("later", 0)}
    assert found["first", 12]["moved2"] == 4
    assert [found[key]["known"] for key in found] == [1, 1, 0, 0]
    twice = recognition.summed([rows, rows])
    assert sum(row["latents"] for row in twice) == 8
    drawn = recognition.markdown({"classes": twice})
    assert "| first | 12 to 19 | 25.0 % | 0 % | 0.500 | 2.000 | 0.0 % |" in drawn


# ---- slices ----


def test_bits_of_symbols_are_those_of_the_file():
    pixels, coder = photo(128), Coder(TINY, 70, 8)
    codec = Codec.load(TINY, device="cpu", threads=1)
    segments = bitstream.read(codec.encode(pixels, quality=70, trellis=8)).segments
    whole, cut = coder.code(pixels, (1 << 16, 4))
    assert whole.bits.sum() / 8 == pytest.approx(sum(map(len, segments[1:])), abs=24)
    assert len(whole.grid) == 1
    assert len(cut.grid) == 4
    assert seams(pixels, cut, cut, 16)["error"] == 1


def test_escapes_cost_their_digits():
    tables = Codec.load(TINY, device="cpu").bundle.tables
    k, cls = np.array([0, 30000]), np.zeros(2, np.uint8)
    bits = cost(k, cls, np.zeros(2, np.uint8), tables)
    most = tables.sizes[0] // 2 - 1
    escape = tables.rates()[tables.start[0] + tables.sizes[0] - 1] / 64
    assert bits[1] == pytest.approx(escape + 2 * int(30000 - most).bit_length())
    assert bits[0] < 1


def test_distances_and_what_waits_for_what():
    away = distance([Rectangle(0, 4, 0, 4), Rectangle(0, 4, 4, 8)], (4, 8))
    assert away[0].tolist() == [3, 2, 1, 0, 0, 1, 2, 3]
    assert dependence(1, 5) == {"at once": 1.0, "for one": 3.0}
    assert dependence(2, 2) == {"at once": 4 / 3, "for one": 9 / 4}
    assert FAR > 4  # farther than context networks see


def test_a_mosaic_has_no_seam_where_slices_may_have_borders():
    picture = mosaic([np.full((512, 600, 3), 50 * i, np.uint8) for i in range(5)])
    assert picture.shape == (1024, 1024, 3)
    edges = np.flatnonzero(np.diff(picture[0, :, 0].astype(int)) != 0) + 1
    assert edges.tolist() == [128, 640]
    assert all(edge % 256 for edge in edges)
    with pytest.raises(ValueError, match="512"):
        mosaic([np.zeros((100, 600, 3), np.uint8)])


# ---- labels ----


def test_places_are_blocks_and_a_head_learns_what_they_show():
    pixels = photo(32, 48)
    planes = places(pixels)
    assert planes.shape == (768, 2, 3)
    assert np.array_equal(planes[:, 1, 2].reshape(16, 16, 3), pixels[16:32, 32:48])
    labels = np.arange(128) % 2
    shown = RNG.normal(0, 1, (128, 6, 1, 2)) + 3 * labels[:, None, None, None]
    head = train(shown, labels, 10)
    assert right(head, shown, labels).mean() > 0.9


# ---- what the pages say of the results ----


def result(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_what_the_page_of_perception_says():
    found = means(result("perception"))
    before = "photo-psnr-before:perceptual"
    for rate in (0.25, 0.75):
        eye, error = found[rate, "photo:quality"], found[rate, "photo-psnr:quality"]
        assert error["psnr"] - eye["psnr"] > 0.5
        assert eye["ssimulacra2"] - error["ssimulacra2"] > 8
        assert eye["cvvdp"] > error["cvvdp"]
        assert eye["sliced_wasserstein"] == pytest.approx(error["sliced_wasserstein"], rel=0.02)
        whole, half = found[rate, before], found[rate, f"{before}:0.5"]
        assert 0 < error["psnr"] - whole["psnr"] < 0.1
        assert whole["sliced_wasserstein"] < 0.9 * error["sliced_wasserstein"]
        assert abs(whole["ssimulacra2"] - error["ssimulacra2"]) < 1
        for score in ("psnr", "sliced_wasserstein"):
            assert whole[score] < half[score] < error[score]
        for model in ("photo", "photo-psnr"):
            for score in ("psnr", "ssimulacra2", "cvvdp", "sliced_wasserstein"):  # less in all
                assert found[rate, f"{model}:fast"][score] < found[rate, f"{model}:quality"][score]


def test_what_the_page_of_video_says():
    record = result("video")
    better = {}
    for clip in ("pan", "scene"):
        found = report.curves(record, clip)
        ours = found[report.LOOPED]
        assert bd_rate(ours, found["Trellic, every frame"]).percent < -67  # under a third
        assert bd_rate(ours, found["H.264"]).percent > 100  # H.264: less than half
        assert bd_rate(found["Trellic, every frame"], found[report.ANCHOR]).percent < 0
        better[clip] = bd_rate(ours, found["MPEG-4"]).percent < 0
    assert better == {"pan": True, "scene": False}
    looped = [row["kinds"] for row in record["rows"] if row["codec"] == report.LOOPED]
    assert all(row["own"] == 0 for row in looped)
    assert sum(row["skip"] for row in looped) > sum(row["residual"] for row in looped)


def test_what_the_page_of_drift_says():
    loops = result("drift")["loops"]
    first, last = ({name: made[i]["mse"] for name, made in loops.items()} for i in (0, -1))
    assert min(first, key=first.get) == max(last, key=last.get) == "transforms alone"
    growth = {name: last[name] - first[name] for name in loops}
    alone = loops["transforms alone"]
    assert alone[-1]["new detail"] - alone[0]["new detail"] > 0.9 * growth["transforms alone"]
    assert growth["rounding, hyper-latents kept"] < 0.5 * growth["rounding"]
    kept = loops["32 states, hyper-latents kept"][-1]
    assert kept["latents changed"] < 0.001
    coarse = drift.PARTS[:3]
    for name, larger_part in (("RDOQ", True), ("32 states", False)):
        grown = sum(loops[name][-1][part] - loops[name][0][part] for part in coarse)
        assert (grown > growth[name] / 2) == larger_part
    lost = {n: m[-1]["lost detail"] - m[0]["lost detail"] for n, m in loops.items()}
    quantized = {n: value for n, value in lost.items() if n != "transforms alone"}
    assert lost["32 states"] > 10 * max(v for n, v in quantized.items() if n != "32 states")


def test_what_the_page_of_slices_says():
    found = list(summary(result("borders")))
    assert max(one["more"] for one in found if one["side"] == 64) < 0.0025
    assert min(one["best"] for one in found if one["side"] == 64) > -0.002
    assert all(one["before"] > 0 for one in found)
    assert all(one["error"] < 1.0205 for one in found)  # 0.1 dB
    assert all(one["jump"] < one["original"] for one in found)


def test_what_the_page_of_shrinkage_says():
    rows = [Fit(**row) for row in result("laplacian")["rows"]]
    for model in ("photo", "photo-psnr"):
        plain, *shrunk = [r for r in rows if (r.model, r.latents) == (model, "channels")]
        assert plain.exponent < 1
        assert plain.laplace < plain.gauss / 2
        assert all(r.laplace / r.bits > plain.laplace / plain.bits for r in shrunk)
        plain, *shrunk = [r for r in rows if (r.model, r.latents) == (model, "predicted")]
        assert 1 < plain.exponent < 2
        assert shrunk[0].laplace / shrunk[0].bits < plain.laplace / plain.bits
        assert max(r.gain_db for r in shrunk) < 0.1
        assert shrunk[-1].gain_db < 0


def test_pages_of_the_experiments_are_listed():
    root = Path(__file__).parents[2]
    listed = (root / "docs/experiments/README.md").read_text(encoding="utf-8")
    nav = (root / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (root / "docs/experiments").glob("*.md"):
        if page.name != "README.md":
            assert re.search(rf"\({page.name}\)", listed), page.name
            assert f"experiments/{page.name}" in nav


def test_what_the_page_of_decoders_says_of_texture():
    found = means(result("texture"))
    for rate in (0.15, 0.5):
        base, half, whole = (
            found[rate, f"photo:{name}"] for name in ("quality", "texture:0.5", "texture")
        )
        assert half["sliced_wasserstein"] < 0.8 * base["sliced_wasserstein"]
        assert abs(half["ssimulacra2"] - base["ssimulacra2"]) < 0.1
        assert 0 < base["psnr"] - half["psnr"] < 0.2
        assert base["psnr"] - whole["psnr"] < 1
