"""The benchmark from folder to table, on a codec made for the test."""

import argparse
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.codecs import CodecUnavailableError, Pixels, Spec, SpecError
from benchmarks.compare_picture import at_least, draw, panels, parse_box
from benchmarks.labels import label
from benchmarks.runs import Measured, Point, compare, load
from PIL import Image

from benchmarks import bootstrap, codecs, measure, plan, published, rd, scores, tables


class Coarse:
    """Rounds samples to steps; the file is their deflated bytes, more bits the finer."""

    ladder = (1, 2, 3, 4, 5)

    def __init__(self, padding: str = "0") -> None:
        self.settings = {"padding": int(padding)}
        self.versions = {"coarse": "1"}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        shift = 8 - round(quality)
        height, width = pixels.shape[:2]
        head = bytes([shift, height, width])
        return head + zlib.compress((pixels >> shift).tobytes()) + bytes(self.settings["padding"])

    def decode(self, data: bytes) -> Pixels:
        shift, height, width = data[:3]
        raw = zlib.decompressobj().decompress(data[3:])
        samples = np.frombuffer(raw, np.uint8).reshape(height, width, 3).astype(np.int32)
        return ((samples << shift) + (1 << shift) // 2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small pictures, and the test codec under the names jpeg and webp."""

    def make(spec: Spec) -> Coarse:
        return Coarse("200" if spec.name == "jpeg" else "0")

    monkeypatch.setattr(rd, "make", make)
    monkeypatch.setattr(measure, "make", make)
    measure._codec.cache_clear()
    images = tmp_path / "photos"
    images.mkdir()
    rng = np.random.default_rng(5)
    for number in range(3):
        ramp = np.add.outer(np.arange(40) * 3, np.arange(48) * 2)[..., None] + [0, 20, 40]
        pixels = (ramp + rng.normal(0, 4 + number, ramp.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    return images


def arguments(folder: Path, *more: str) -> list[str]:
    out = folder.parent / "rd.json"
    return ["--images", str(folder), "--codecs", "jpeg,webp", "--out", str(out), "--no-plot", *more]


def test_a_run_measures_whole_files_and_writes_them_down(folder: Path) -> None:
    assert rd.main(arguments(folder)) == 0
    head, (jpeg, webp) = load(folder.parent / "rd.json")
    assert [image["name"] for image in head["images"]] == ["0.png", "1.png", "2.png"]
    assert head["machine"]["cores"] >= 1
    assert len(jpeg.points) == len(webp.points) == 15
    original = measure.read_pixels(folder / "1.png")
    data = Coarse("200").encode(original, 3)
    point = next(p for p in jpeg.points if p.image == "1.png" and p.quality == 3)
    assert point.bytes == len(data)
    assert point.bpp == pytest.approx(8 * len(data) / (40 * 48), abs=1e-6)
    error = original.astype(float) - Coarse().decode(data)
    assert point.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=1e-6)
    text = (folder.parent / "rd.json").read_text()
    assert str(folder) not in text  # results name no folders of a machine


def test_the_cheaper_codec_wins_and_negative_is_better(folder: Path) -> None:
    rd.main(arguments(folder))
    head, _ = load(folder.parent / "rd.json")
    rates = {(row["codec"], row["anchor"]): row for row in head["bd_rates"]}
    won = rates["webp", "jpeg"]
    assert won["mean_curve"]["percent"] < -3
    assert won["per_image"] == pytest.approx(won["mean_curve"]["percent"], abs=3)
    assert rates["jpeg", "webp"]["mean_curve"]["percent"] > 3
    low, high = won["ci95"]
    assert low < won["per_image"] < high
    assert won["images"] == 3
    page = (folder.parent / "rd.md").read_text()
    assert f"{won['mean_curve']['percent']:+.1f}" in page
    assert "RGB PSNR" in page


def test_reuse_takes_over_what_has_not_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rd.main(arguments(folder))
    first = load(folder.parent / "rd.json")[1]
    done = []
    run = measure.run_task
    monkeypatch.setattr(
        measure, "run_task", lambda task, report: done.append(task) or run(task, report)
    )
    reuse = ["--reuse", str(folder.parent / "rd.json")]
    assert rd.main(arguments(folder, *reuse, "--quality", "webp=1,2,2.6")) == 0
    assert {(task.spec.name, task.points) for task in done} == {
        ("webp", (measure.Wanted(2.6, ("psnr",)),))
    }
    second = load(folder.parent / "rd.json")[1]
    assert second[0] == first[0]
    assert len(second[1].points) == 9


def test_several_runs_are_joined(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("webp", "jpeg"):
        more = ["--codecs", name, "--anchors", name, "--out", str(folder.parent / f"{name}.json")]
        assert rd.main(arguments(folder, *more, "--quality", "jpeg=2,4")) == 0
    monkeypatch.setattr(measure, "run_task", lambda task, report: pytest.fail("measured anew"))
    more = ["--anchors", "webp", "--quality", "jpeg=2,4"]
    for name in ("webp", "jpeg"):
        more += ["--reuse", str(folder.parent / f"{name}.json")]
    assert rd.main(arguments(folder, *more)) == 0
    _, joined = load(folder.parent / "rd.json")
    assert {one.spec: len(one.points) for one in joined} == {"webp": 15, "jpeg": 6}


def test_a_codec_with_options_may_have_a_ladder_of_its_own() -> None:
    found = plan.ladders(["avif:speed=3=10,20", "avif=1,2"])
    assert found == {"avif:speed=3": (10.0, 20.0), "avif": (1.0, 2.0)}


def test_a_broken_run_can_be_taken_up_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measure.run_task

    def broken(task: measure.Task, report: Callable[[], None]) -> list[Point]:
        if task.spec.name == "webp" and task.image.name == "1.png":
            raise KeyboardInterrupt
        return run(task, report)

    monkeypatch.setattr(measure, "run_task", broken)
    with pytest.raises(KeyboardInterrupt):
        rd.main(arguments(folder))
    assert not (folder.parent / "rd.json").exists()
    partial = folder.parent / "rd.partial.json"
    _, finished = load(partial)
    assert [(one.spec, len(one.images())) for one in finished] == [("jpeg", 3), ("webp", 1)]
    monkeypatch.setattr(measure, "run_task", run)
    assert rd.main(arguments(folder, "--reuse", str(partial))) == 0
    assert load(folder.parent / "rd.json")[1][0] == finished[0]
    assert not partial.exists()


def test_a_picture_that_changed_is_measured_again(folder: Path) -> None:
    rd.main(arguments(folder))
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(folder / "1.png")
    earlier = plan.Earlier([folder.parent / "rd.json"], measure.find_images(folder))
    points = earlier.points(Measured("jpeg", Coarse("200").settings, Coarse().versions))
    assert {image for image, _ in points} == {"0.png", "2.png"}
    assert not earlier.points(Measured("jpeg", Coarse("200").settings, {"coarse": "2"}))


def test_a_score_that_is_missing_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rd.main(arguments(folder))
    dark = scores.Score("Dark", "dark", lambda _, decoded: 255.0 - decoded.mean(), float, str)
    monkeypatch.setitem(scores.SCORES, "ms_ssim", dark)
    reuse = ["--reuse", str(folder.parent / "rd.json"), "--metric-every", "2"]
    monkeypatch.setattr(scores, "parse", lambda _: ("psnr", "ms_ssim"))
    assert rd.main(arguments(folder, *reuse)) == 0
    head, (jpeg, _) = load(folder.parent / "rd.json")
    assert {p.quality for p in jpeg.points if p.ms_ssim is not None} == {1, 3, 5}
    assert len(jpeg.curve("0.png", "ms_ssim").bpp) == 3
    assert {row["score"] for row in head["bd_rates"]} == {"psnr", "ms_ssim"}


def test_only_the_scores_that_are_missing_are_computed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def counting(name: str) -> scores.Score:
        def compute(_: Pixels, decoded: Pixels) -> float:
            computed.append(name)
            return 255.0 - decoded.mean()

        return scores.Score(name, name, compute, float, lambda: None)

    for name in ("haarpsi", "flip"):
        monkeypatch.setitem(scores.SCORES, name, counting(name))
    out = folder.parent / "rd.json"
    assert rd.main(arguments(folder, "--metrics", "flip")) == 0
    first = load(out)[1]
    computed.clear()
    assert rd.main(arguments(folder, "--metrics", "flip,haarpsi", "--reuse", str(out))) == 0
    assert computed == ["haarpsi"] * 30
    second = load(out)[1]
    assert [p.flip for p in second[0].points] == [p.flip for p in first[0].points]
    assert all(p.haarpsi is not None for p in second[0].points)


def test_a_file_of_another_size_is_scored_whole() -> None:
    wanted = measure.Wanted(2, ("psnr", "flip", "haarpsi"), known=("psnr", "flip"), size=100)
    assert wanted.left(100) == ("psnr", "haarpsi")
    assert wanted.left(101) == ("psnr", "flip", "haarpsi")


def test_few_points_are_evenly_chosen(folder: Path) -> None:
    assert plan.thinned((1, 2, 3, 4, 5, 6, 7), 3) == (1, 4, 7)
    assert plan.thinned((1, 2, 3), None) == plan.thinned((1, 2, 3), 9) == (1, 2, 3)
    assert rd.main(arguments(folder, "--points", "2")) == 0
    assert {p.quality for p in load(folder.parent / "rd.json")[1][0].points} == {1, 5}
    with pytest.raises(SystemExit):
        rd.main(arguments(folder, "--points", "1"))


@pytest.mark.slow("a whole run, and a second that adds scores")
def test_scores_are_added_without_encoding_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ["--files", str(folder.parent / "kept")]
    assert rd.main(arguments(folder, *kept, "--metrics", "sliced_wasserstein")) == 0
    first = load(folder.parent / "rd.json")[1]
    dark = scores.Score("Dark", "dark", lambda _, decoded: 255.0 - decoded.mean(), float, str)
    monkeypatch.setitem(scores.SCORES, "ms_ssim", dark)
    monkeypatch.setattr(scores, "parse", lambda _: ("psnr", "ms_ssim"))
    monkeypatch.delattr(Coarse, "encode")
    reuse = ["--reuse", str(folder.parent / "rd.json")]
    assert rd.main(arguments(folder, *reuse, *kept)) == 0
    second = load(folder.parent / "rd.json")[1]
    for old, new in zip(first, second, strict=True):
        for one, other in zip(old.points, new.points, strict=True):
            assert other.ms_ssim is not None
            assert one == replace(other, ms_ssim=None, decode_seconds=one.decode_seconds)
    with pytest.raises(AttributeError, match="encode"):  # another quality has no file
        rd.main(arguments(folder, *reuse, *kept, "--quality", "webp=2.5"))


def test_scores_of_another_file_are_not_taken_over() -> None:
    new = Point("a.png", 1, 100, 0.1, 0, 0, 30)
    old = replace(new, psnr=20, ssimulacra2=50)
    assert plan.with_scores_of(new, old) == replace(new, ssimulacra2=50)
    assert plan.with_scores_of(new, replace(old, bytes=101)) == new
    assert plan.with_scores_of(new, None) == new


def test_reuse_refuses_other_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rd.main(arguments(folder))
    for number in range(3):
        Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(folder / f"{number}.png")
    assert rd.main(arguments(folder, "--reuse", str(folder.parent / "rd.json"))) == 2
    assert "other pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--published"], "24 Kodak photos"),
        (["--bpp-min", "2", "--bpp-max", "1"], "below"),
        (["--quality", "webp=high"], "CODEC=NUMBER"),
        (["--codecs", "gif"], "unknown codec"),
        (["--codecs", "webp:method"], "option=value"),
        (["--codecs", "webp,webp"], "twice"),
        (["--metrics", "vmaf"], "unknown metric"),
    ],
)
def test_bad_usage_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert rd.main(arguments(folder, *more)) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rd.main(["--images", str(tmp_path)]) == 2
    assert "no pictures" in capsys.readouterr().err


def test_trellis_settings_become_codecs_and_paths_stay_out_of_labels() -> None:
    options = argparse.Namespace(
        codecs="trellic,jpeg", trellis="0,32", decoders="a,b", model="/home/me/models/mine.zip"
    )
    specs = plan.specs(options)
    assert [str(spec) for spec in specs] == [
        "trellic:model=mine.zip:decoder=a:trellis=0",
        "trellic:model=mine.zip:decoder=a:trellis=32",
        "trellic:model=mine.zip:decoder=b:trellis=0",
        "trellic:model=mine.zip:decoder=b:trellis=32",
        "jpeg",
    ]
    assert dict(specs[0].options)["model"] == "/home/me/models/mine.zip"


def test_a_picture_of_another_shape_is_an_error(folder: Path) -> None:
    class Cropping(Coarse):
        def decode(self, data: bytes) -> Pixels:
            return super().decode(data)[1:]

    task = measure.Task(Spec("jpeg"), folder / "0.png", (measure.Wanted(1.0),))
    with pytest.raises(ValueError, match=r"decoded \(39, 48, 3\), expected \(40, 48, 3\)"):
        measure._measure(Cropping(), measure.read_pixels(task.image), task.points[0], task)


def test_the_interval_of_a_mean_is_that_of_statistics() -> None:
    values = np.random.default_rng(1).normal(-20, 3, 400)
    low, high = bootstrap.mean_interval(values.tolist())
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert bootstrap.mean_interval(values.tolist()) == (low, high)
    assert bootstrap.mean_interval([1.0]) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codecs.CODECS, "jxl", ("benchmarks.codecs.none", "None", "some-package"))
    with pytest.raises(CodecUnavailableError, match="pip install 'some-package'"):
        codecs.make(Spec("jxl"))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(SpecError, match="speed"):
        codecs.make(Spec.parse("webp:speed=3"))


def test_webp_through_pillow_round_trips(folder: Path) -> None:
    codec = codecs.make(Spec("webp"))
    original = measure.read_pixels(folder / "0.png")
    small, large = codec.encode(original, 10), codec.encode(original, 95)
    assert len(small) < len(large)
    assert np.abs(codec.decode(large).astype(int) - original).mean() < 6
    assert codec.versions["libwebp"][0].isdigit()


def test_jpegli_round_trips(folder: Path) -> None:
    pytest.importorskip("ajpegli")
    codec = codecs.make(Spec("jpegli"))
    original = measure.read_pixels(folder / "0.png")
    small, large = codec.encode(original, 15), codec.encode(original, 0.5)
    assert len(small) < len(large)
    assert np.abs(codec.decode(large).astype(int) - original).mean() < 6


def test_avif_takes_tunes_that_aom_has(folder: Path) -> None:
    pytest.importorskip("PIL._avif")
    original = measure.read_pixels(folder / "0.png")
    made = {tune: codecs.make(Spec.parse(f"avif:tune={tune}")) for tune in ("iq", "ssimulacra2")}
    assert len({codec.encode(original, 60) for codec in made.values()}) == 2
    with pytest.raises(SpecError, match="tunes are"):
        codecs.make(Spec.parse("avif:tune=none"))


def test_kodak_is_recognized_by_its_names() -> None:
    kodak = [f"kodim{number:02d}.png" for number in range(1, 25)]
    assert published.is_kodak(kodak)
    assert not published.is_kodak(kodak[:-1])
    assert {one.name for one in published.load()} >= {*published.VTM, *published.PLOTTED}


def test_tables_mark_what_a_range_does_not_cover(folder: Path) -> None:
    rd.main(arguments(folder))
    _, (jpeg, webp) = load(folder.parent / "rd.json")
    comparison = compare(webp, jpeg, (0.001, 1000))
    assert comparison.mean_curve is not None
    assert not comparison.mean_curve.complete
    assert comparison.complete_images == 0
    text = tables.markdown([comparison])
    assert text.splitlines()[0] == "| codec | vs jpeg |"
    assert text.splitlines()[2].endswith("* |")
    assert compare(Measured("a", {}, {}), jpeg, None).mean_curve is None


def test_the_other_codec_is_never_short_of_bytes(folder: Path) -> None:
    original = measure.read_pixels(folder / "0.png")
    codec = Coarse()
    size = len(codec.encode(original, 3))
    assert len(at_least(codec, original, size)) == size
    assert len(at_least(codec, original, size + 1)) == len(codec.encode(original, 4))
    best = len(codec.encode(original, 5))
    assert len(at_least(codec, original, best + 1)) == best


def test_the_picture_shows_each_codec(folder: Path) -> None:
    specs = [Spec("webp"), Spec("jp2")]
    shown = panels(folder / "0.png", specs, quality=30)
    assert [panel.title for panel in shown] == ["Original", label("jp2"), label("webp")]
    sheet = draw(shown, parse_box("4,5,20,10"), 2)
    assert sheet.width == 3 * 40 + 12
    top = np.asarray(sheet)[:20:2, :40:2]
    assert np.array_equal(top, shown[0].pixels[5:15, 4:24])


def test_equal_runs_draw_equal_plots(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots = pytest.importorskip("benchmarks.plots", exc_type=ImportError)
    monkeypatch.setattr(plots, "THEMES", plots.THEMES[1:])
    rd.main(arguments(folder))
    _, measured = load(folder.parent / "rd.json")
    lines = [plots.Line(one.spec, one.mean_curve()) for one in measured]
    first = plots.rd_plots(lines, "test", tmp_path / "a", "rd")
    second = plots.rd_plots(lines, "test", tmp_path / "b", "rd")
    assert [path.name for path in first] == ["rd-dark.svg"]
    assert first[0].read_bytes() == second[0].read_bytes()
