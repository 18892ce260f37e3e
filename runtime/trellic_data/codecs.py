"""The codecs of a process: loaded when first needed, and again in every process."""

from __future__ import annotations

import os
from functools import lru_cache

from trellic.codec import Codec
from trellic.constants import DEFAULT_MODEL, Device


def codec_for(model: str = DEFAULT_MODEL, device: Device = "cpu", threads: int = 1) -> Codec:
    """Return this process's codec of a model.

    Data loaders fork, so an engine that was loaded before a fork is not used after it.

    Parameters
    ----------
    model, device : as of `trellic.Codec`
    threads : of each engine; 1 if there are as many workers as cores

    Raises
    ------
    TrellicError
        When the model does not load.
    """
    return _codec(os.getpid(), model, device, threads)


@lru_cache(maxsize=8)
def _codec(process: int, model: str, device: Device, threads: int) -> Codec:
    return Codec.load(model, device, threads)
