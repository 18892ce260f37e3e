"""Compress and decompress a sample photo, as ``make demo`` does: ``python -m benchmarks.demo``.

Calls the command line as a user would, and prints what it reports.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .metrics import psnr

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, default=ROOT / "samples" / "osprey.png")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="folder for the results")
    parser.add_argument("--quality", default="60")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    stream = options.out / f"{options.photo.stem}.tlc"
    picture = options.out / f"{options.photo.stem}.decoded.png"
    encoded = trellic("encode", options.photo, stream, "-q", options.quality)
    decoded = trellic("decode", stream, picture)
    show(options.photo, picture, encoded, decoded)


def trellic(command: str, *arguments: object) -> dict[str, Any]:
    """Run a command of trellic, returning the object it prints."""
    call = [sys.executable, "-m", "trellic", command, *map(str, arguments), "--json"]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why on stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def show(photo: Path, picture: Path, encoded: dict[str, Any], decoded: dict[str, Any]) -> None:
    original, result = (np.asarray(Image.open(path).convert("RGB")) for path in (photo, picture))
    print(f"photo     {name(photo)}, {encoded['width']} x {encoded['height']} pixels")
    print(
        f"encoded   {encoded['bytes']} bytes, {encoded['bpp']:.3f} bpp: {name(encoded['output'])}"
    )
    print(f"decoded   {name(picture)}, PSNR {psnr(original, result):.2f} dB")
    print(f"times     encode {encoded['seconds']:.3f} s, decode {decoded['seconds']:.3f} s")


def name(path: str | Path) -> Path:
    """Path for the eye: relative to the working folder where it lies below it."""
    path = Path(path).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    main()
