"""A model on disk: manifest, ONNX graphs, and the integers that decide every symbol.

A bundle is a zip file::

    manifest.json       names, licence, layout, decoders, SHA-256 of every other file
    normative.npz       integer networks, frequency tables, quality tables
    graphs/*.onnx       the same networks, and the float transforms, for an engine

The stream id is made from ``normative.npz`` and the layout, so that graphs may be replaced, and
decoders added, under one id.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trellic.entropy.tables import Tables
from trellic.errors import BadAdapter, BadBundle, BadParameter, TrellicWarning, UnknownModel
from trellic.integer.networks import IntegerNetwork, from_arrays, outputs
from trellic.model import archive, weights
from trellic.model.adapter import ENCODER, Adapter
from trellic.model.archive import Arrays
from trellic.model.channels import Layout
from trellic.model.decoders import Graph
from trellic.model.guard import check_graph
from trellic.model.manifest import BUNDLE_VERSION, MAX_MANIFEST, Manifest, parse
from trellic.model.quality import LevelTables
from trellic.support.names import text_of

MANIFEST = "manifest.json"
INTEGERS = "normative.npz"
MODELS_VARIABLE = "TRELLIC_MODELS"
# What comes with Trellic: name, stream id, SHA-256 of the manifest, which has those of the rest.
SHIPPED = {
    "photo": ("2253bf47", "77d534845badbd3440451a7ea2747d20625040a059b37662bcafacd0a9a2d638"),
    "photo-psnr": ("f73765d3", "16be6ae415e80809434c3dd2ddb71959b4f5f606e677b7868210033a03d66840"),
    "cifar": ("49a80348", "b138867b60495590071758d2b8ed05123a5ca895f7ad62f08c4f3405a446cf3d"),
}


class Bundle:
    """An opened bundle, its hashes checked.

    Parameters
    ----------
    path : of its file
    data : bytes of the file, if they have been read already

    Raises
    ------
    BadBundle
        When it is damaged, or takes more memory than a bundle may.

    Attributes
    ----------
    path : Path
    manifest : Manifest
    tables : Tables, frequency tables and centroids
    levels : LevelTables
    networks : dict of IntegerNetwork, "h_s" and "context_0" and so on; only "h_s" if it predicts by
        itself (docs/format.md, section 7.4)
    adapter : Adapter that changes the graphs; None in a newly opened bundle
    embedded : bytes of the adapter to put into streams; None if they only name it
    """

    adapter: Adapter | None = None
    embedded: bytes | None = None

    def __init__(self, path: Path, data: bytes | None = None) -> None:
        self.path = path
        with archive.open_file(path) if data is None else io.BytesIO(data) as file:
            files = archive.unpack(file, f"bundle {path}")
        self.manifest = parse(files.get(MANIFEST), f"bundle {path}")
        self._files = files
        self._adapted: dict[str, bytes] = {}
        for name, expected in self.manifest.sha256.items():
            if name not in files or hashlib.sha256(files[name]).hexdigest() != expected:
                raise BadBundle(
                    f"{name} of bundle {path} is missing or altered", remedy="install it again"
                )
        arrays = archive.load_arrays(files.get(INTEGERS, b""), f"{INTEGERS} of bundle {path}")
        found = stream_id(arrays, self.manifest.layout)
        if found != self.manifest.stream_id:
            raise BadBundle(
                f"bundle {path} says stream id {self.manifest.stream_id} but its integers give"
                f" {found}",
                remedy="install it again",
            )
        self.tables = Tables.from_arrays(arrays)
        self.levels = LevelTables.from_arrays(arrays)
        self._predicts_alone = "context_0.trunk.0.kind" not in arrays
        self.networks: dict[str, IntegerNetwork] = {
            name: from_arrays(name, arrays) for name in self.network_names
        }
        self._check_sizes()

    @property
    def network_names(self) -> list[str]:
        """Names of the integer networks."""
        steps = 0 if self._predicts_alone else len(self.manifest.layout.steps)
        return ["h_s"] + [f"context_{k}" for k in range(steps)]

    def graph(self, graph: Graph, precision: str = "fp32") -> bytes:
        """Return the bytes of one ONNX file, or of its variant in a precision if it has one.

        Raises
        ------
        BadBundle
            When the manifest does not list the file, or it holds more than a plain graph.
        """
        file = graph.variants.get(precision, graph.file)
        if file not in self.manifest.sha256:
            raise BadBundle(f"bundle {self.path} has no checked file {file!r}")
        if graph.file in self._adapted:  # its variants are not
            file, files = graph.file, self._adapted
        else:
            files = self._files
        check_graph(files[file])
        return files[file]

    @property
    def adapter_id(self) -> bytes | None:
        """The adapter's id in streams."""
        return None if self.adapter is None else self.adapter.id

    def with_adapter(self, adapter: Adapter, *, embed: bool = False) -> Bundle:
        """Return the same model with an adapter's changes.

        Parameters
        ----------
        adapter : of this model
        embed : put it into streams

        Raises
        ------
        BadAdapter
            When it was made for another model, or for other networks than the bundle has.
        """
        model = self.manifest.name
        if adapter.stream_id != self.manifest.stream_id:
            raise BadAdapter(
                f"adapter {adapter.name!r} is of a model with stream id {adapter.stream_id}",
                expected=f"{self.manifest.stream_id}, that of {model!r}",
                remedy=f"make one with: trellic adapt --model {model}",
            )
        graphs = {name: info.graph for name, info in self.manifest.decoders.items()}
        graphs[ENCODER] = self.manifest.encoder
        other = copy.copy(self)
        other.adapter, other._adapted = adapter, {}
        other.embedded = adapter.for_decoding() if embed else None
        for name, part in adapter.parts.items():
            file = graphs[name].file if name in graphs else ""
            if self.manifest.sha256.get(file) != part.sha256:
                raise BadAdapter(
                    f"adapter {adapter.name!r} was made for another {name!r} than model {model!r}"
                    " has now",
                    remedy=f"make it again with: trellic adapt --model {model}",
                )
            data = self._files[file]
            other._adapted[file] = weights.add(data, adapter.changes(name, data))
        return other

    def _check_sizes(self) -> None:
        layout = self.manifest.layout
        good = (
            self.levels.gain.shape[1] == layout.latents
            and self.levels.hyper_mean.shape[1] == layout.hyper
            and self.levels.hyper_index.max() < layout.scales
            and self.tables.scales == layout.scales
            and self.levels.has_dither == (self.tables.dither is not None)
            and set(self.network_names) <= set(self.manifest.exact)
            and set(self.network_names) <= set(self.manifest.probes)
            and {"scalar", "trellis"} <= set(self.manifest.search)
            and self._networks_fit()
        )
        if not good:
            raise BadBundle(f"the parts of bundle {self.path} do not fit together")

    def _networks_fit(self) -> bool:
        layout, h_s = self.manifest.layout, self.networks["h_s"]
        features = outputs(h_s)
        fits = [h_s.channels_in == layout.hyper + 1, 2 ** _shuffles(h_s) == layout.cell]
        if self._predicts_alone:
            predicted = [layout.latents] * len(features)
            return all(fits) and len(layout.steps) == 1 and features == predicted[:2]
        fits.append(len(features) == 1)
        for k, step in enumerate(layout.steps):
            context = self.networks[f"context_{k}"]
            fits.append(context.channels_in == features[0] + step.context)
            fits.append(outputs(context) == [step.last - step.first] * 2)
            fits.append(_shuffles(context) == 0)
        return all(fits)


def _shuffles(network: IntegerNetwork) -> int:
    """How often a network doubles the size of its planes."""
    return sum(layer.kind == "shuffle" for layer in network.layers)


def stream_id(arrays: Arrays, layout: Layout) -> str:
    """Return the first 4 bytes (as hex) of SHA-256 over all that decides symbols and latents."""
    total = hashlib.sha256(f"tlc {BUNDLE_VERSION} {layout.model_dump_json()}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape};".encode())
        total.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()[:8]


def read_manifest(path: Path) -> Manifest:
    """Read only the manifest of a bundle; nothing is verified.

    Raises
    ------
    BadBundle
        When the file is not a bundle.
    """
    return parse(_manifest_bytes(path), f"bundle {path}")


def _manifest_bytes(path: Path) -> bytes | None:
    with archive.open_file(path) as file:
        found = archive.unpack(file, f"bundle {path}", only=MANIFEST, limit=MAX_MANIFEST)
    return found.get(MANIFEST)


# ---- where bundles are ----


def folders() -> Iterator[Path]:
    """Yield the folders of bundles; the first one that has a bundle is used."""
    for entry in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep):
        if entry:
            yield Path(entry)
    with contextlib.suppress(BadParameter):  # no home, no models of the user
        yield user_folder()
    yield Path(__file__).parents[1] / "models"


def user_folder() -> Path:
    """Folder of the user's own bundles.

    Raises
    ------
    BadParameter
        When the user has no home.
    """
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", os.path.join(home, "AppData", "Local"))
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    if not os.path.isabs(base):
        raise BadParameter(
            f"no folder for the models of this user: {base!r} is not absolute",
            remedy=f"set HOME or XDG_DATA_HOME, or name a folder of models in {MODELS_VARIABLE}",
        )
    return Path(base, "trellic", "models")


def installed() -> list[tuple[Path, Manifest]]:
    """Return all installed bundles, paths and manifests, the newest of a folder first.

    Files that are damaged or cannot be read are left out.
    """
    found = []
    for folder in folders():
        for path in _newest_first(folder):
            with contextlib.suppress(BadBundle):
                found.append((path, read_manifest(path)))
    return found


def _newest_first(folder: Path) -> list[Path]:
    aged = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # such as a link to nothing
                if entry.name.endswith(".zip"):
                    aged.append((-entry.stat().st_mtime_ns, entry.name))
    return [folder / name for _, name in sorted(aged)]


def find(model: str | os.PathLike[str]) -> Path:
    """Path of a bundle, by its name or its path.

    A `TrellicWarning` is given if the name is that of a model that came with Trellic, but another
    bundle is used for it.

    Raises
    ------
    UnknownModel
        When there is none.
    BadParameter
        When it is neither a name nor a path.
    """
    model = text_of(model, "model")
    if model.endswith(".zip") or "/" in model or os.sep in model:
        if os.path.isfile(model):
            return Path(model)
        raise UnknownModel(f"no bundle at {model!r}")
    known = installed()
    for path, manifest in known:
        if manifest.name == model:
            _warn_of_stand_in(path, manifest)
            return path
    names = ", ".join(sorted({manifest.name for _, manifest in known})) or "none"
    raise UnknownModel(f"no model {model!r}", remedy=f"installed models: {names}")


def find_stream(wanted: str) -> Path:
    """Path of a bundle that decodes streams of an id (8 hex digits); warns as `find` does.

    A slim model, which is made for pictures of one application, decodes them only if no other does.

    Raises
    ------
    UnknownModel
        When none is installed.
    """
    fitting = [(path, manifest) for path, manifest in installed() if manifest.stream_id == wanted]
    for path, manifest in sorted(fitting, key=lambda one: is_slim(one[1])):
        _warn_of_stand_in(path, manifest)
        return path
    remedy = "get its bundle and run: trellic models add PATH"
    for name, (stream, _) in SHIPPED.items():
        if stream == wanted:
            file = f"runtime/trellic/models/{name}.zip"
            remedy = f"it is Trellic's own {name!r}: get {file} of the repository and run: "
            remedy += f"trellic models add {name}.zip"
    raise UnknownModel(
        f"the stream needs a model with stream id {wanted}, which is not installed", remedy=remedy
    )


def is_slim(manifest: Manifest) -> bool:
    """Whether ``trellic distill`` made a model, for the streams of another one."""
    return "distilled" in manifest.training


def stands_in_for(path: Path, manifest: Manifest) -> str:
    """Name of the shipped model whose name or stream id another bundle has; nothing if none."""
    for name, (stream, digest) in SHIPPED.items():
        if manifest.name == name or (manifest.stream_id == stream and not is_slim(manifest)):
            data = _manifest_bytes(path)
            return "" if data and hashlib.sha256(data).hexdigest() == digest else name
    return ""


def _warn_of_stand_in(path: Path, manifest: Manifest) -> None:
    if name := stands_in_for(path, manifest):
        warnings.warn(
            f"{path} stands in for the model {name!r} that came with Trellic: pictures are what it "
            "makes of them; remove it if that is not wanted",
            TrellicWarning,
            stacklevel=3,
        )
