"""`AsyncCodec`: a codec for asyncio. A call stops when its task is cancelled.

Examples
--------
>>> import asyncio, numpy as np
>>> from trellic.aio import AsyncCodec
>>> from trellic.codec import Codec
>>> async def there_and_back(picture):
...     async with AsyncCodec(Codec.load("photo", threads=1)) as codec:
...         data = await codec.encode(picture, quality=50)
...         return await codec.decode(data)
>>> asyncio.run(there_and_back(np.zeros((32, 48, 3), np.uint8))).shape
(32, 48, 3)
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from trellic import images
from trellic.codec import Codec, Pixels
from trellic.codec.decoding import several_streams
from trellic.errors import BadParameter
from trellic.support.bounds import Limits, limited
from trellic.support.cores import usable_cores
from trellic.support.numeric import is_whole

if TYPE_CHECKING:
    from trellic.images import ImageLike

T = TypeVar("T")


class AsyncCodec:
    """A codec whose calls run in its own threads, by default one for each core.

    If a task is cancelled, for example by ``asyncio.timeout``, its call stops at the next slice or
    tile. Limits around a call (`trellic.limited`) apply to it and include its waiting time.

    Parameters
    ----------
    codec : for many calls at once, load it with ``threads=1``
    workers : number of calls at the same time, 0 for one for each core; others wait

    Raises
    ------
    BadParameter
        If ``workers`` is no such number; and by every call after `close`.
    """

    def __init__(self, codec: Codec, workers: int = 0) -> None:
        if not is_whole(workers) or workers < 0:
            raise BadParameter(f"workers {workers!r}", expected="a whole number, 0 or more")
        self.codec = codec
        self._closed = False
        self._threads = ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="trellic")

    async def encode(self, image: ImageLike, **options: Any) -> bytes:
        """Encode a picture; options and errors are those of `Codec.encode`."""
        return await self._run(partial(self.codec.encode, image, **options))

    async def decode(self, data: bytes | memoryview, **options: Any) -> Pixels:
        """Decode a stream; options and errors are those of `Codec.decode`."""
        return await self._run(partial(self.codec.decode, data, **options))

    async def encode_batch(self, batch: Iterable[ImageLike], **options: Any) -> list[bytes]:
        """Encode several pictures: on a GPU together, else one a thread.

        Options and errors are those of `Codec.encode_batch`.
        """
        if self.codec.device != "cpu":
            return await self._run(partial(self.codec.encode_batch, batch, **options))
        calls = [partial(self.encode, image, **options) for image in images.several(batch)]
        return await _all(calls)

    async def decode_batch(self, streams: Iterable[bytes], **options: Any) -> list[Any]:
        """Decode several streams: on a GPU together, else one a thread.

        Options and errors are those of `Codec.decode_batch`.
        """
        if self.codec.device != "cpu":
            return await self._run(partial(self.codec.decode_batch, streams, **options))
        calls = [partial(self.decode, data, **options) for data in several_streams(streams)]
        return await _all(calls)

    async def close(self) -> None:
        """Wait for calls that run, and end the threads."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _run(self, function: Callable[[], T]) -> T:
        if self._closed:
            raise BadParameter("a codec that was closed", remedy="make another AsyncCodec")
        stop = threading.Event()

        def work() -> T:
            with limited(Limits(cancel=stop.is_set)):
                return function()

        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, context.run, work)
        finally:
            stop.set()  # nobody waits any more


async def _all(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run calls side by side; when one fails the others are cancelled, and its error is raised."""
    tasks = [asyncio.ensure_future(call()) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
