"""The benchmark of decoders, on a codec made for the test and on the tiny model."""

import base64
import io
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.codecs import Pixels
from PIL import Image

from benchmarks import decoders, decoders_page, decoders_times, family
from trellic.codec import Codec
from trellic.errors import CorruptStream


def photo(seed: int, height: int = 40, width: int = 52) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None]
    return (ramp + noise).clip(0, 255).astype(np.uint8)


class Layered:
    """A small picture first and then the large one: `preview` reads nothing of the second."""

    def __init__(self) -> None:
        costs = {"quality": 20.0, "preview": 0.5, "mixed": 8.0}
        self.decoders = {
            name: SimpleNamespace(graph=SimpleNamespace(kmac_per_pixel=cost), base="quality")
            for name, cost in costs.items()
        }

    def encode(self, pixels: Pixels) -> bytes:
        small = np.asarray(Image.fromarray(pixels).reduce(8))
        return bytes(pixels.shape[:2]) + small.tobytes() + (pixels // 4 * 4).tobytes()

    def decode(self, data: bytes, decoder: str = "quality") -> Pixels:
        height, width = data[:2]
        shape = (-(-height // 8), -(-width // 8), 3)
        size = int(np.prod(shape))
        if len(data) != 2 + size + height * width * 3:
            raise CorruptStream("wrong length")
        if decoder == "preview":
            return np.frombuffer(data[2 : 2 + size], np.uint8).reshape(shape)
        return np.frombuffer(data[2 + size :], np.uint8).reshape(height, width, 3)


def rows_of(original: Pixels) -> list[family.Row]:
    codec, names = Layered(), ["quality", "preview"]
    scores = ["psnr", "ssimulacra2", "sliced_wasserstein"]
    data = codec.encode(original)
    return family.measure(codec, "a.png", original, data, 40, names, scores[::2], 3)


def test_a_preview_is_compared_with_the_reduced_original() -> None:
    original = photo(1)
    quality, preview = rows_of(original)
    assert (quality.scale, preview.scale) == (1, 8)
    assert preview.scores == {"psnr": float("inf")}  # 5x7 pixels: too few for the other
    assert quality.scores["psnr"] == pytest.approx(10 * np.log10(255**2 / 3.5), abs=0.2)
    assert quality.bpp == pytest.approx(8 * quality.bytes / (40 * 52))


def test_bytes_that_a_decoder_needs() -> None:
    quality, preview = rows_of(photo(2))
    assert preview.bytes_needed == 2 + 5 * 7 * 3
    assert quality.bytes_needed == quality.bytes


def test_decoders_take_turns_and_the_median_counts() -> None:
    order: list[str] = []

    def decode(name: str) -> family.Decode:
        return lambda data: (order.append(name), np.zeros((1, 1, 3), np.uint8))[1]

    times, _ = family.timed({"a": decode("a"), "b": decode("b")}, b"", 3)
    assert order == ["a", "b"] * 3
    assert all(value >= 0 for value in times.values())


def row(image: str, decoder: str, seconds: float, psnr: float, distance: float) -> family.Row:
    scores = {"psnr": psnr, "sliced_wasserstein": distance, "ssimulacra2": 100 - distance}
    return family.Row(image, 40, decoder, 10, 10, 0.1, 1, seconds, scores)


def test_differences_are_picture_by_picture_and_positive_is_better() -> None:
    rows = []
    for i, image in enumerate("abcdef"):
        rows.append(row(image, "quality", 1, 30 + i, 50 + 9 * i))
        rows.append(row(image, "perceptual", 0.5 + 0.1 * i, 29 + i, 30 + 9 * i))
    found = {one.score: one for one in family.differences(rows)}
    assert found["psnr"].mean == -1
    assert found["psnr"].ci95 == (-1, -1)  # every picture loses the same: nothing is uncertain
    assert found["sliced_wasserstein"].mean == pytest.approx(20)
    low, high = found["time"].ci95 or (0, 0)
    assert found["time"].mean == pytest.approx(0.75)
    assert 0.5 < low < 0.75 < high < 1


@pytest.mark.parametrize(("loss", "met"), [(1.4, True), (1.6, False)])
def test_goals_say_what_is_missed(loss: float, met: bool) -> None:
    rows = [row("a", "quality", 1, 30, 50), row("a", "perceptual", 1, 30 - loss, 40)]
    rows += [row("a", "preview", 0.2, 30, 50)]
    assert decoders.goals(family.differences(rows)) == {
        "perceptual: SSIMULACRA2": True,
        "perceptual: sliced Wasserstein": True,
        "perceptual: at most 1.5 dB lost": met,
        "preview: at most a tenth of the time": False,
    }


def test_a_mixture_costs_both() -> None:
    cost = [family.kmac_per_pixel(Layered(), name) for name in ("mixed", "mixed:0.5", "mixed:1")]
    assert cost == [8, 28, 8]


@pytest.fixture
def two_decoders(tiny_path: Path, tmp_path: Path) -> Path:
    """The tiny bundle, its decoder there a second time as `fast`."""
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(tiny_path) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "manifest.json":
                manifest = json.loads(data)
                manifest["decoders"]["fast"] = manifest["decoders"]["quality"]
                data = json.dumps(manifest).encode()
            new.writestr(name, data)
    return path


@pytest.mark.slow("a whole run")
def test_a_run_from_folder_to_table(two_decoders: Path, tmp_path: Path) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    for i in range(2):
        Image.fromarray(photo(i, 48, 64)).save(images / f"{i}.png")
    options = ["--images", images, "--model", two_decoders, "--quality", "30,60", "--repeats", 1]
    options += ["--decoders", "fast", "--metrics", "psnr,sliced_wasserstein", "--threads", 1]
    out = tmp_path / "out.json"
    assert decoders.main([str(x) for x in [*options, "--out", out, "--plots", tmp_path]]) == 0
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 2 * 2 * 2
    assert result["kmac_per_pixel"].keys() == {"quality", "fast"}
    equal = [one for one in result["differences"] if one["score"] != "time"]
    assert [one["mean"] for one in equal] == [0] * 4  # it is the same graph
    first = result["rows"][0]
    codec = Codec.load(str(two_decoders), device="cpu", threads=1)
    original = photo(0, 48, 64)
    data = codec.encode(original, quality=30)
    assert (first["bytes"], first["bytes_needed"]) == (len(data), len(data))
    error = original.astype(float) - codec.decode(data)
    assert first["scores"]["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)))
    page = out.with_suffix(".md").read_text()
    assert f"| {first['scores']['psnr']:.2f} |" not in page  # the table has means of two pictures
    means = [r["scores"]["psnr"] for r in result["rows"] if r["quality"] == 30]
    assert f"| {np.mean(means):.2f} |" in page
    assert (tmp_path / "out-dark.svg").is_file()
    assert str(tmp_path) not in out.read_text() + page
    check_times_are_measured_again(out, images, two_decoders)


def check_times_are_measured_again(out: Path, images: Path, model: Path) -> None:
    result = json.loads(out.read_text())
    for one in result["rows"]:
        one["seconds"] = 1000.0
    out.write_text(json.dumps(result))
    options = [str(x) for x in (out, "--images", images, "--model", model, "--repeats", 1)]
    assert decoders_times.main(options) == 0
    again = json.loads(out.read_text())
    assert all(0 < one["seconds"] < 100 for one in again["rows"])
    assert [one["scores"] for one in again["rows"]] == [one["scores"] for one in result["rows"]]
    assert again["critic"] == result["critic"]
    result["rows"][0]["bytes"] += 1
    out.write_text(json.dumps(result))
    assert decoders_times.main(options) == 2
    assert json.loads(out.read_text()) == result


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--decoders", "best"], "no decoder 'best'"),
        (["--quality", "high"], "NUMBER,NUMBER"),
        (["--quality", "0"], "quality"),
        (["--metrics", "vmaf"], "unknown metric"),
    ],
)
def test_bad_usage_is_one_line(
    tiny_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    Image.fromarray(photo(1)).save(tmp_path / "a.png")
    options = ["--images", tmp_path, "--model", tiny_path, "--decoders", "quality"]
    options += ["--metrics", "psnr", *more]
    assert decoders.main([str(x) for x in options]) == 2
    assert message in capsys.readouterr().err


def test_a_page_of_crops(two_decoders: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(3, 64, 80)).save(tmp_path / "a&b.png")
    out, sheet = tmp_path / "page.html", tmp_path / "sheet.png"
    options = [tmp_path / "a&b.png", "--model", two_decoders, "--decoders", "quality,fast"]
    options += ["--rivals", "webp", "--side", 32, "--out", out, "--sheet", sheet]
    assert decoders_page.main([str(x) for x in options]) == 0
    text = out.read_text()
    assert "<h2>a&amp;b.png</h2>" in text
    assert not re.search(r"(src|href)=.(?!data:)", text)  # self-contained
    shown = re.findall(r'alt="([^"]+)" src="data:image/png;base64,([^"]+)"', text)
    assert [name for name, _ in shown] == ["Original", "Trellic, quality", "Trellic, fast", "WebP"]
    sizes = {Image.open(io.BytesIO(base64.b64decode(data))).size for _, data in shown}
    assert sizes == {(32, 32)}
    with Image.open(sheet) as drawn:
        assert drawn.width >= 4 * 64


def test_a_crop_is_where_decoders_differ_most() -> None:
    one = photo(4, 100, 120)
    other = one.copy()
    other[50:70, 66:90] = 255 - other[50:70, 66:90]
    left, top, width, height = decoders_page.where([one, other], 32)
    assert (width, height) == (32, 32)
    assert 48 <= left <= 66
    assert 32 <= top <= 50


@pytest.mark.slow("a critic is trained")
def test_a_critic_sees_what_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import critic

    monkeypatch.setattr(critic, "STEPS", 8)
    photos = [photo(i, 64, 64) for i in range(4)]
    found = []
    for shift in (0, 40):
        made = [np.minimum(p.astype(np.int32) + shift, 255).astype(np.uint8) for p in photos]
        pairs = list(zip(photos, made, strict=True))
        found.append(critic.judge(critic.trained(pairs[:3]), pairs[3:]))
    assert found[0] == 0
    assert found[1] > 0.01
