"""Write the folder: the model's files, the scripts, ``package.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trellic
from trellic.constants import COLOURS
from trellic.errors import BadParameter
from trellic.model import archive
from trellic.model.bundle import INTEGERS as NORMATIVE
from trellic.model.bundle import Bundle
from trellic.model.choice import find
from trellic.model.decoders import DecoderInfo
from trellic_export.bundle import members
from trellic_export.web.kernels import kernels
from trellic_export.web.program import compile_decoder

VERSION = 2  # of model.json
SCRIPTS = Path(__file__).parent / "js"
ALIGNMENT = 16  # bytes, of each array
INTEGERS = "integers.bin"
KERNELS = "kernels.wasm"
USUAL = ("preview", "fast")  # default decoders of pages


@dataclass(frozen=True)
class WebOptions:
    """Options of a page's folder.

    Attributes
    ----------
    decoders : names; the first full-size picture decoder is the default. Empty for those of `USUAL`
        that the model has, or else its first one
    """

    decoders: Sequence[str] = ()


def export_web(bundle: Bundle, out: Path, options: WebOptions | None = None) -> dict[str, int]:
    """Write all that a page needs into a folder.

    Parameters
    ----------
    bundle : the model
    out : folder, made if it is missing; existing files are replaced

    Returns
    -------
    dict of int, bytes of each file by name

    Raises
    ------
    UnknownDecoder
        When the model lacks a decoder.
    BadParameter
        When a decoder gives no picture, or has operators that pages have no kernel for, or the
        model is of other bands than red, green and blue.
    """
    bands = bundle.manifest.layout.bands
    if bands != COLOURS:
        raise BadParameter(f"a model of {bands} bands", expected="one in colour, which pages show")
    options = options or WebOptions()
    chosen = _chosen(bundle, options.decoders)
    files = _model_files(bundle, chosen)
    files["package.json"] = _json(_package(bundle))
    for path in sorted(SCRIPTS.iterdir()):
        files[path.name] = path.read_bytes()
    for name, data in files.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return {name: len(data) for name, data in files.items()}


def _chosen(bundle: Bundle, names: Sequence[str]) -> dict[str, DecoderInfo]:
    there = bundle.manifest.decoders
    pictures = [name for name, info in there.items() if info.kind == "picture"]
    usual = [name for name in USUAL if name in pictures]
    if not any(there[name].scale == 1 for name in usual):
        usual += [name for name in pictures if there[name].scale == 1][:1]
    found = {name: find(there, name, bundle.manifest.name) for name in names or usual}
    for name, info in found.items():
        if info.kind != "picture":
            raise BadParameter(f"decoder {name!r} gives labels", expected="one that gives pictures")
    return found


# ---- the model ----


def _model_files(bundle: Bundle, decoders: dict[str, DecoderInfo]) -> dict[str, bytes]:
    manifest = bundle.manifest
    arrays = archive.load_arrays(members(bundle)[NORMATIVE], f"{NORMATIVE} of {bundle.path}")
    integers, index = _packed(arrays)
    layout = manifest.layout
    programs = {
        name: compile_decoder(bundle.graph(info.graph), info.channels or layout.latents)
        for name, info in decoders.items()
    }
    files = {INTEGERS: integers, KERNELS: kernels()}
    files |= {f"decoders/{name}.bin": program.data for name, program in programs.items()}

    def listed(file: str) -> dict[str, str]:
        return {"file": file, "sha256": hashlib.sha256(files[file]).hexdigest()}

    full = [name for name, info in decoders.items() if info.scale == 1]
    model = {
        "web": VERSION,
        "name": manifest.name,
        "licence": manifest.licence,
        "streamId": manifest.stream_id,
        "layout": layout.model_dump(mode="json"),
        "integers": listed(INTEGERS),
        "arrays": index,
        "kernels": listed(KERNELS),
        "probes": {name: manifest.probes[name] for name in bundle.network_names},
        "decoders": {
            name: {
                "program": listed(f"decoders/{name}.bin") | programs[name].facts,
                "purpose": info.purpose,
                "halo": info.graph.halo,
                "seesQuality": info.graph.sees_quality,
                "channels": info.channels or layout.latents,
                "steps": info.steps_in(layout),
                "scale": info.scale,
                "base": info.base if info.base in decoders else None,
            }
            for name, info in decoders.items()
        },
        "defaultDecoder": (full or list(decoders))[0],
    }
    return files | {"model.json": _json(model)}


def _packed(
    arrays: archive.Arrays,
) -> tuple[bytes, dict[str, dict[str, Any]]]:
    """Lay arrays one after the other; return all bytes and the index."""
    parts, index, at = [], {}, 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        data = array.tobytes()
        index[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": at}
        parts.append(data + bytes(-len(data) % ALIGNMENT))
        at += len(parts[-1])
    return b"".join(parts), index


# ---- the package ----


def _package(bundle: Bundle) -> dict[str, Any]:
    """``package.json``; its version names the format and the stream id."""
    manifest = bundle.manifest
    version = f"{trellic.__version__}-tlc1-{manifest.stream_id}"
    return {
        "name": f"trellic-web-{manifest.name}",
        "version": version,
        "description": f"Shows .tlc pictures of the model {manifest.name!r} in web pages",
        "license": manifest.licence,
        "type": "module",
        "exports": {
            ".": {"types": "./client.d.ts", "default": "./client.js"},
            "./images": {"types": "./trellic.d.ts", "default": "./trellic.js"},
            "./*": "./*",
        },
        "types": "./client.d.ts",
        "sideEffects": ["./trellic.js", "./worker.js", "./service-worker.js"],
    }


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
