"""Pictures of other bands than red, green and blue: NumPy files, and what colours refuse."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from trellic import images
from trellic.errors import BadImage, BadParameter, ImageTooLarge
from trellic.images import Picture
from trellic.model.channels import Layout

FOUR = np.random.default_rng(1).integers(0, 256, (20, 30, 4), dtype=np.uint8)
DEEP = "samples of 16 bits, but the range of latents"


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def read(data):
    return images.from_bytes(data, arrays=True)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4), (20, 30, 8)])
def test_there_and_back(shape):
    array = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    data = npy(array)
    assert images.size_of(data, arrays=True) == (30, 20, False)
    picture = images.from_bytes(data, arrays=True)
    assert picture.bands == (shape[2] if len(shape) == 3 else 1)
    np.testing.assert_array_equal(picture.pixels, array)
    np.testing.assert_array_equal(read(npy(np.asfortranarray(array))).pixels, array)
    assert images.to_bytes(picture, ".npy") == data


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (FOUR.astype(np.uint16), DEEP),
        (FOUR.astype(np.float32), "samples of type float32"),
        (FOUR[:, :, :2], r"shape \(20, 30, 2\)"),
        (FOUR[None], r"shape \(1, 20, 30, 4\)"),
        (FOUR[:0], "an empty picture"),
        (np.array([None]), "type object"),
    ],
)
def test_other_arrays_are_refused(array, said):
    with pytest.raises(BadImage, match=said):
        read(npy(array, allow_pickle=True))


def headed(text):
    """A NumPy file with this header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': (",
        '{"a": """x',
        "(" * 4000,
        "{'descr': (), 'fortran_order': False, 'shape': (1, 1)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 1)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -5)}",
    ],
)
@pytest.mark.parametrize("read_it", [images.size_of, images.from_bytes])
def test_headers_that_make_no_sense_are_refused(text, read_it):
    with pytest.raises(BadImage, match="NumPy file"):
        read_it(headed(text), arrays=True)


def test_alpha_is_no_band():
    alpha = np.zeros((20, 30), np.uint8)
    for pixels in (np.zeros((20, 30, 3), np.uint8), alpha):
        with pytest.raises(BadImage, match="as a NumPy file; expected no alpha"):
            images.to_bytes(images.Picture(pixels, alpha), ".npy")


def test_damaged_files_are_refused():
    data = npy(FOUR)
    for wrong in (data[:9], data[:60], b"\x93NUMPY\x09\x00" + data[8:], data[:-1], data + b"x"):
        with pytest.raises(BadImage, match="NumPy file"):
            images.from_bytes(wrong, arrays=True)
    huge = data.replace(b"(20, 30, 4)", b"(60000, 60000, 4)")
    with pytest.raises((ImageTooLarge, BadImage)):
        images.from_bytes(huge, arrays=True)
    large = npy(np.zeros((1000, 1000), np.uint8))
    with pytest.raises(ImageTooLarge, match="1000000 pixels"):
        images.from_bytes(large, 999_999, arrays=True)


def test_only_who_asks_gets_arrays():
    for ask in (images.from_bytes, images.size_of):
        with pytest.raises(BadImage, match=r"a NumPy array \(load it and use trellic\.encode\)"):
            ask(npy(FOUR))


def test_arrays_for_a_model():
    np.testing.assert_array_equal(images.from_bands(FOUR, 4).pixels, FOUR)
    with pytest.raises(BadImage, match=DEEP):
        images.from_bands(FOUR.astype(np.uint16), 4)
    with pytest.raises(BadImage, match=r"expected \(H, W, 8\), for a model of 8 bands"):
        images.from_bands(FOUR, 8)
    with pytest.raises(BadImage, match=r"shape \(20, 30\)"):
        images.from_bands(FOUR[..., 0], 4)
    np.testing.assert_array_equal(images.from_any(FOUR, bands=4).pixels, FOUR)
    with pytest.raises(BadImage, match="a Pillow image for a model of 4 bands"):
        images.from_any(Image.fromarray(FOUR), bands=4)


def test_what_has_colours_refuses_bands():
    picture = Picture(FOUR)
    assert picture.mode == "4 bands"
    for suffix in (".png", ".tiff"):
        with pytest.raises(BadImage, match="a picture of 4 bands, which"):
            images.to_bytes(picture, suffix)
    with pytest.raises(BadImage, match="Pillow has no mode for"):
        images.to_pil(picture)
    with pytest.raises(BadParameter, match="a size for a picture of 4 bands"):
        images.resized(picture, (15, 10))
    with pytest.raises(BadImage, match="alpha beside 4 bands"):
        Picture(FOUR, FOUR[..., 0])


def test_a_model_of_colours_refuses_bands(tiny):
    with pytest.raises(BadImage, match=r"a picture of 4 bands.*3 bands, which the model 'tiny'"):
        tiny.encode_picture(Picture(FOUR))


def test_usual_layouts_do_not_name_their_bands(tiny):
    layout = tiny.bundle.manifest.layout
    fields = layout.model_dump()
    assert "bands" not in fields
    assert Layout.model_validate(fields | {"bands": 4}).model_dump()["bands"] == 4
