"""A bundle whose frequency tables and centroids are fitted to one quantizer.

A bundle has tables for RDOQ and for the trellis. Plain rounding under RDOQ's tables pays for
symbols that RDOQ avoids; as an anchor it would flatter everything else. Here the real encoder runs
over photos, and the tables of its family are fitted to what it emits, over several rounds. A bundle
from before dither gets tables for that the same way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.engines.pool import EnginePool
from trellic.entropy.tables import Tables
from trellic.images import Picture
from trellic.model.bundle import Bundle, stream_id
from trellic.model.quality import DITHER_CODE
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import EncodeOptions
from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.quantization.fit import refit
from trellic_training.quantization.fit_dither import parametric_dither, refit_dither

Pixels = npt.NDArray[np.uint8]
ROUNDS = 3
QUALITIES = (8, 20, 32, 44, 56, 68, 80, 92)


class _Observed:
    """Encodes with a model, and keeps the symbols."""

    def __init__(self, path: Path) -> None:
        self.bundle = Bundle(path)
        self.symbols: list[tuple[npt.NDArray[Any], ...]] = []
        self._encoder = StreamEncoder(
            self.bundle, EnginePool(self.bundle), lambda *part: self.symbols.append(part)
        )

    def encode(self, pixels: Pixels, options: EncodeOptions) -> None:
        self._encoder.picture(Picture(pixels), options)


def with_own_tables(
    bundle: Path, photos: Iterable[Pixels], out: Path, *, trellis: int, search: str = "trellis"
) -> Path:
    """Write a copy of a bundle with tables fitted to one quantizer; returns its path.

    Parameters
    ----------
    photos
        What to fit to, (H, W, 3) uint8; every one is coded at a few qualities.
    trellis, search
        The quantizer, as `Codec.encode` names it.
    """
    photos = list(photos)
    source = bundle
    for turn in range(ROUNDS):
        codec = _Observed(source)
        for i, pixels in enumerate(photos):
            for quality in QUALITIES[(i + turn) % 2 :: 2]:
                codec.encode(pixels, EncodeOptions(quality, trellis=trellis, search=search))
        tables = codec.bundle.tables
        t32, index, k, cls = (np.concatenate(c) for c in zip(*codec.symbols, strict=True))
        _replace_tables(bundle, refit(tables, tables, t32, index, k, cls), out)
        source = out
    return out


def with_dither(bundle: Path, photos: Iterable[Pixels], out: Path) -> Path:
    """Write a copy of a bundle with tables for dither fitted to photos; returns its path."""
    tables = Bundle(bundle).tables
    prior = parametric_dither(SIGMA_MIN * scale_ratio(tables.scales) ** np.arange(tables.scales))
    _replace_tables(bundle, dataclasses.replace(tables, dither=prior), out)
    codec = _Observed(out)
    for i, pixels in enumerate(photos):
        for quality in QUALITIES:
            codec.encode(pixels, EncodeOptions(quality, trellis=0, dither=i))
    t32, index = (np.concatenate(c) for c in list(zip(*codec.symbols, strict=True))[:2])
    fitted = refit_dither(prior, t32, index)
    _replace_tables(bundle, dataclasses.replace(tables, dither=fitted), out)
    return out


def _replace_tables(bundle: Path, tables: Tables, out: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    with np.load(io.BytesIO(files["normative.npz"])) as archive:
        arrays = dict(archive) | tables.to_arrays()
    offset = arrays["levels.level_offset"]
    if tables.dither is not None and len(offset) == DITHER_CODE:
        arrays["levels.level_offset"] = np.append(offset, np.int16(0))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files["normative.npz"] = buffer.getvalue()
    layout = Bundle(bundle).manifest.layout
    manifest["stream_id"] = stream_id(arrays, layout)
    manifest["sha256"]["normative.npz"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
