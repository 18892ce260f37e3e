"""The file that a command writes, by the name of what it makes; neither may be the model's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trellic.errors import BadParameter
from trellic.model.decoders import NAME_PATTERN
from trellic.support.files import check_writable

if TYPE_CHECKING:
    from trellic.model.bundle import Bundle

Replace = Annotated[
    bool, typer.Option("--replace", help="Write over a file of an earlier run at the same place.")
]


def refuse_the_model_itself(kind: str, name: str, target: Path, bundle: Bundle) -> None:
    """Refuse to make something in the place, or under the name, of the model that it is made from.

    Parameters
    ----------
    kind : what is made, for messages

    Raises
    ------
    BadParameter
        When either is that of the model.
    """
    model = bundle.manifest.name
    if name == model or target.resolve() == bundle.path.resolve():
        raise BadParameter(
            f"{kind} {name!r} in {str(target)!r}, made from the model {model!r}",
            expected="another name, and another file",
        )


def prepare(target: Path, replace: bool) -> None:
    """Make the folder of a file, and check before long work that the file can be written.

    Parameters
    ----------
    replace : allow a file that exists

    Raises
    ------
    BadParameter
        When the file exists.
    OSError
        When it cannot be written.
    """
    if target.is_file() and not replace:
        raise BadParameter(
            f"{str(target)!r} exists already", remedy="write to another file, or add --replace"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    check_writable(target)


def target_of(kind: str, name: str, out: Path | None, suffix: str, replace: bool) -> Path:
    """Return the file to write: the one that was asked for, or the name with the suffix.

    Parameters
    ----------
    kind : what is made, for messages
    replace : allow a file that exists

    Raises
    ------
    BadParameter
        When the name has other letters than names have, or the file another suffix or exists.
    OSError
        When the file cannot be written.
    """
    if not re.match(NAME_PATTERN, name):
        raise BadParameter(
            f"{kind} name {name!r}", expected="small letters, digits, dots, dashes, underscores"
        )
    target = Path(f"{name}{suffix}") if out is None else out
    if target.suffix != suffix:
        raise BadParameter(f"{kind} {str(target)!r}", expected=f"a name that ends in {suffix}")
    prepare(target, replace)
    return target
