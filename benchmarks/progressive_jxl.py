"""JPEG XL's progressive files and the pictures of their beginnings, by its own two programs.

`cjxl` and `djxl` are the reference encoder and decoder (Debian: ``apt-get install libjxl-tools``).
Where they are not installed, `benchmarks.progressive` says so and measures the others. So it does
where cjxl ignores ``-p``: 0.7.0, which Debian 12 has, then writes the bytes of the ordinary file.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.codecs import Pixels

PROGRAMS: Final = ("cjxl", "djxl")
DISTANCE: Final = 2.0  # of the whole progressive file: about SSIMULACRA 2 = 75
MADE: Final = (12.0, 9.0, 7.0, 5.5, 4.3, 3.4, 2.6, 2.0)  # distances of files made for a length
TRIAL: Final = 64  # side of a picture that shows whether cjxl heeds -p
SECONDS: Final = 120  # after which a program counts as stuck


def missing() -> str | None:
    """Return a sentence on what has to be installed, None if nothing."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"JPEG XL is left out: {' and '.join(absent)} not found (Debian: libjxl-tools)"
    trial = np.random.default_rng(1).integers(0, 256, (TRIAL, TRIAL, 3), np.uint8)
    made = [encode(trial, DISTANCE, progressive=flag) for flag in (False, True)]
    if made[0] != made[1]:
        return None
    return f"JPEG XL is left out: {version()} ignores -p; install a newer libjxl"


def version() -> str:
    """Return the version that cjxl names."""
    out = subprocess.run(["cjxl", "--version"], capture_output=True, text=True, timeout=SECONDS)
    return out.stdout.split("[")[0].strip()


def encode(pixels: Pixels, distance: float, *, progressive: bool) -> bytes:
    """Encode with cjxl at its usual effort.

    Raises
    ------
    subprocess.CalledProcessError
        cjxl failed.
    """
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name, "a.png"), Path(name, "a.jxl")
        Image.fromarray(pixels).save(source)
        options = ["-d", str(distance), *(["-p"] if progressive else [])]
        command = ["cjxl", str(source), str(made), *options]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        return made.read_bytes()


def decode(data: bytes, length: int) -> Pixels | None:
    """Decode the beginning of a file with djxl, None where it is no picture yet."""
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name, "a.jxl"), Path(name, "a.png")
        source.write_bytes(data[:length])
        command = ["djxl", str(source), str(made), "--allow_partial_files"]
        done = subprocess.run(command, check=False, capture_output=True, timeout=SECONDS)
        if done.returncode or not made.is_file():
            return None
        return np.asarray(Image.open(made).convert("RGB"))
