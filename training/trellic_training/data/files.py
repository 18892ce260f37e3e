"""Files of `torch.save` that come from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PickleError

from trellic.errors import BadParameter

BROKEN = (OSError, RuntimeError, LookupError, ValueError, TypeError, EOFError, PickleError)


@contextmanager
def reading(path: Path, fault: str) -> Iterator[None]:
    """Say in one error what is wrong with a file, whatever torch or a check says of it.

    Parameters
    ----------
    path : of the file
    fault : what to say of it, such as "holds no decoder"

    Raises
    ------
    BadParameter
        When the file cannot be read, or its content is refused.
    """
    try:
        yield
    except PickleError as error:  # torch's advice, to load it unsafely, is left out
        raise BadParameter(f"{path} {fault} (no file of torch.save)") from error
    except BROKEN as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadParameter(f"{path} {fault} ({what})") from error
