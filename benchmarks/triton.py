"""How many pictures a second a Triton server answers, beside the library's own calls.

::

    make triton-check                                            # makes the environment
    build/triton/bin/python -m benchmarks.triton [--seconds 60]

Serves the model `photo` from a repository of ``trellic export --triton``, one instance a core for
each direction, and asks it over HTTP from 8 threads of this process, in turns with the library's
own calls. Then latencies at 80 % of that load, with calls at even times. Writes
``benchmarks/results/triton.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytriton
from tritonclient import http
from tritonclient.utils import np_to_triton_dtype

from benchmarks._machine import REPOSITORY, describe
from benchmarks.load import LOAD, at_random, evenly, in_turns, paced, percentiles
from benchmarks.triton_server import serving
from trellic.codec import Codec
from trellic.images import from_bytes
from trellic.model.bundle import Bundle, find
from trellic.support.cores import usable_cores
from trellic_export.triton import export_triton

RESULT = REPOSITORY / "benchmarks" / "results" / "triton.json"
PHOTO = REPOSITORY / "samples" / "osprey.png"


class Asker:
    """Asks a server; each thread has a connection of its own."""

    def __init__(self, address: str) -> None:
        self._address, self._own = address, threading.local()

    def __call__(self, model: str, name: str, value: np.ndarray, output: str) -> np.ndarray:
        """Return an output of a model for one input."""
        if not hasattr(self._own, "client"):
            self._own.client = http.InferenceServerClient(self._address, network_timeout=120)
        asked = http.InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
        asked.set_data_from_numpy(value)
        found: np.ndarray = self._own.client.infer(model, [asked]).as_numpy(output)
        return found


def measured(
    own: Callable[[], object], asked: Callable[[], object], workers: int, seconds: float
) -> dict[str, Any]:
    """Compare calls a second; latencies of the server at 80 % of its own."""
    library, served = in_turns(own, asked, workers, seconds)
    return {
        "library_per_s": round(library, 3),
        "server_per_s": round(served, 3),
        "share": round(served / library, 3),
        "at_80_percent": percentiles(paced(asked, at_random(LOAD * served), seconds)),
        "at_80_percent_evenly": percentiles(paced(asked, evenly(LOAD * served), seconds)),
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Pictures a second of a Triton server.")
    parser.add_argument("--seconds", type=float, default=60, help="of each measurement")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    load, workers = round(os.getloadavg()[0], 2), usable_cores()
    pixels = from_bytes(PHOTO.read_bytes()).pixels
    codec = Codec.load("photo", "cpu", 1)
    codec.warm_up(trellis=32, decoder="quality")
    stream = codec.encode(pixels)
    picture, text = pixels[None], np.array([[stream]], dtype=object)
    record: dict[str, Any] = {"picture": f"{pixels.shape[1]}x{pixels.shape[0]}"}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        export_triton(Bundle(find("photo")), models, instances=workers)
        with serving(Path(pytriton.__file__).parent, models, Path(folder)) as address:
            ask = Asker(address)
            calls: dict[str, tuple[Callable[[], object], Callable[[], np.ndarray]]] = {
                "encode": (
                    lambda: codec.encode(pixels),
                    lambda: ask("trellic_encode", "IMAGE", picture, "STREAM"),
                ),
                "decode": (
                    lambda: codec.decode(stream),
                    lambda: ask("trellic_decode", "STREAM", text, "IMAGE"),
                ),
            }
            if calls["encode"][1]()[0, 0] != stream:
                raise SystemExit("error: the server's stream is not the library's")
            for name, (own, asked) in calls.items():
                record[name] = measured(own, asked, workers, options.seconds)
                print(name, record[name], flush=True)
    record["machine"] = describe(("numpy", "numba", "onnxruntime", "nvidia-pytriton"))
    record |= {"cores": workers, "load": load}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
