"""``trellic warm-up``: compile all kernels ahead, such as in a container's image."""

from __future__ import annotations

import time

from trellic.cli.engines import Engines
from trellic.cli.report import CannotGoOn, fail
from trellic.constants import Trellis
from trellic.support import cache

SEARCHES: tuple[Trellis, ...] = (0, 32)  # scalar, and a trellis: its kernels serve all states


def run(model: str, decoder: str, engines: Engines) -> None:
    """Compile all that encoding and decoding with a model need; see ``trellic warm-up --help``.

    Raises
    ------
    typer.Exit
        With code 1 if the model cannot be loaded, or if there is no folder to keep kernels in.
    """
    start = time.perf_counter()
    try:
        for trellis in SEARCHES:
            codec = engines.both(model, trellis, decoder)
    except CannotGoOn as error:
        raise fail(error.cause) from error
    folder, why = cache.folder(cache.KERNELS), cache.missing(cache.KERNELS)
    if folder is None:
        raise fail(OSError(0, f"there is no private folder to keep kernels in ({why})"))
    seconds = time.perf_counter() - start
    what = f"{engines.compiled} kernels compiled" if engines.compiled else "nothing to compile"
    print(f"model {codec.model} is ready: {what}, {seconds:.1f} s ({folder})")
