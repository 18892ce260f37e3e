"""A CUDA driver for machines without a GPU: it interprets the kernels' PTX, and counts.

numba's simulator runs Python; this runs what NVVM made of it, launched by numba's own host side: a
``libcuda.so.1`` whose memory is the host's. It finds accesses out of bounds, collectives and
barriers that not all threads reach, blocks that wait for ever, and (`order`) what depends on the
order of threads, warps and blocks. It shows nothing of weak memory order, of the GPU's own engines
and of time.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "fake_gpu"
CAPABILITY = (9, 0)
SOURCES = ("program.cpp", "interpreter.cpp", "driver.cpp")
COUNTS = (
    *("launches", "to device", "to host", "within", "waits", "idle"),
    *("bytes to device", "bytes to host", "allocations", "graphs"),
)


def compiler() -> str | None:
    """Return the C++ compiler, None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build(folder: Path = FOLDER) -> Path:
    """Compile the driver, unless it is newer than its sources; return its folder."""
    library = folder / "lib" / "libcuda.so.1"
    sources = [HERE / name for name in SOURCES]
    newest = max(path.stat().st_mtime for path in [*sources, *HERE.glob("*.hpp")])
    if not library.is_file() or library.stat().st_mtime < newest:
        library.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler() or "g++", "-O2", "-fPIC", "-shared", "-std=c++17"]
        command += ["-Wl,-soname,libcuda.so.1", "-o", str(library), *map(str, sources), "-ldl"]
        subprocess.run(command, check=True)
    return library.parent


def write_ptx(folder: Path = FOLDER) -> Path:
    """Compile all kernels to PTX, unless it is newer than their sources; return its folder."""
    from benchmarks.ptx import MODULES

    from trellic.gpu.kernels import kernel

    out = folder / "ptx"
    modules = [importlib.import_module(name) for name in MODULES]
    newest = max(Path(str(module.__file__)).stat().st_mtime for module in [*modules, kernel])
    done = out / "done"
    if not done.is_file() or done.stat().st_mtime < newest:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for name, one in kernel.KERNELS.items():
            (out / f"{name}.ptx").write_text(one.ptx(CAPABILITY), encoding="utf-8")
        done.touch()
    return out


def environment(
    folder: Path = FOLDER, *, order: int = 0, lazy: bool = False, idle: bool = False
) -> dict[str, str]:
    """Return the environment of a process that runs on the driver, which is made if needed.

    Parameters
    ----------
    folder : where the driver and the PTX are kept
    order : seed of a random order of threads, warps and blocks; 0 for them in order
    lazy : work waits until the host does
    idle : launches are counted and left out
    """
    path = f"{build(folder)}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    programs = {} if idle else {"FAKE_PTX": str(write_ptx(folder))}
    return (
        os.environ
        | programs
        | {
            "LD_LIBRARY_PATH": path,
            "FAKE_ORDER": str(order),
            "FAKE_LAZY": str(int(lazy)),
            "TRELLIC_CACHE": str(folder / "cache"),  # of kernels that no real GPU has seen
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }
    )


def running() -> bool:
    """Whether this process runs on the driver."""
    return "FAKE_PTX" in os.environ


def counts() -> dict[str, int]:
    """Return what this process has asked of the driver so far."""
    found = (ctypes.c_long * len(COUNTS))()
    ctypes.CDLL("libcuda.so.1").fake_counts(found)
    return dict(zip(COUNTS, found, strict=True))


_DO = ctypes.CFUNCTYPE(None, ctypes.c_long)
_works: list[Callable[[], None]] = []  # never forgotten: a graph may do them once more
_call = _DO(lambda which: _works[which]())


def do(work: Callable[[], None]) -> None:
    """Do work of the host in the order of launches and copies, or as a part of a graph."""
    _works.append(work)
    ctypes.CDLL("libcuda.so.1").fake_do(_call, ctypes.c_long(len(_works) - 1))


def flush() -> None:
    """Do all work that waits, for an engine that runs on the host."""
    ctypes.CDLL("libcuda.so.1").fake_flush()
