"""Does a decoder conform? Runs any command over the streams of the kit.

::

    python -m tests.conformance.run --decoder "trellic decode {input} {output}"

``{input}`` is a stream, ``{output}`` the picture to write (PNG), ``{model}`` the bundle of the tiny
model, which is also found through ``$TRELLIC_MODELS``. With ``--latents COMMAND`` a second command
writes latents as raw little-endian int32 (channels, rows, columns), in 1/32 step, to ``{output}``:
they must be equal to the bit. Ours is
``python -m tests.conformance.latents {input} {output}``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).parent
MODEL = HERE.parent / "data" / "tiny.zip"
SECONDS = 60


def manifest() -> dict[str, Any]:
    """Return the manifest of the kit."""
    found: dict[str, Any] = json.loads((HERE / "manifest.json").read_text())
    return found


def psnr(seen: np.ndarray, expected: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite where equal."""
    error = np.mean((seen.astype(float) - expected.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def execute(command: str, source: Path, out: Path) -> str:
    """Run a command on one stream; return what went wrong, or nothing."""
    places = {"{input}": str(source), "{output}": str(out), "{model}": str(MODEL)}
    words = shlex.split(command)
    for key, value in places.items():
        words = [word.replace(key, value) for word in words]
    models = os.pathsep.join(filter(None, [str(MODEL.parent), os.environ.get("TRELLIC_MODELS")]))
    try:
        done = subprocess.run(
            words,
            env={**os.environ, "TRELLIC_MODELS": models},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return f"exit code {done.returncode}: {lines[-1] if lines else 'no message'}"
    return "" if out.is_file() else "no output file"


def check_picture(command: str, name: str, entry: dict[str, Any], decoder: str, out: Path) -> str:
    """Decode one stream to a picture; return what is wrong with it, or nothing."""
    fault = execute(command, HERE / "streams" / f"{name}.tlc", out)
    if fault:
        return fault
    with Image.open(out) as image, Image.open(HERE / "pictures" / f"{name}.png") as reference:
        seen, expected = np.asarray(image), np.asarray(reference)
    if list(seen.shape) != entry["shape"]:
        return f"shape {seen.shape}, expected {tuple(entry['shape'])}"
    if seen.ndim == 3 and seen.shape[2] == 4:
        if not np.array_equal(seen[..., 3], expected[..., 3]):
            return "the alpha plane differs"
        shown = expected[..., 3] > 0
        seen, expected = seen[shown], expected[shown]
    value = psnr(seen, expected)
    return "" if value >= entry["psnr"][decoder] else f"{value:.1f} dB from the kit's picture"


def check_latents(command: str, name: str, entry: dict[str, Any], out: Path) -> str:
    """Decode one stream to latents; return what is wrong with them, or nothing."""
    fault = execute(command, HERE / "streams" / f"{name}.tlc", out)
    if fault:
        return fault
    same = hashlib.sha256(out.read_bytes()).hexdigest() == entry["latents"]
    return "" if same else "the latents differ"


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run a decoder over the conformance streams.")
    parser.add_argument("--decoder", help="command with {input} and {output}")
    parser.add_argument("--latents", help="command that writes latents")
    parser.add_argument("--name", default="quality", help="decoder whose limits hold")
    options = parser.parse_args(arguments)
    if not (options.decoder or options.latents):
        parser.error("nothing to run: give --decoder, --latents or both")
    table = Table("stream", "result")
    streams, faults = manifest()["streams"], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in track(streams.items(), "streams", transient=True):
            found = []
            if options.decoder:
                out = Path(folder) / f"{name}.png"
                found.append(check_picture(options.decoder, name, entry, options.name, out))
            if options.latents:
                out = Path(folder) / f"{name}.i32"
                found.append(check_latents(options.latents, name, entry, out))
            fault = "; ".join(filter(None, found))
            faults += bool(fault)
            table.add_row(name, f"[red]{fault}" if fault else "conforms")
    Console(width=120).print(table)
    print(f"{len(streams) - faults} of {len(streams)} streams conform")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
