"""Exact networks in an engine, checked by a probe, with plain integers as a fallback."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trellic.engines import Engine
from trellic.errors import EngineError, TrellicWarning
from trellic.integer.networks import IntegerNetwork
from trellic.support import bounds

PROBE_SIZE = 12  # of the probe's input planes; large enough for all border effects of a 5x5 kernel
Float = npt.NDArray[np.float32]


def probe_input(channels: int) -> Float:
    """Return a fixed pseudo-random input, (channels, 12, 12) integers in [-127, 127]."""
    count = channels * PROBE_SIZE * PROBE_SIZE
    # a counter-based hash (the finaliser of MurmurHash3), so that every platform agrees
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B1) & np.uint64(0xFFFFFFFF)
    x = (x ^ (x >> np.uint64(16))) * np.uint64(0x85EBCA6B) & np.uint64(0xFFFFFFFF)
    x = (x ^ (x >> np.uint64(13))) * np.uint64(0xC2B2AE35) & np.uint64(0xFFFFFFFF)
    values = ((x ^ (x >> np.uint64(16))) % np.uint64(255)).astype(np.float32) - 127
    return values.reshape(channels, PROBE_SIZE, PROBE_SIZE)


def digest(outputs: list[npt.NDArray[np.floating]]) -> str:
    """SHA-256 of integer outputs, as int32 little endian, one after the other.

    The digest of outputs that are not integers is an empty text.
    """
    total = hashlib.sha256()
    for output in outputs:
        with np.errstate(invalid="ignore"):  # values that are not finite are found below
            integers = np.ascontiguousarray(output, "<i4")
        if not np.array_equal(integers, output):
            return ""
        total.update(integers.tobytes())
    return total.hexdigest()


class ExactNetwork:
    """One integer network, in the engine if its probe gives the right integers.

    An engine that gives other integers or fails is not used again. The plain integers replace it,
    with a `TrellicWarning`.

    Parameters
    ----------
    name : for messages
    network : the plain integers
    probe_digest : expected `digest` of the probe's outputs
    load : makes the engine; called once, by the constructor
    """

    def __init__(
        self, name: str, network: IntegerNetwork, probe_digest: str, load: Callable[[], Engine]
    ) -> None:
        self._network = network
        self._engine: Engine | None = load()
        fault = self._probe(probe_digest)
        if fault:
            self._engine = None
            warnings.warn(
                f"the engine's integers of {name!r} {fault} on this machine; "
                "using the plain integer network, which is slower",
                TrellicWarning,
                stacklevel=2,
            )

    def _probe(self, expected: str) -> str:
        """Return what is wrong with the engine; empty if nothing is."""
        try:
            seen = self(probe_input(self._network.channels_in))
        except EngineError as error:
            return f"cannot be computed ({error})"
        return "" if digest(seen) == expected else "are wrong"

    @property
    def exact_engine(self) -> bool:
        """Whether the engine passed its probe (otherwise the plain integers are used)."""
        return self._engine is not None

    @property
    def reach(self) -> int:
        """How far an output depends on the input around it; see `IntegerNetwork.reach`."""
        return self._network.reach

    def __call__(self, x: Float) -> list[npt.NDArray[np.floating]]:
        """Evaluate: (channels, h, w) integers as float32 to a list of the same kind.

        Raises
        ------
        Stopped
            When a time limit has passed (see `trellic.support.bounds`), because every slice calls
            this.
        """
        bounds.check()
        if self._engine is None:
            return [np.asarray(y, np.float32) for y in self._network(x)]
        return [y[0] for y in self._engine({"x": x[None]})]
