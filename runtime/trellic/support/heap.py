"""Freed memory stays with the process, so that the next picture does not ask the system for it.

glibc takes blocks that it thinks large from the system and gives them back when they are freed, and
the system then clears every page again for the next picture (2,000 pages for a photo of 768x512).
What is large follows from the largest block that was freed so far (mallopt(3), M_MMAP_THRESHOLD).
Other C libraries are not concerned.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

LARGE: Final = 16 << 20  # bytes; glibc keeps up to twice as much free memory


@functools.cache  # once is enough
def keep_freed() -> None:
    """Free a block whose pages were never touched, which costs nothing."""
    np.empty(LARGE, np.uint8)
