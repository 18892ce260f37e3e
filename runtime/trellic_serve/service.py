"""The state that the routes of one service share."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from trellic_serve.codecs import Coder
from trellic_serve.errors import Forbidden, NotReady
from trellic_serve.keys import Watched, name_of, parse_api_keys
from trellic_serve.metrics import Metrics
from trellic_serve.pool import Pool
from trellic_serve.settings import Settings
from trellic_serve.signing import UNSIGNED, holds, parse
from trellic_serve.sources import open_source

_log = logging.getLogger("trellic_serve")


class Service:
    """State of a service: models, queue, keys, metrics.

    Parameters
    ----------
    settings : of the service

    Attributes
    ----------
    stopping : whether it will soon refuse new calls
    failed : why the models did not load; None if they did

    Raises
    ------
    TrellicError
        When a model, a file of keys or the folder of sources cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.coder = Coder(settings, self.metrics.batch)
        self.pool: Pool | None = None
        self.stopping = False
        self.failed: BaseException | None = None
        self.source = open_source(settings)
        self._api_keys = settings.api_keys and Watched(settings.api_keys, parse_api_keys)
        self._signing = settings.signing_keys and Watched(settings.signing_keys, parse)

    async def start(self) -> None:
        """Load the models; the service is `ready` afterwards."""
        try:
            await asyncio.to_thread(self.coder.load)
        except Exception as error:
            self.failed = error
            _log.critical("the models do not load", exc_info=error)
            return
        settings = self.settings
        workers = settings.workers_on(self.coder.gpu)
        queue = settings.queue_for(workers)
        self.pool = Pool(workers, queue, settings.deadline, settings.limits)
        self.metrics.watch(self.pool)
        self.metrics.ready(True)
        fields = {"models": self.coder.models, "workers": workers, "queue": self.pool.queue}
        _log.info("ready", extra={"fields": fields})

    def stop(self) -> None:
        """Tell probes and clients that this service ends soon; it still answers."""
        self.stopping = True
        self.metrics.ready(False)

    async def close(self) -> None:
        """End all threads."""
        if self.pool is not None:
            await asyncio.to_thread(self.pool.close)
        await asyncio.to_thread(self.coder.close)

    @property
    def started(self) -> bool:
        """Whether the engines are warm."""
        return self.pool is not None

    @property
    def ready(self) -> bool:
        """Whether it accepts more calls."""
        return self.started and not self.stopping

    def open_pool(self) -> Pool:
        """Return the queue.

        Raises
        ------
        NotReady
            When the engines are not warm yet.
        """
        if self.pool is None:
            raise NotReady("engines are not warm yet", remedy="try again in a few seconds")
        return self.pool

    def let_in(self, authorization: str | None) -> str:
        """Return the name of a client's key; empty if no keys are needed.

        Raises
        ------
        Unauthorized
            When the client has no key.
        """
        return name_of(self._api_keys(), authorization) if self._api_keys else ""

    def check_signature(self, signature: str, path: str) -> None:
        """Check the signature of a URL.

        Raises
        ------
        Forbidden
            When it is wrong, or there is none and that is not allowed.
        """
        if signature in UNSIGNED and self.settings.allow_unsigned:
            return
        check = partial(holds, self._signing()) if self._signing else None
        if check is None or not check(signature, path):
            raise Forbidden("a signature that does not fit the URL", remedy="sign the URL again")
