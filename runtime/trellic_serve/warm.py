"""Compile the kernels of a service by loading its models: ``python -m trellic_serve.warm``.

Run it when an image is built, as the user that will serve. Arguments are names or paths of models.
"""

from __future__ import annotations

import sys

from trellic.constants import DEFAULT_MODEL
from trellic_serve.codecs import Coder
from trellic_serve.settings import Settings


def main(models: list[str]) -> int:
    """Load models as a service does, and say which.

    Raises
    ------
    TrellicError
        When one does not load.
    """
    coder = Coder(Settings(models=tuple(models) or (DEFAULT_MODEL,), device="cpu"))
    coder.load()
    print("warm:", ", ".join(coder.models))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
