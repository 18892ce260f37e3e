"""``trellic models``: the installed models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trellic.cli import decoders
from trellic.cli.report import fail
from trellic.errors import TrellicError
from trellic.model import bundle
from trellic.support.files import read_bytes


def run(as_json: bool) -> None:
    """List the installed models; see ``trellic models --help``."""
    found = [_fields(path, manifest) for path, manifest in bundle.installed()]
    if as_json:
        for fields in found:
            print(json.dumps(fields))
    elif found:
        _table(found)
    else:
        print("no model is installed; add one with: trellic models add PATH")


def add(path: str) -> None:
    """Check a bundle and copy it to the user's folder.

    Raises
    ------
    typer.Exit
        With code 1 if it is no valid bundle or cannot be copied.
    """
    from trellic.support.files import write_atomically

    try:
        data = read_bytes(path)
        manifest = bundle.Bundle(Path(path)).manifest
        folder = bundle.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{manifest.name}-{manifest.stream_id}.zip"
        write_atomically(target, data)
    except (TrellicError, OSError) as error:
        raise fail(error, path) from error
    print(f"added {manifest.name} (stream id {manifest.stream_id}): {target}")


def _fields(path: Path, manifest: bundle.Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "stream_id": manifest.stream_id,
        "description": manifest.description,
        "licence": manifest.licence,
        "path": str(path),
        "bytes": path.stat().st_size,
        "encoder_kmac_per_pixel": manifest.encoder.kmac_per_pixel,
        "encoder_precisions": manifest.encoder.precisions,
        "decoders": {name: decoders.describe(info) for name, info in manifest.decoders.items()},
    }


def _table(models: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    for model in models:
        table = Table("network", "kMAC/pixel", "gives", "precision", "purpose", highlight=False)
        table.columns[1].justify = "right"
        cost, precisions = model["encoder_kmac_per_pixel"], ", ".join(model["encoder_precisions"])
        table.add_row("encoder", f"{cost:.1f}", "latents", precisions, "")
        for name, fields in model["decoders"].items():
            gives, cost = decoders.result(fields), f"{fields['kmac_per_pixel']:.1f}"
            precisions = ", ".join(fields["precisions"])
            table.add_row(f"decoder {name}", cost, gives, precisions, fields["purpose"])
        size = model["bytes"] / 1e6
        print(f"{model['name']}  (stream id {model['stream_id']}, {size:.1f} MB)")
        if model["description"]:
            print(f"  {model['description']}")
        print(f"  licence {model['licence']}, {model['path']}")
        Console(highlight=False).print(table)
