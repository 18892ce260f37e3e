"""Compile every CUDA kernel for GPUs that need not be there, and report what each takes.

Run ``python -m benchmarks.ptx`` from the repository's root (``make ptx``). Kernels are compiled to
PTX by NVVM and on to machine code by nvJitLink, whose assembler (that of ptxas) reports registers,
shared memory and spills; both come with ``numba-cuda[cu13]`` and need no GPU. Registers
are bounded as they are when kernels run (`MAX_REGISTERS`). Exits with 1 if a kernel does not
compile, or spills.

The reports are kept in ``benchmarks/results/ptx.json``, with a hash of all modules of Trellic that
the kernels import, and the versions of the compilers. With ``--changed`` nothing is compiled if
these are what they were; the kept reports are printed, and the exit code is theirs.
"""

import argparse
import hashlib
import importlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _machine

MODULES = (
    "trellic.gpu.kernels.decode",
    "trellic.gpu.kernels.encode",
    "trellic.gpu.kernels.exact",
    "trellic.gpu.kernels.memory",
    "trellic.gpu.kernels.predict",
    "trellic.gpu.kernels.pixels",
    "trellic.gpu.kernels.search",
    "trellic.gpu.kernels.step",
)
CAPABILITIES = ((7, 5), (8, 0), (9, 0))
COMPILERS = ("numba-cuda", "numba", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink")
RESULT = Path("benchmarks/results/ptx.json")


@dataclass(frozen=True)
class Report:
    """What one kernel takes on one GPU."""

    kernel: str
    target: str
    registers: int
    shared: int
    stack: int
    spilled: int
    instructions: int

    @property
    def good(self) -> bool:
        """Whether nothing spills."""
        return self.spilled == 0


def assemble(name: str, ptx: str, capability: tuple[int, int]) -> Report:
    """Turn PTX into machine code and read the assembler's report."""
    from cuda.bindings import nvjitlink

    from trellic.gpu.kernels.kernel import MAX_REGISTERS

    target = f"sm_{capability[0]}{capability[1]}"
    options = [f"-arch={target}", "-verbose", f"-maxrregcount={MAX_REGISTERS}"]
    link = nvjitlink.create(len(options), options)
    try:
        code = ptx.encode()
        nvjitlink.add_data(link, nvjitlink.InputType.PTX, code, len(code), name)
        nvjitlink.complete(link)
        log = bytearray(nvjitlink.get_info_log_size(link))
        nvjitlink.get_info_log(link, log)
    finally:
        nvjitlink.destroy(link)
    return Report(name, target, **read_log(log.decode()), instructions=count_instructions(ptx))


def read_log(log: str) -> dict[str, int]:
    """Read registers, shared memory, stack and spills (in bytes) from the assembler's report."""
    used = re.search(r"used (\d+) registers.*", log)
    if used is None:
        raise RuntimeError(f"the assembler reported no registers: {log}")
    fields = {"shared": r"(\d+) bytes smem", "stack": r"(\d+) stack"}
    found = {"registers": int(used[1])}
    for field, pattern in fields.items():
        value = re.search(pattern, used[0])
        found[field] = int(value[1]) if value else 0
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    return found | {"spilled": sum(map(int, spills))}


def count_instructions(ptx: str) -> int:
    """Return the lines of PTX that are instructions."""
    return len(re.findall(r"^\s+(?:@!?%\w+ )?[a-z][\w.:]*\s.*;|^\s+ret;", ptx, re.MULTILINE))


def reports() -> list[Report]:
    """Compile all kernels for all GPUs."""
    from trellic.gpu.kernels import kernel as _cuda

    _import_kernels()
    found = []
    for name, kernel in sorted(_cuda.KERNELS.items()):
        found += [assemble(name, kernel.ptx(c), c) for c in CAPABILITIES]
    return found


def inputs() -> dict[str, Any]:
    """Return what the reports depend on: targets, versions, a hash of what the kernels import."""
    _import_kernels()
    modules = sorted(m for m in sys.modules if m == "trellic" or m.startswith("trellic."))
    digest = hashlib.sha256()
    for module in modules:
        file = sys.modules[module].__file__
        assert file is not None
        digest.update(Path(file).read_bytes())
    return {
        "targets": [f"sm_{major}{minor}" for major, minor in CAPABILITIES],
        "versions": _machine.package_versions(COMPILERS),
        "sources_sha256": digest.hexdigest(),
    }


def kept(path: Path, now: dict[str, Any]) -> list[Report]:
    """Return the reports of a file, if it was made of the same sources and versions; else none."""
    if not path.is_file():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    if {name: record[name] for name in now} != now:
        return []
    return [Report(**one) for one in record["kernels"]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Compile all CUDA kernels without a GPU.")
    parser.add_argument(
        "--changed", action="store_true", help="only if sources or compilers are not those of --out"
    )
    parser.add_argument("--out", type=Path, default=RESULT, metavar="JSON")
    options = parser.parse_args(arguments)
    now = inputs()
    found = kept(options.out, now) if options.changed else []
    if found:
        print(f"nothing to compile: sources and compilers are those of {options.out}")
    else:
        found = reports()
        _write(found, now, options.out)
    _show(found)
    return 0 if all(one.good for one in found) else 1


def _import_kernels() -> None:
    for module in MODULES:
        importlib.import_module(module)


def _write(found: list[Report], now: dict[str, Any], path: Path) -> None:
    kernels = [asdict(one) for one in found]
    record = {"benchmark": "ptx", **now, "machine": _machine.describe(), "kernels": kernels}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _show(found: list[Report]) -> None:
    print(f"{'kernel':20} target registers shared stack spilled  PTX instructions")
    for one in found:
        print(
            f"{one.kernel:20} {one.target} {one.registers:9} {one.shared:6} {one.stack:5} "
            f"{one.spilled:7} {one.instructions:17}{'' if one.good else '  <- too much'}"
        )


if __name__ == "__main__":
    sys.exit(main())
