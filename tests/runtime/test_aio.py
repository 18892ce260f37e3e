"""`AsyncCodec`: the library's results, side by side, and cancelled with their tasks."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

import trellic
from trellic.aio import AsyncCodec
from trellic.errors import BadImage, BadParameter, CorruptStream, DeadlineExceeded
from trellic.support import bounds

RNG = np.random.default_rng(5)
PICTURES = [RNG.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(3)]


def test_results_are_the_librarys(tiny):
    async def run():
        async with AsyncCodec(tiny) as codec:
            one = await codec.encode(PICTURES[0], quality=40)
            streams = await codec.encode_batch(PICTURES, quality=40)
            return one, streams, await codec.decode(one), await codec.decode_batch(streams)

    one, streams, shown, pictures = asyncio.run(run())
    assert streams == [tiny.encode(picture, quality=40) for picture in PICTURES]
    assert one == streams[0]
    np.testing.assert_array_equal(shown, tiny.decode(one))
    for found, stream in zip(pictures, streams, strict=True):
        np.testing.assert_array_equal(found, tiny.decode(stream))


def test_calls_run_side_by_side(tiny, monkeypatch):
    both = threading.Barrier(2, timeout=30)  # breaks unless two wait at once
    monkeypatch.setattr(trellic.Codec, "decode", lambda *_, **__: both.wait())

    async def run():
        async with AsyncCodec(tiny, workers=2) as codec:
            await codec.decode_batch([b"", b""])

    asyncio.run(run())


def until_stopped(ended: list[BaseException]):
    """A codec's call that asks, as it does between slices, whether it may go on."""

    def call(*_, **__):
        try:
            while True:
                bounds.check()
                time.sleep(0.001)
        except trellic.TrellicError as error:
            ended.append(error)
            raise

    return call


def test_a_cancelled_task_ends_its_call(tiny, monkeypatch):
    ended: list[BaseException] = []
    monkeypatch.setattr(trellic.Codec, "encode", until_stopped(ended))

    async def run():
        async with AsyncCodec(tiny) as codec:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(codec.encode(PICTURES[0]), 0.05)

    asyncio.run(run())  # closing waits for the thread: without the hook it never ends
    assert [type(error).__name__ for error in ended] == ["Cancelled"]


def test_limits_around_a_call_hold(tiny, monkeypatch):
    monkeypatch.setattr(trellic.Codec, "encode", until_stopped([]))

    async def run():
        async with AsyncCodec(tiny) as codec:
            with trellic.limited(trellic.Limits(deadline=0.05)):
                await codec.encode(PICTURES[0])

    with pytest.raises(DeadlineExceeded):
        asyncio.run(run())


def test_one_bad_stream_ends_the_batch(tiny, monkeypatch):
    good, ended = tiny.encode(PICTURES[0]), []
    decode = trellic.Codec.decode
    slow = until_stopped(ended)

    def call(self, data, **options):
        return slow() if data == b"slow" else decode(self, data, **options)

    monkeypatch.setattr(trellic.Codec, "decode", call)

    async def run():
        async with AsyncCodec(tiny, workers=2) as codec:
            await codec.decode_batch([b"slow", good[:-2] + b"zz"])

    with pytest.raises(CorruptStream):
        asyncio.run(run())
    assert [type(error).__name__ for error in ended] == ["Cancelled"]


@pytest.mark.parametrize(
    ("method", "batch", "error"),
    [
        ("encode_batch", PICTURES[0], BadImage),
        ("encode_batch", None, BadImage),
        ("decode_batch", b"TLC", BadParameter),
        ("decode_batch", None, BadParameter),
    ],
)
def test_a_batch_that_is_none_is_refused_as_by_the_library(tiny, method, batch, error):
    async def run():
        async with AsyncCodec(tiny) as codec:
            await getattr(codec, method)(batch)

    with pytest.raises(error, match="expected several"):
        asyncio.run(run())
    with pytest.raises(error, match="expected several"):
        getattr(tiny, method)(batch)


def test_a_closed_codec_says_so(tiny):
    async def run():
        codec = AsyncCodec(tiny)
        await codec.close()
        await codec.encode(PICTURES[0])

    with pytest.raises(BadParameter, match="closed"):
        asyncio.run(run())


@pytest.mark.parametrize("workers", [-1, "2", 1.5, True])
def test_workers_are_a_whole_number(tiny, workers):
    with pytest.raises(BadParameter, match="workers"):
        AsyncCodec(tiny, workers=workers)
