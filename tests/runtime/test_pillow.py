"""The Pillow plugin: open, save, lazy decoding, modes, metadata, faults."""

from __future__ import annotations

import inspect
import io
import pickle

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import trellic.pillow
from trellic.errors import BadImage, TrellicWarning, UnknownModel
from trellic.model import bundle

RGB = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def codecs(monkeypatch, fake_codec):
    """Codecs of the plugin, by (model, device)."""
    from trellic.cli import engines

    loaded = {}

    def codec(model, device):
        if (model, device) not in loaded:
            loaded[model, device] = engines.load_codec(model, device)
        return loaded[model, device]

    def find(model):
        if model == "other":
            raise UnknownModel("no model 'other'")
        return "/models/fake.zip"

    monkeypatch.setattr(trellic.pillow, "_codec", codec)
    monkeypatch.setattr(bundle, "find", find)
    monkeypatch.setattr(
        bundle, "find_stream", lambda stream_id: engines.find_stream(bytes.fromhex(stream_id))
    )
    return loaded


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, "TLC", **options)
    return file.getvalue()


def reopened(image, **options):
    return Image.open(io.BytesIO(saved(image, **options)))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_there_and_back(tmp_path, codecs, mode):
    image = Image.fromarray(np.dstack([RGB, RGB[..., 0]])).convert(mode)
    image.save(tmp_path / "a.tlc")
    with Image.open(tmp_path / "a.tlc") as again:
        assert (again.format, again.mode, again.size) == ("TLC", mode, (30, 20))
        assert again.get_format_mimetype() == "image/x-trellic"
        np.testing.assert_array_equal(np.array(again), np.array(image))
        np.testing.assert_array_equal(np.array(again.convert("L")), np.array(image.convert("L")))


@pytest.mark.parametrize("mode", ["1", "P"])
def test_other_modes_are_converted(codecs, mode):
    image = Image.fromarray(RGB).convert(mode)
    assert reopened(image).mode == {"1": "L", "P": "RGB"}[mode]


def test_nothing_is_decoded_before_it_is_needed(codecs):
    data = saved(Image.fromarray(RGB))
    codecs.clear()
    image = Image.open(io.BytesIO(data))
    assert (image.size, image.mode, image.info["quality"]) == ((30, 20), "RGB", 60.0)
    assert not codecs
    image.decoder = "fast"
    image.load()
    image.load()
    assert [codec.calls for codec in codecs.values()] == [[("decode", "fast")]]


def test_options_reach_the_codec(codecs):
    image = Image.fromarray(RGB)
    saved(image, quality=33, trellis=32, strip=True)
    saved(image, bpp=1.5, model="photo", device="cpu")
    calls = [codec.calls[-1][1] for codec in codecs.values()]
    assert calls == [{"quality": 33, "trellis": 32, "strip": True}, {"bpp": 1.5}]
    assert [device for _, device in codecs] == ["auto", "cpu"]
    with pytest.raises(UnknownModel):
        saved(image, model="other")


def test_every_option_of_encode_is_one_of_saving(tiny, tiny_path):
    options = inspect.signature(trellic.encode).parameters
    assert {*trellic.pillow._ENCODER_OPTIONS, "image", "model"} == set(options)
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TLC", model=tiny_path, device="cpu", progressive=True)
    assert file.getvalue() == tiny.encode(RGB, progressive=True)


def test_metadata_is_kept(codecs):
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A maker"
    image.info |= {"icc_profile": b"profile", "xmp": b"<x/>"}
    again = reopened(image, exif=exif)
    assert again.size == (20, 30)
    assert (again.info["icc_profile"], again.info["xmp"]) == (b"profile", b"<x/>")
    assert (again.getexif()[0x010F], again.getexif()[0x0112]) == ("A maker", 1)
    np.testing.assert_array_equal(np.array(again), np.rot90(RGB, -1))
    assert "icc_profile" not in reopened(image, strip=True).info


def test_metadata_may_be_given_on_saving(codecs):
    exif = Image.Exif()
    exif[0x010F] = "Another"
    image = Image.fromarray(RGB)
    for given in (exif, exif.tobytes()):
        again = reopened(image, exif=given, icc_profile=b"p", xmp=b"<y/>")
        assert again.getexif()[0x010F] == "Another"
        assert (again.info["icc_profile"], again.info["xmp"]) == (b"p", b"<y/>")
    assert not image.info


def test_none_leaves_metadata_out(codecs):
    exif = Image.Exif()
    exif[0x0112], exif[0x8825] = 6, {1: "N"}
    photo = io.BytesIO()
    Image.fromarray(RGB).save(photo, "JPEG", exif=exif, icc_profile=b"profile", dpi=(300, 300))
    for name in ("exif", "icc_profile"):
        again = reopened(Image.open(photo), **{name: None})
        assert again.size == (20, 30)
        kept = {"exif", "icc_profile"} - {name}
        assert {key for key in ("exif", "icc_profile") if key in again.info} == kept
        assert bool(again.getexif().get_ifd(0x8825)) == (name != "exif")


def test_what_a_program_turned_is_not_turned_again(codecs):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = io.BytesIO()
    Image.fromarray(RGB).save(photo, "PNG", exif=exif)
    fixed = Image.open(photo).transpose(Image.Transpose.ROTATE_270)
    again = reopened(fixed)
    np.testing.assert_array_equal(np.array(again), np.array(fixed))
    assert again.getexif().get(0x0112, 1) == 1


def test_resolution_is_kept(codecs):
    photo = io.BytesIO()
    Image.fromarray(RGB).save(photo, "PNG", dpi=(300, 300))
    assert reopened(Image.open(photo)).info["dpi"] == (299.9994, 299.9994)
    assert reopened(Image.fromarray(RGB), dpi=(150, 100)).info["dpi"] == (150, 100)
    assert "dpi" not in reopened(Image.fromarray(RGB)).info


def test_a_decoded_image_can_be_saved_as_png_with_its_metadata(tmp_path, codecs):
    image = Image.fromarray(RGB)
    image.info["icc_profile"] = b"profile"
    reopened(image).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as again:
        assert again.info["icc_profile"] == b"profile"


def test_copies_and_pickles(codecs):
    image = reopened(Image.fromarray(RGB))
    np.testing.assert_array_equal(np.array(image.copy()), RGB)
    np.testing.assert_array_equal(np.array(pickle.loads(pickle.dumps(image))), RGB)
    np.testing.assert_array_equal(np.array(image.crop((1, 2, 5, 7))), RGB[2:7, 1:5])


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[:10], lambda d: d[:-3], lambda d: b"TLC\x07" + d[4:]]
)
def test_damaged_files_are_no_images(codecs, damage):
    data = damage(saved(Image.fromarray(RGB)))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data), formats=["TLC"])


def test_the_reason_is_told(codecs):
    data = bytearray(saved(Image.fromarray(RGB)))
    data[-1] ^= 1
    with pytest.raises(UnidentifiedImageError, match="check"):
        Image.open(io.BytesIO(data))


def test_save_all_saves_the_first_frame(codecs):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    with pytest.warns(TrellicWarning, match="appended images are left out") as caught:
        data = saved(frames[0], save_all=True, append_images=frames[1:])
    assert len(caught) == 1
    assert data == saved(frames[0])


def test_unknown_decoders_fail_on_loading(codecs):
    image = reopened(Image.fromarray(RGB))
    image.decoder = "best"
    with pytest.raises(OSError, match="no decoder 'best'"):
        image.load()
    image.decoder = "fast"
    assert np.array(image).shape == (20, 30, 3)


def test_files_are_closed(tmp_path, codecs):
    Image.fromarray(RGB).save(tmp_path / "a.tlc")
    image = Image.open(tmp_path / "a.tlc")
    file = image.fp
    image.load()
    assert file.closed
    with Image.open(tmp_path / "a.tlc") as image:
        image.verify()


def test_appended_images_are_warned_of_without_save_all_too(codecs):
    with pytest.warns(TrellicWarning, match="appended images are left out"):
        saved(Image.fromarray(RGB), append_images=[Image.fromarray(RGB)])


def test_a_failed_save_leaves_nothing(tmp_path, codecs):
    with pytest.raises(BadImage):
        Image.new("F", (3, 3)).save(tmp_path / "a.tlc")
    assert not list(tmp_path.iterdir())
