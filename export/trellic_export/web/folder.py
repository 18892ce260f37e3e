"""Write the folder: the model's files, the scripts, onnxruntime-web, ``package.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trellic
from trellic.errors import BadParameter
from trellic.model import archive
from trellic.model.bundle import INTEGERS as NORMATIVE
from trellic.model.bundle import Bundle
from trellic.model.choice import find
from trellic.model.decoders import DecoderInfo
from trellic_export.bundle import members
from trellic_export.web import graphs
from trellic_export.web.graphs import INTEGERS

VERSION = 1  # of model.json
SCRIPTS = Path(__file__).parent / "js"
ALIGNMENT = 16  # bytes, of each array
ORT_VERSION = "1.30.0"  # that the tests run with
ORT_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
ORT_FOLDER = "onnxruntime"  # where a copy of it lies
USUAL = ("preview", "fast")  # decoders that pages get unless others are asked for


@dataclass(frozen=True)
class WebOptions:
    """What a page's folder is asked for.

    Attributes
    ----------
    decoders : names, the first picture decoder of full size being the default; empty for `USUAL`,
        as far as the model has them, or else its first one
    onnxruntime : folder with the files of onnxruntime-web, such as
        ``node_modules/onnxruntime-web``, to be copied from, or the address that pages load them
        from
    """

    decoders: Sequence[str] = ()
    onnxruntime: str = "node_modules/onnxruntime-web"


def export_web(bundle: Bundle, out: Path, options: WebOptions | None = None) -> dict[str, int]:
    """Write all that a page needs into a folder.

    Parameters
    ----------
    bundle : the model
    out : folder, made if it is missing; files that are there are written over

    Returns
    -------
    dict of int, bytes of each file by name

    Raises
    ------
    UnknownDecoder
        When the model lacks a decoder.
    BadParameter
        When a decoder gives no picture, or onnxruntime-web is not where it should be.
    """
    options = options or WebOptions()
    chosen = _chosen(bundle, options.decoders)
    runtime = _runtime_files(options.onnxruntime)
    files = _model_files(bundle, chosen, ORT_FOLDER if runtime else options.onnxruntime)
    files["package.json"] = _json(_package(bundle))
    for path in sorted(SCRIPTS.iterdir()):
        files[path.name] = path.read_bytes()
    for path in runtime:
        files[f"{ORT_FOLDER}/{path.name}"] = path.read_bytes()
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


def _runtime_files(where: str) -> list[Path]:
    """Files of onnxruntime-web to be copied; none if pages load them from an address."""
    if "://" in where:
        return []
    folder = Path(where)
    dist = folder / "dist" if (folder / "dist").is_dir() else folder
    missing = [name for name in ORT_FILES if not (dist / name).is_file()]
    if missing:
        raise BadParameter(
            f"no {missing[0]} in {dist}",
            expected="a folder with onnxruntime-web",
            remedy=f"npm install onnxruntime-web@{ORT_VERSION}, and name node_modules/"
            "onnxruntime-web with --onnxruntime-web, or an address that serves its files",
        )
    return [dist / name for name in ORT_FILES]


# ---- the model ----


def _model_files(
    bundle: Bundle, decoders: dict[str, DecoderInfo], onnxruntime: str
) -> dict[str, bytes]:
    manifest = bundle.manifest
    arrays = archive.load_arrays(members(bundle)[NORMATIVE], f"{NORMATIVE} of {bundle.path}")
    integers, index, places = _packed(arrays)
    files = {INTEGERS: integers}
    for name in bundle.network_names:
        graph = bundle.graph(manifest.exact[name])
        files[f"graphs/{name}.onnx"] = graphs.integer_graph(graph, places)
    for name, info in decoders.items():
        files[f"graphs/{name}.onnx"] = graphs.decoder_graph(bundle.graph(info.graph))

    def listed(file: str) -> dict[str, str]:
        return {"file": file, "sha256": hashlib.sha256(files[file]).hexdigest()}

    layout = manifest.layout
    full = [name for name, info in decoders.items() if info.scale == 1]
    model = {
        "web": VERSION,
        "name": manifest.name,
        "licence": manifest.licence,
        "streamId": manifest.stream_id,
        "layout": layout.model_dump(mode="json"),
        "integers": listed(INTEGERS),
        "arrays": index,
        "exact": {name: listed(f"graphs/{name}.onnx") for name in bundle.network_names},
        "probes": {name: manifest.probes[name] for name in bundle.network_names},
        "decoders": {
            name: {
                "graph": listed(f"graphs/{name}.onnx"),
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
        "onnxruntime": onnxruntime,
    }
    return files | {"model.json": _json(model)}


def _packed(
    arrays: archive.Arrays,
) -> tuple[bytes, dict[str, dict[str, Any]], dict[bytes, int]]:
    """Lay arrays one after the other; return all bytes, the index, and offsets by content."""
    parts, index, places, at = [], {}, {}, 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        data = array.tobytes()
        index[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": at}
        places[data] = at
        parts.append(data + bytes(-len(data) % ALIGNMENT))
        at += len(parts[-1])
    return b"".join(parts), index, places


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
