"""Checks of the arguments of ``trellic export``: options are refused where nothing uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import typer

from trellic.errors import BadParameter
from trellic.model.decoders import NAME_PATTERN
from trellic_export.target import prepare

VARIANTS = frozenset({"int8", "fp16", "replace"})
OF_INT8 = frozenset({"int8_graphs", "photos", "count"})
OF_OTHER_JOBS = frozenset({"instances", "max_size", "max_batch", "web_decoders"})
USED: Mapping[str, frozenset[str]] = {  # job: options beside the one that asks for it
    "triton": frozenset({"instances"}),
    "tensorrt": frozenset({"max_size", "max_batch"}),
    "web": frozenset({"web_decoders"}),
    "only": frozenset({"replace"}),
}


def refuse_unused(context: typer.Context, *, from_bundle: bool) -> None:
    """Refuse options that the job at hand would not use.

    Parameters
    ----------
    context : of the command
    from_bundle : whether it adds graphs to a bundle, in place of exporting weights

    Raises
    ------
    BadParameter
        When such an option is given.
    """
    given = [
        name
        for name in context.params
        if name != "paths"
        and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    job = next((name for name in USED if name in given), None)
    if job is not None:
        used = USED[job] | {job}
    elif from_bundle:
        used = VARIANTS if "fp16" in given and "int8" not in given else VARIANTS | OF_INT8
    else:
        used = frozenset(context.params) - OF_OTHER_JOBS
    if "int8" not in given:
        used -= {"int8_graphs"}
    unused = [name for name in given if name not in used]
    if unused:
        spelled = {parameter.name: parameter.opts[0] for parameter in context.command.params}
        what = f"with {spelled[job]}" if job else "for this export"
        raise BadParameter(
            f"{', '.join(spelled[name] for name in unused)} {what}, which does not use it",
            remedy="leave it out",
        )


def check_paths(
    weights: list[Path],
    out: Path,
    source: str,
    checkpoint: Path | None,
    keep: Path | None,
    *,
    replace: bool,
) -> None:
    """Check what is read and what is written.

    Parameters
    ----------
    weights, out : the paths of the command
    source, checkpoint, keep : its options ``--from``, ``--checkpoint`` and ``--keep``
    replace : allow files that exist

    Raises
    ------
    BadParameter
        When they do not fit together, a file exists, or the bundle's name will not do.
    OSError
        When a file cannot be written.
    """
    if out.suffix != ".zip":
        raise BadParameter(f"bundle {str(out)!r}", expected="a name that ends in .zip")
    if not re.match(NAME_PATTERN, out.stem):
        raise BadParameter(
            f"model name {out.stem!r}", expected="small letters, digits, dots, dashes, underscores"
        )
    given = (len(weights), bool(source), bool(checkpoint))
    if given not in ((1, False, False), (0, True, True)) or (keep and not source):
        raise BadParameter(
            f"{len(weights)} weights, --from {source!r}, --checkpoint {str(checkpoint or '')!r}",
            expected="WEIGHTS OUT, or --from compressai:ARCHITECTURE --checkpoint FILE OUT",
        )
    for target in (out, keep):
        if target is not None:
            prepare(target, replace)
