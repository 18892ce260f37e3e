"""Settings of a service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trellic.constants import DEFAULT_MODEL, Device, Precision
from trellic.errors import BadParameter
from trellic.support.bounds import PROFILES, Limits
from trellic.support.cores import usable_cores

_SERVICE = PROFILES["service"]
POSITIVE = ("max_bytes", "max_pixels", "max_memory", "deadline", "read_timeout", "write_timeout")
NOT_NEGATIVE = ("workers", "threads", "stop_timeout", "linger", "max_age", "window")


@dataclass(frozen=True)
class Settings:
    """Settings of a service; ``trellic serve`` has options of the same names.

    Parameters
    ----------
    models : names or paths; the first is the default. Clients choose by the names
    adapters : names or paths, each of one of the models. Clients choose by the names
    device, precision : as of `trellic.Codec`
    workers : calls at once; 0 for one per core (on a GPU one per core and one batch more)
    threads : of each engine; with as many workers as cores, 1 gives the most pictures per second
    queue : calls that may wait; 0 for four per worker; more get 429
    window, batch : on a GPU, seconds to wait for more pictures of one batch, and its most pictures
    max_bytes : of a request's body, and of a source
    max_pixels, max_memory, deadline : of one call, see `trellic.Limits`
    read_timeout : seconds in which a request must have arrived, headers and body each
    write_timeout : seconds in which a client must take some of an answer
    stop_timeout : seconds that running requests get when the service stops
    warm_first : accept no connection before the models are loaded
    linger : seconds between SIGTERM and refusing connections, for load balancers to notice
    source : folder, or prefix of an fsspec URL, that ``GET /i`` reads from; None for no such route
    max_age : of ``Cache-Control`` of ``GET /i``, seconds
    signing_keys : file of keys of URLs; without it ``GET /i`` needs ``allow_unsigned``
    allow_unsigned : serve URLs without a signature
    allow_private, allow_loopback : read sources over HTTP from such addresses
    api_keys : file of API keys; None lets everybody in
    web : folder that ``trellic export --web`` wrote; it is served under ``/web`` to everybody

    Raises
    ------
    BadParameter
        When a number is out of range.
    """

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    adapters: tuple[str, ...] = ()
    device: Device = "auto"
    precision: Precision = "fp32"
    workers: int = 0
    threads: int = 1
    queue: int = 0
    window: float = 0.004
    batch: int = 16
    max_bytes: int = 32 * 2**20
    max_pixels: int = _SERVICE.max_pixels or 0
    max_memory: int = _SERVICE.max_memory or 0
    deadline: float = _SERVICE.deadline or 0.0
    read_timeout: float = 30.0
    write_timeout: float = 30.0
    stop_timeout: float = 60.0
    warm_first: bool = False
    linger: float = 0.0
    source: str | None = None
    max_age: int = 86400
    signing_keys: Path | None = None
    allow_unsigned: bool = False
    allow_private: bool = False
    allow_loopback: bool = False
    api_keys: Path | None = None
    web: Path | None = None

    def __post_init__(self) -> None:
        for names, least, words in ((POSITIVE, 1e-9, "over 0"), (NOT_NEGATIVE, 0, "at least 0")):
            for name in names:
                if not getattr(self, name) >= least:
                    raise BadParameter(f"{name} {getattr(self, name)!r}", expected=words)
        if not self.models or self.batch < 1 or self.queue < 0:
            raise BadParameter(
                f"models {self.models!r}, batch {self.batch}, queue {self.queue}",
                expected="at least one model, at least one picture a batch, no queue below 0",
            )
        if self.web and not (self.web / "demo.html").is_file():
            raise BadParameter(
                f"no demo.html in {self.web}",
                expected="a folder for web pages",
                remedy=f"write it: trellic export {DEFAULT_MODEL} --web {self.web}",
            )

    @property
    def limits(self) -> Limits:
        """Limits of a call and of the codecs; the pool counts the deadline, with waiting."""
        return Limits(max_pixels=self.max_pixels, max_memory=self.max_memory)

    def workers_on(self, gpu: bool) -> int:
        """Return how many calls run at once."""
        return self.workers or usable_cores() + (self.batch if gpu else 0)

    def queue_for(self, workers: int) -> int:
        """Return how many calls may wait."""
        return self.queue or 4 * workers
