"""Compile every CUDA kernel for GPUs that need not be there, and report what each takes.

Run ``python -m benchmarks.ptx`` from the repository's root (``make ptx``). Kernels are compiled to
PTX by NVVM and on to machine code by nvJitLink, whose assembler (that of ptxas) reports registers,
shared memory and spills; both come with ``numba-cuda[cu13]`` and need no GPU. Registers
are bounded as they are when kernels run (`MAX_REGISTERS`). Exits with 1 if a kernel does not
compile, or spills.
"""

import argparse
import importlib
import re
import sys
from dataclasses import dataclass

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

    for module in MODULES:
        importlib.import_module(module)
    found = []
    for name, kernel in sorted(_cuda.KERNELS.items()):
        found += [assemble(name, kernel.ptx(c), c) for c in CAPABILITIES]
    return found


def main() -> int:
    """Run from the command line."""
    argparse.ArgumentParser(description="Compile all CUDA kernels without a GPU.").parse_args()
    print(f"{'kernel':20} target registers shared stack spilled  PTX instructions")
    found = reports()
    for one in found:
        print(
            f"{one.kernel:20} {one.target} {one.registers:9} {one.shared:6} {one.stack:5} "
            f"{one.spilled:7} {one.instructions:17}{'' if one.good else '  <- too much'}"
        )
    return 0 if all(one.good for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
