"""The process that is fuzzed: ``python -m tests.fuzz.child TARGET CORPUS [libFuzzer flags]``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]


def compiled_modules() -> list[str]:
    """Return the modules whose functions numba compiles: it does not take instrumented ones."""
    folder = ROOT / "runtime"
    return [
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.glob("trellic/**/*.py")
        if "njit" in path.read_text(encoding="utf-8")
    ]


with atheris.instrument_imports(include=["trellic", "PIL"], exclude=compiled_modules()):
    from tests.fuzz.targets import TARGETS, replaced_checks, seeds


def main() -> None:
    """Fill the corpus with seeds, then hand over to libFuzzer, which ends the process."""
    target, corpus = sys.argv[1], Path(sys.argv[2])
    for i, data in enumerate(seeds(target)):
        (corpus / f"seed-{i:02}").write_bytes(data)
    run = TARGETS[target]
    for data in seeds(target):
        run(data)  # compiles what it needs before anything is timed

    def one(data: bytes) -> None:
        if data:
            run(data)

    with replaced_checks():
        atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
