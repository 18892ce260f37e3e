"""A handler of ``.tlc`` members of webdataset's tar shards.

::

shards = wds.WebDataset("photos-{000..099}.tar").decode(handler(View(256, 256)))
for sample in shards:
sample["tlc"]  # uint8 (256, 256, 3)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import webdataset

from trellic.constants import DEFAULT_MODEL
from trellic_data.codecs import codec_for
from trellic_data.views import Pixels, View, see


def handler(
    view: View | None = None, *, decoder: str | None = None, model: str = DEFAULT_MODEL
) -> Callable[[str, bytes], Any]:
    """Return a handler for ``WebDataset.decode``.

    Parameters
    ----------
    view : the part or size of each picture to return; None for the whole picture. Random crops
        follow the module `random`
    decoder : None for the fastest that is enough, see `trellic_data.views.see`
    model : loaded first; streams of other installed models are decoded too

    Returns
    -------
    handler of members whose name ends in ``.tlc``: uint8 (H, W, 3)
    """

    def decode(data: bytes) -> Pixels:
        at = random.random(), random.random()  # noqa: S311  (of crops)
        return see(codec_for(model), data, view, decoder, at)

    handle: Callable[[str, bytes], Any] = webdataset.handle_extension("tlc", decode)
    return handle
