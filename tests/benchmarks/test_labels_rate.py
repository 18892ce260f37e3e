"""Payloads of files, and the classifier that a decoder of labels is compared with."""

import io

import numpy as np
import pytest
import torch
from benchmarks.labels_rate import guesser_for, payload
from benchmarks.labels_tables import markdown, plot
from benchmarks.picture_labels import accuracy, network, read_set, train
from PIL import Image

from trellic import bitstream


def tiles(label: int, count: int) -> np.ndarray:
    """Pictures that are warm (label 0) or cold."""
    rng = np.random.default_rng(label)
    noise = rng.integers(0, 90, (count, 32, 32, 3))
    noise[..., 2 * label] += 150
    return noise.astype(np.uint8)


@pytest.mark.parametrize("progressive", [False, True])
def test_the_payload_of_a_jpeg_is_its_scans(progressive):
    file = io.BytesIO()
    options = {"progressive": progressive, "restart_marker_blocks": 0 if progressive else 2}
    Image.fromarray(tiles(0, 1)[0]).save(file, "JPEG", quality=90, **options)
    data = file.getvalue()
    headers, at = 2, 2  # walk backwards from what is known: everything that is not a scan
    while data[at : at + 2] != b"\xff\xd9":
        if data[at] == 0xFF and data[at + 1] not in (0, *range(0xD0, 0xD8)):
            length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            headers, at = headers + length, at + length
        else:
            at += 1
    assert payload(data) == len(data) - headers - 2
    assert 0 < payload(data) < len(data) - 100


def test_the_payloads_of_webp_and_tlc():
    file = io.BytesIO()
    Image.fromarray(tiles(0, 1)[0]).save(file, "WEBP", quality=60)
    assert len(file.getvalue()) - payload(file.getvalue()) in (30, 31)  # chunks are padded to words
    header = bitstream.Header(20, 10, 960, 8, 2, b"abcd", (1,))
    data = bitstream.write(bitstream.Stream(header, [b"zzzz", b"aa", b"bbbb"]))
    assert payload(data) == 10
    with pytest.raises(ValueError, match="no payload known"):
        payload(b"\x89PNG" + bytes(30))


@pytest.mark.long
@pytest.mark.slow("a classifier is trained until it is better than chance")
def test_the_classifier_learns(tmp_path):
    for label, name in enumerate(("warm", "cold")):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(tiles(label, 6)):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    read = read_set(tmp_path)
    assert (read.names, read.pixels.shape) == (("cold", "warm"), (12, 32, 32, 3))
    assert read_set(tmp_path, 4).labels.tolist() == [0, 0, 1, 1]
    torch.manual_seed(0)
    made = network(2)
    train(made, [read.pixels, 255 - (255 - read.pixels)], read.labels, steps=12)
    assert accuracy(made.eval(), read.pixels, read.labels) == 1.0


@pytest.mark.slow("a classifier is trained")
def test_a_classifier_of_something_else_is_not_taken(tmp_path):
    for label, name in enumerate(("warm", "cold")):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(tiles(label, 1)[0]).save(tmp_path / "train" / name / "0.png")
    kept, facts = tmp_path / "kept.pt", {"steps": 1, "stream_id": "00000000"}
    first = guesser_for(tmp_path, {}, facts, kept).state_dict()
    again = guesser_for(tmp_path, {}, facts, kept).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    torch.save({"facts": facts | {"steps": 2}, "state": first}, kept)
    other = guesser_for(tmp_path, {}, facts, kept).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def made_up(codec: str, bpp: float, **right: float) -> dict:
    bits = {"file_bpp": bpp + 1, "payload_bpp": bpp}
    return {"codec": codec, "quality": 40, **bits, "psnr": 30.0, "accuracy": right}


def test_other_codecs_are_read_at_equal_bits(tmp_path):
    rows = [
        made_up("trellic", 1.0, pictures=0.6, latents=0.7),
        *(made_up("jpeg", bpp, pictures=bpp / 10) for bpp in (4.0, 0.5, 2.0)),
        *(made_up("webp", bpp, pictures=0.2) for bpp in (1.5, 3.0)),
    ]
    run = {"rows": rows, "untouched": 0.75}
    assert markdown(run).splitlines()[2:] == [
        "| 40 | 2.00 | 1.00 | 30.0 dB | 70.0% | 60.0% | 10.0% | - | 10.0% | - |"
    ]
    written = plot(run, tmp_path, "labels")
    assert sorted(p.name for p in written if p.stat().st_size) == [
        f"labels-{theme}.svg" for theme in ("dark", "light")
    ]
