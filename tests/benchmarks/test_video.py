"""The experiment with clips: its container, its loops, and frames that decode by themselves."""

import io

import numpy as np
import pytest
from benchmarks.video import container
from benchmarks.video.clips import CLIPS
from benchmarks.video.codec import Reader, VideoCodec, blend, loop_length
from PIL import Image

from trellic.errors import BadParameter, CorruptStream


class Pictures:
    """PNG of pixels in steps of some levels; counts what it decodes."""

    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, pixels, quality):
        file, step = io.BytesIO(), np.uint8(2 + (100 - quality) // 8)
        Image.fromarray(pixels // step * step).save(file, "PNG")
        return file.getvalue()

    def decode(self, data):
        self.decoded += 1
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture)


def moving(frames=9, step=1):
    noise = np.random.default_rng(2).integers(0, 255, (24, 32, 3))
    return [np.clip(noise + step * i, 0, 255).astype(np.uint8) for i in range(frames)]


def test_frames_decode_alone_as_they_do_in_order():
    frames = moving()
    data = VideoCodec(Pictures(), energy=1.0).encode(frames, 50)
    whole = Reader(data, Pictures())
    kinds = [frame.kind for frame in whole.clip.frames]
    assert kinds[0] == kinds[8] == "key"
    assert "skip" in kinds[1:8]
    expected = [whole.frame(i) for i in range(len(frames))]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(frames, expected, strict=True)) < 16
    pictures = Pictures()
    assert np.array_equal(Reader(data, pictures).frame(3), expected[3])
    needed = {3: {2, 4}, 2: {0, 4}, 4: {0, 8}, 0: set(), 8: set()}
    todo, asked = [3], set()
    while todo:
        one = todo.pop()
        asked.add(one)
        todo += needed[one] - asked if whole.clip.frames[one].predicted else []
    assert pictures.decoded == sum(kinds[i] != "skip" for i in asked) < 5


def test_loops_are_long_where_little_changes():
    still, jumping = moving(step=0), moving(step=0)
    jumping[1:] = [255 - frame for frame in jumping[1:]]
    assert loop_length(still, (8, 4, 2, 1), 1.0) == 8
    assert loop_length(still[:4], (8, 4, 2, 1), 1.0) == 3
    assert loop_length(jumping, (8, 4, 2, 1), 1.0) == 1
    every = VideoCodec(Pictures(), loops=(1,)).encode(still, 50)
    assert {frame.kind for frame in container.read(every).frames} == {"key"}


def test_what_the_blend_misses_is_corrected():
    frames = [np.full((24, 32, 3), 100, np.uint8) for _ in range(3)]
    frames[1][5:15, 5:20] = 250
    data = VideoCodec(Pictures(), loops=(2,), energy=1e9).encode(frames, 50)
    reader = Reader(data, Pictures())
    assert reader.clip.frames[1].kind in ("residual", "own")
    assert np.abs(reader.frame(1).astype(int) - frames[1]).max() < 16


def test_the_blend_is_nearer_to_the_nearer_frame():
    low, high = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 50, np.uint8)
    assert (blend(low, high, 1, 3) == 20).all()
    assert (blend(low, high, 3, 1) == 40).all()


def test_damage_is_noticed():
    data = VideoCodec(Pictures()).encode(moving(3), 50)
    for wrong in (b"", b"TLCX" + data[4:], data[:20], data[:-1], data + b"x"):
        with pytest.raises(CorruptStream):
            container.read(wrong)
    for at in range(container.HEAD.size + container.FRAME.size):
        with pytest.raises(CorruptStream):
            container.read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_frames_that_need_one_another_are_refused():
    key, near = container.Frame("key"), container.Frame("skip", 1, 3)
    for wrong in (
        (key, container.Frame("skip", 0, 2), near, key),  # each needs the other
        (key, container.Frame("skip", 1, 2), key),
        (key, container.Frame("skip", 0, 5), key),
    ):
        with pytest.raises(CorruptStream):
            container.read(container.write(container.Clip(8, 8, 25.0, wrong)))
    picture = Pictures().encode(np.zeros((4, 4, 3), np.uint8), 50)
    small = container.write(container.Clip(8, 8, 25.0, (container.Frame("key", data=picture),)))
    with pytest.raises(CorruptStream, match="8x8"):
        Reader(small, Pictures()).frame(0)


def test_what_is_no_clip_is_refused():
    for frames in ([], [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)]):
        with pytest.raises(BadParameter):
            VideoCodec(Pictures()).encode(frames, 50)
    with pytest.raises(BadParameter):
        Reader(VideoCodec(Pictures()).encode(moving(1), 50), Pictures()).frame(1)


@pytest.mark.parametrize("name", CLIPS)
def test_clips_are_the_same_every_time(name):
    photo = np.random.default_rng(0).integers(0, 255, (400, 500, 3)).astype(np.uint8)
    one, other = (CLIPS[name](photo, 3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert {frame.shape for frame in one} == {(288, 352, 3)}
    assert one[0].dtype == np.uint8
