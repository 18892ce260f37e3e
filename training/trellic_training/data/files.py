"""Files of `torch.save`: the one place where they are read and written.

Such files are pickles, and a pickle can run any code. Only tensors and plain values are read
(``weights_only``); a file with anything else is refused, and nothing of it is run.
"""

from __future__ import annotations

import errno
import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PickleError
from typing import Any

import torch

from trellic.errors import BadParameter
from trellic.support.files import write_atomically

BROKEN = (OSError, RuntimeError, LookupError, ValueError, TypeError, EOFError, PickleError)


@contextmanager
def reading(path: Path, fault: str) -> Iterator[None]:
    """Turn what torch or a check raises about a file into one error.

    Parameters
    ----------
    path : of the file
    fault : what the error says of the file, such as "holds no decoder"

    Raises
    ------
    BadParameter
        When the file cannot be read, or its content is refused.
    """
    try:
        yield
    except PickleError as error:  # torch's advice, to load it unsafely, is left out
        code = "GLOBAL" in str(error)  # of a pickle: a function or class by its name
        what = "it holds objects that would run code" if code else "no file of torch.save"
        raise BadParameter(f"{path} {fault} ({what})") from error
    except KeyError as error:  # of a file of ours; of others torch looks for a code of a pickle
        key = error.args[0]
        what = f"it lacks {key!r}" if isinstance(key, str) else "no file of torch.save"
        raise BadParameter(f"{path} {fault} ({what})") from error
    except FileNotFoundError as error:
        raise BadParameter(f"{path} {fault} (No such file)") from error
    except BROKEN as error:
        what = _in_words(error)
        raise BadParameter(f"{path} {fault} ({what})") from error


def _in_words(error: Exception) -> str:
    """Say what is wrong with a file; torch's own words are about its insides."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if "PytorchStreamReader" in said or getattr(error, "errno", 0) == errno.EINVAL:
        return "it is damaged, such as cut off"
    if "in loading state_dict" in said:
        return "its networks have other layers or sizes than they should"
    return said


def load(path: Path) -> Any:
    """Read tensors and plain values onto the CPU; use it within `reading`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        return torch.load(path, map_location="cpu", weights_only=True)


def load_marked(path: Path, mark: str, version: int, kind: str) -> dict[str, Any]:
    """Read a file of ours, whose content names its version; use it within `reading`.

    Parameters
    ----------
    mark : key of the version, which no other kind of file has
    kind : what the file should be, such as "decoder"

    Raises
    ------
    ValueError
        When the file is of another kind or version.
    """
    content = load(path)
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        beside = path.with_name("weights.pt")
        wanted = beside if beside.is_file() else "the .pt file of that run"
        raise ValueError(f"it is a checkpoint for --resume; name {wanted}")
    if not isinstance(content, dict) or content.get(mark) != version:
        raise ValueError(f"no {kind} of version {version}")
    return content


def save(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; a reader sees the whole old file or the whole new one.

    Raises
    ------
    OSError
        When the file cannot be written, such as on a full disk. Nothing is left behind then.
    """
    made = io.BytesIO()
    torch.save(content, made)
    write_atomically(path, made.getvalue())


def sha256_of(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
