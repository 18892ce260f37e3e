"""``trellic models``: the installed models."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trellic.cli import decoders
from trellic.cli.report import fail, one_line
from trellic.errors import BadParameter, TrellicError
from trellic.model import adapters, archive, bundle
from trellic.model.adapter import SUFFIX, Adapter
from trellic.model.manifest import Manifest
from trellic.support.files import write_atomically


def run(names: Sequence[str], as_json: bool) -> None:
    """List models, all that are installed without names; see ``trellic models --help``.

    Raises
    ------
    typer.Exit
        With code 1 if there is no model of a name.
    """
    try:
        paths = [bundle.find(name) for name in names]
        chosen = [(path, bundle.read_manifest(path)) for path in paths]
    except (TrellicError, OSError) as error:
        raise fail(error) from error
    of = adapters.installed()
    found = [_fields(path, manifest, of) for path, manifest in (chosen or bundle.installed())]
    if as_json:
        for fields in found:
            print(json.dumps(fields))
    elif found:
        _table(found)
    else:
        print("no model is installed; add one with: trellic models add PATH")


def add(path: str, replace: bool) -> None:
    """Check a bundle or an adapter and copy it to the user's folder.

    Raises
    ------
    typer.Exit
        With code 1 if it is not valid, would replace another one (unless ``replace``), or cannot be
        copied.
    """
    if path.endswith(SUFFIX):
        _add_adapter(path, replace)
        return
    try:
        os.stat(path)
        with archive.open_file(Path(path)) as file:
            data = file.read()
        manifest = bundle.Bundle(Path(path), data).manifest
        if not replace:
            _refuse_stand_in(manifest)
        folder = bundle.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{manifest.name}-{manifest.stream_id}.zip"
        write_atomically(target, data)
    except (TrellicError, OSError) as error:
        raise fail(error, path) from error
    print(one_line(f"added {manifest.name} (stream id {manifest.stream_id}): {target}"))


def _add_adapter(path: str, replace: bool) -> None:
    try:
        adapter = adapters.read(Path(path))
        model = bundle.Bundle(bundle.find_stream(adapter.stream_id))
        model.with_adapter(adapter)
        folder = bundle.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{adapter.name}-{adapter.stream_id}{SUFFIX}"
        if target.exists() and not replace and adapters.read(target).id != adapter.id:
            raise BadParameter(
                f"another adapter {adapter.name!r} is installed; files that name it would lose it",
                remedy="if that is wanted: trellic models add --replace PATH",
            )
        write_atomically(target, adapter.to_bytes())
    except (TrellicError, OSError) as error:
        raise fail(error, path) from error
    named = f"{adapter.name} of model {model.manifest.name} (id {adapter.id.hex()})"
    print(one_line(f"added adapter {named}: {target}"))


def remove(name: str) -> None:
    """Remove the adapter or model of a name from the user's folder.

    Raises
    ------
    typer.Exit
        With code 1 if nothing of that name was added there.
    """
    try:
        folder = bundle.user_folder()
        added = [(path, one.name) for path, one in adapters.installed()]
        added += [(path, manifest.name) for path, manifest in bundle.installed()]
        paths = [path for path, own in added if own == name and path.parent == folder]
        if not paths:
            raise BadParameter(
                f"no adapter and no model {name!r} in {folder}",
                remedy="trellic models lists what is installed, and where",
            )
        for path in paths:
            path.unlink()
            print(one_line(f"removed {path}"))
    except (TrellicError, OSError) as error:
        raise fail(error) from error


def _refuse_stand_in(manifest: Manifest) -> None:
    """Refuse a bundle that would be used in the place of another one.

    A slim model has the stream id of its large one, and never takes its place by that.
    """
    for path, other in bundle.installed():
        compared = [("name", manifest.name, other.name)]
        if not (bundle.is_slim(manifest) or bundle.is_slim(other)):
            compared.append(("stream id", manifest.stream_id, other.stream_id))
        same = [f"the {what} {value!r}" for what, value, theirs in compared if value == theirs]
        if same and other != manifest:
            raise BadParameter(
                f"it has {' and '.join(same)} of {path}, and would be used in its place",
                remedy="to allow that: trellic models add --replace PATH",
            )


def _fields(path: Path, manifest: Manifest, of: Sequence[tuple[Path, Adapter]]) -> dict[str, Any]:
    own = [(place, one) for place, one in of if one.stream_id == manifest.stream_id]
    return {
        "name": manifest.name,
        "stream_id": manifest.stream_id,
        "description": manifest.description,
        "licence": manifest.licence,
        "path": str(path),
        "bytes": path.stat().st_size,
        "stands_in_for": bundle.stands_in_for(path, manifest) or None,
        "encoder_kmac_per_pixel": manifest.encoder.kmac_per_pixel,
        "encoder_precisions": manifest.encoder.precisions,
        "decoders": {name: decoders.describe(info) for name, info in manifest.decoders.items()},
        "adapters": {
            one.name: {"id": one.id.hex(), "parameters": one.parameters, "path": str(place)}
            for place, one in own
        },
    }


def _table(models: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for model in models:
        table = Table("network", "kMAC/pixel", "gives", "precision", "purpose", highlight=False)
        table.columns[1].justify = "right"
        cost, precisions = model["encoder_kmac_per_pixel"], ", ".join(model["encoder_precisions"])
        table.add_row("encoder", f"{cost:.1f}", "latents", precisions, "")
        for name, fields in model["decoders"].items():
            gives, cost = decoders.result(fields), f"{fields['kmac_per_pixel']:.1f}"
            precisions = ", ".join(fields["precisions"])
            purpose = Text(one_line(fields["purpose"]))  # text of strangers: no markup, no controls
            table.add_row(f"decoder {name}", cost, gives, precisions, purpose)
        for line in _heading(model):
            print(one_line(line))
        Console(highlight=False).print(table)
        for name, of in model["adapters"].items():
            print(one_line(f"  adapter {name}  (id {of['id']}, {of['parameters']} parameters)"))


def _heading(model: dict[str, Any]) -> list[str]:
    """Return the lines above the table of a model, whose words cannot be trusted."""
    size = model["bytes"] / 1e6
    lines = [f"{model['name']}  (stream id {model['stream_id']}, {size:.1f} MB)"]
    if model["stands_in_for"]:
        lines.append(f"  stands in for the {model['stands_in_for']!r} that came with Trellic")
    if model["description"]:
        lines.append(f"  {model['description']}")
    return [*lines, f"  licence {model['licence']}, {model['path']}"]
