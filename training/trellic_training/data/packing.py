"""Packs a folder of photos once, and notices when the folder has changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from PIL import Image

from trellic.constants import COLOURS
from trellic.errors import BadParameter
from trellic_training.data.bands import SUFFIX
from trellic_training.data.photos import MIN_SIDE, pack

LISTING = "source.json"  # beside the packed photos: what the folder held


def pack_once(folder: Path, out: Path, *, min_side: int = MIN_SIDE, bands: int = COLOURS) -> None:
    """Pack the photos of a folder, unless ``out`` has them already.

    Raises
    ------
    BadParameter
        When the folder has no photo of this size, has changed since it was packed, or is ``out``.
    """
    if not folder.is_dir():
        raise BadParameter(f"no folder {str(folder)!r}", expected="a folder of photos")
    if folder.resolve() == out.resolve():
        raise BadParameter(
            f"packed photos would be written into the folder of the photos, {str(folder)!r}",
            remedy="name another folder with --out",
        )
    now = listing(folder, bands)
    if not (out / "photos.json").is_file():
        pack(folder, out, min_side=min_side, bands=bands)
        (out / LISTING).write_text(json.dumps(now), encoding="utf-8")
        return
    # Packs of earlier versions have no listing.
    if (out / LISTING).is_file() and json.loads((out / LISTING).read_text("utf-8")) != now:
        raise BadParameter(
            f"the files in {str(folder)!r} have changed since they were packed in {str(out)!r}",
            remedy=f"name another folder with --out, or delete {str(out)!r} to pack them again",
        )


def listing(folder: Path, bands: int = COLOURS) -> dict[str, object]:
    """Return the number of pictures in a folder, and a digest of their names and sizes.

    Other files do not count, because a run may write its own files below the folder.
    """
    pictures = Image.registered_extensions() if bands == COLOURS else [SUFFIX]
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in pictures and p.is_file())
    rows = [[p.relative_to(folder).as_posix(), p.stat().st_size] for p in files]
    return {"files": len(rows), "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}
