"""A codec goes to other processes: what is pickled is what it was loaded with."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from trellic.codec import Codec

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
PIXELS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _encode(codec: Codec) -> bytes:
    return codec.encode(PIXELS)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    "through",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda c, n=n: pickle.loads(pickle.dumps(c, n)) for n in range(6)),
    ],
)
def test_a_codec_there_and_back(through, used):
    codec = Codec(TINY, device="cpu", threads=1)
    if used:
        codec.encode(PIXELS)
    again = through(codec)
    assert repr(again) == repr(codec)
    assert again is not codec
    assert again.encode(PIXELS) == codec.encode(PIXELS)


def test_a_path_is_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(TINY.parent)
    data = pickle.dumps(Codec("tiny.zip", device="cpu", threads=1))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(data).model == "tiny"


@pytest.mark.slow("a spawned process loads everything anew")
def test_a_codec_in_another_process():
    codec = Codec(TINY, device="cpu", threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_encode, (codec,)) == codec.encode(PIXELS)
