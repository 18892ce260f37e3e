"""The first run on a machine compiles its kernels: each once, and none that only words need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trellic.cli import compiling

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
CODE = f"""
import numba.core.event as event
from numba.core.dispatcher import Dispatcher

compiled = []

class Listener(event.Listener):
    def on_start(self, event):
        compiled.append(event.data["dispatcher"].py_func.__module__)

    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
import sys
import numpy as np
from trellic.codec import Codec

codec = Codec({str(TINY)!r}, device="cpu", threads=1)
for pixels in (np.zeros((64, 64, 3), np.uint8), np.full((300, 300), 9, np.uint8)):
    codec.decode(codec.encode(pixels))
kernels = {{
    id(value): value
    for name, module in list(sys.modules.items())
    if name.startswith("trellic")
    for value in vars(module).values()
    if isinstance(value, Dispatcher)
}}

def shape_of(argument):  # whatever its array may be written to
    return (argument.dtype, argument.ndim) if hasattr(argument, "ndim") else argument

for kernel in kernels.values():
    kinds = {{tuple(map(shape_of, signature)) for signature in kernel.signatures}}
    if len(kinds) < len(kernel.signatures):
        print(kernel.py_func.__name__, end=" ")
print()
print(*{{name for name in compiled if name.startswith("numba.cpython.unicode")}})
print(len([name for name in compiled if name.startswith("trellic")]))
"""


@pytest.mark.long
@pytest.mark.slow("two processes, the first compiles every kernel")
def test_kernels_are_compiled_for_one_kind_of_arguments_and_print_nothing(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env["TRELLIC_CACHE"] = str(tmp_path)
    run = [sys.executable, "-c", CODE]
    first, second = (
        subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout.splitlines()
        for _ in range(2)
    )
    twice, words, count = first
    assert twice == ""
    assert words == ""  # of messages that slices of different lengths would have
    assert 20 < int(count) <= compiling.KERNELS + 6  # with those of dither
    assert second[2] == "0"
