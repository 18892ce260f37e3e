"""Make what turns the tiny bundle into one with tables for dither, that one, and a golden stream.

Run once, from the repository's root: ``python -m tests.data.make_dither``. It writes no file that
is there: what is stored decides what the golden stream decodes to, for ever.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np

from trellic import geometry
from trellic.codec import Codec
from trellic.model import bundle
from trellic.model.channels import Layout
from trellic_training.quantization.fit_dither import parametric_dither

FOLDER = Path(__file__).parent
ARRAYS = FOLDER / "dither.npz"
BUNDLE = FOLDER / "tiny-dither.zip"  # of the conformance kit's streams that need such tables
GOLDEN = FOLDER / "golden" / "dither-three-slices.tlc"
SEED = 20261121
SIGMAS = np.geomspace(0.11, 64, 48)  # of the tiny model's scale indices
OFFSET = 40  # 1/16 quality


def dithered_bundle(out: Path) -> Path:
    """Write the tiny bundle with the stored tables for dither; returns its path."""
    with zipfile.ZipFile(FOLDER / "tiny.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with np.load(io.BytesIO(files["normative.npz"])) as tiny, np.load(ARRAYS) as dither:
        arrays = dict(tiny) | dict(dither)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files["normative.npz"] = buffer.getvalue()
    manifest = json.loads(files.pop("manifest.json")) | {"name": "tiny-dither"}
    layout = Layout.model_validate(manifest["layout"])
    manifest["stream_id"] = bundle.stream_id(arrays, layout)
    manifest["sha256"] = {name: hashlib.sha256(files[name]).hexdigest() for name in files}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in files.items():
            archive.writestr(name, data)
    return out


def scene(height: int, width: int) -> np.ndarray:
    """Ramps, squares and a little noise, all of integers."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(3).integers(-9, 10, (height, width, 3))
    planes = [(3 * x + y) % 256, 40 + (x // 24 + y // 32) % 2 * 90, (x * y // 64) % 256]
    return np.clip(np.stack(planes, 2) + noise, 0, 255).astype(np.uint8)


def main() -> None:
    """Write what is missing."""
    if not ARRAYS.exists():
        tables = parametric_dither(SIGMAS)
        arrays = {"dither.half_width": tables.half_width, "dither.freqs": tables.freqs}
        with zipfile.ZipFile(FOLDER / "tiny.zip") as archive:
            normative = io.BytesIO(archive.read("normative.npz"))
        with np.load(normative) as tiny:
            offset = np.append(tiny["levels.level_offset"], np.int16(OFFSET))
        np.savez_compressed(ARRAYS, **arrays, **{"levels.level_offset": offset})
    if not BUNDLE.exists():
        dithered_bundle(BUNDLE)
    if not GOLDEN.exists():
        codec = Codec.load(str(BUNDLE), device="cpu")
        with mock.patch.object(geometry, "MOST_CHOSEN", geometry.DEFAULT_SLICE_SIDE):
            data = codec.encode(scene(40, 2060), quality=50, trellis=0, dither=SEED)
        GOLDEN.write_bytes(data)


if __name__ == "__main__":
    main()
