"""Trellic as an HTTP service: ``trellic serve`` (extra: serve).

`trellic` never imports this package. ::

    request -> envelope (id, log, metrics) -> routes -> pool (bounded) -> coder -> Codec
"""

from __future__ import annotations

from trellic_serve.app import create_app
from trellic_serve.settings import Settings

__all__ = ["Settings", "create_app"]
