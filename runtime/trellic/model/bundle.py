"""A model on disk: manifest, ONNX graphs, and the integers that decide every symbol.

A bundle is a zip file::

    manifest.json       names, licence, layout, decoders, SHA-256 of every other file
    normative.npz       integer networks, frequency tables, quality tables
    graphs/*.onnx       the same networks, and the free transforms, for an engine

The stream id is made from ``normative.npz`` and the layout, so that graphs may be replaced, and
decoders added, under one id.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trellic.entropy.tables import Tables
from trellic.errors import BadBundle, UnknownModel
from trellic.integer.networks import IntegerNetwork, from_arrays, outputs
from trellic.model.channels import Layout
from trellic.model.decoders import NAME_PATTERN, DecoderInfo, Graph, check_decoders
from trellic.model.guard import check_graph
from trellic.model.quality import LevelTables

BUNDLE_VERSION = 1
MAX_MEMBERS = 256
MAX_UNPACKED = 1 << 28  # bytes of all files of a bundle together
MODELS_VARIABLE = "TRELLIC_MODELS"
ZIP_ERRORS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    EOFError,
    RuntimeError,
)
Arrays = Mapping[str, npt.NDArray[Any]]


class Search(BaseModel):
    """Encoder's defaults of one quantizer: its Lagrangian, in integer cost a 1/64 bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    lam: int = Field(ge=0, le=1 << 12)


class Manifest(BaseModel):
    """``manifest.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bundle_version: int
    name: str = Field(pattern=NAME_PATTERN)
    stream_id: str = Field(pattern=r"^[0-9a-f]{8}$")
    licence: str
    description: str
    layout: Layout
    encoder: Graph
    hyper_encoder: Graph
    decoders: dict[Annotated[str, Field(pattern=NAME_PATTERN)], DecoderInfo]
    exact: dict[str, Graph]
    probes: dict[str, str]
    search: dict[str, Search]
    sha256: dict[str, str]
    made_with: dict[str, str]
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _decoders_fit(self) -> Manifest:
        check_decoders(self.decoders, self.layout)
        return self


class Bundle:
    """An opened bundle, its hashes checked.

    Attributes
    ----------
    path : Path
    manifest : Manifest
    tables : Tables, frequency tables and centroids
    levels : LevelTables
    networks : dict of IntegerNetwork, "h_s" and "context_0" and so on; "h_s" alone where it
        predicts by itself (docs/format.md, section 7.4)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files = _read_zip(path)
        self.manifest = _manifest(path, files)
        self._files = files
        for name, expected in self.manifest.sha256.items():
            if name not in files or hashlib.sha256(files[name]).hexdigest() != expected:
                raise BadBundle(
                    f"{name} of bundle {path} is missing or altered", remedy="install it again"
                )
        arrays = _load_arrays(files.get("normative.npz", b""), path)
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
        """Bytes of one ONNX file: of its variant in a precision, where it has one.

        Raises
        ------
        BadBundle
            When the bundle does not vouch for that file, or it holds more than a plain graph.
        """
        file = graph.variants.get(precision, graph.file)
        if file not in self.manifest.sha256:
            raise BadBundle(f"bundle {self.path} has no checked file {file!r}")
        check_graph(self._files[file])
        return self._files[file]

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
    """First 4 bytes (as hex) of SHA-256 over all that decides symbols and latents."""
    total = hashlib.sha256(f"tlc {BUNDLE_VERSION} {layout.model_dump_json()}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape};".encode())
        total.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()[:8]


def folders() -> Iterator[Path]:
    """Folders where bundles live, first found first used."""
    for entry in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep):
        if entry:
            yield Path(entry)
    yield user_folder()
    yield Path(__file__).parents[1] / "models"


def user_folder() -> Path:
    """Folder of the user's own bundles."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return base / "trellic" / "models"


def installed() -> list[tuple[Path, Manifest]]:
    """All installed bundles: paths and manifests; damaged ones are left out."""
    found = []
    for folder in folders():
        for path in sorted(folder.glob("*.zip")) if folder.is_dir() else []:
            try:
                found.append((path, read_manifest(path)))
            except BadBundle:
                continue
    return found


def find(model: str | os.PathLike[str]) -> Path:
    """Path of a bundle, by its name or its path.

    Raises
    ------
    UnknownModel
        When there is none.
    """
    model = os.fspath(model)
    if model.endswith(".zip") or "/" in model or os.sep in model:
        if Path(model).is_file():
            return Path(model)
        raise UnknownModel(f"no bundle at {model!r}")
    for path, manifest in installed():
        if manifest.name == model:
            return path
    names = ", ".join(sorted({m.name for _, m in installed()})) or "none"
    raise UnknownModel(f"no model {model!r}", remedy=f"installed models: {names}")


def find_stream(wanted: str) -> Path:
    """Path of a bundle that decodes streams of an id (8 hex digits).

    Raises
    ------
    UnknownModel
        When none is installed.
    """
    for path, manifest in installed():
        if manifest.stream_id == wanted:
            return path
    raise UnknownModel(
        f"the stream needs a model with stream id {wanted}, which is not installed",
        remedy="get its bundle and run: trellic models add PATH",
    )


def read_manifest(path: Path) -> Manifest:
    """Read only the manifest of a bundle; nothing is verified.

    Raises
    ------
    BadBundle
        When the file is no bundle.
    """
    return _manifest(path, _read_zip(path, only="manifest.json"))


def _manifest(path: Path, files: Mapping[str, bytes]) -> Manifest:
    try:
        raw = json.loads(files["manifest.json"])
        version = raw.get("bundle_version") if isinstance(raw, dict) else None
        if version != BUNDLE_VERSION:
            raise BadBundle(f"bundle {path} has version {version!r}", expected=str(BUNDLE_VERSION))
        return Manifest.model_validate(raw)
    except (KeyError, ValueError, RecursionError, ValidationError) as error:
        what = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        raise BadBundle(f"bundle {path} has no valid manifest ({what})") from error


def _read_zip(path: Path, only: str | None = None) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if only is None or m.filename == only]
            names = {member.filename for member in members}
            if len(names) != len(members) or len(members) > MAX_MEMBERS:
                raise BadBundle(
                    f"bundle {path} has {len(members)} members of {len(names)} names",
                    expected=f"one each, at most {MAX_MEMBERS}",
                )
            size = sum(member.file_size for member in members)
            if size > MAX_UNPACKED:
                raise BadBundle(
                    f"bundle {path} has {size} bytes once unpacked",
                    expected=f"at most {MAX_UNPACKED}",
                )
            return {m.filename: archive.read(m) for m in members}
    except ZIP_ERRORS as error:
        raise BadBundle(f"cannot read bundle {path} ({error})") from error


def _load_arrays(data: bytes, path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MAX_UNPACKED:
            raise ValueError(f"{size} bytes once unpacked, at most {MAX_UNPACKED} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("not all of its members are arrays")
        return arrays
    except (*ZIP_ERRORS, ValueError, MemoryError) as error:
        raise BadBundle(f"the integers of bundle {path} cannot be read ({error})") from error
