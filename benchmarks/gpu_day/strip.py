"""A smaller checkout for a machine that takes few bytes: what the day needs, nothing else.

``python -m benchmarks.gpu_day.strip`` lets git take documents, results, old weights and the
conformance kit out of the working tree (a sparse checkout: nothing is lost, and git refuses where
something is changed); ``--undo`` brings them back.
"""

from __future__ import annotations

import argparse
import subprocess

from benchmarks._machine import REPOSITORY
from benchmarks.gpu_day.plan import STARTS_FROM

LEFT_OUT = (
    *("/docs/", "/benchmarks/results/", "/constraints/", "/tests/conformance/", "/tests/attacks/"),
    *("/tests/fuzz/", "/tests/serve/", "/tests/data/compressai/", "/training/checkpoints/*"),
)
KEPT = (f"/{STARTS_FROM}",)


def patterns() -> list[str]:
    """Return the sparse checkout's patterns, those that come later decide."""
    return ["/*", *(f"!{path}" for path in LEFT_OUT), *KEPT]


def git(*arguments: str) -> str:
    """Run git in the repository."""
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def tree_bytes() -> int:
    """Return the bytes of tracked files that are in the working tree."""
    paths = [REPOSITORY / name for name in git("ls-files", "-z").split("\0") if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Take out of the checkout what a run needs not.")
    parser.add_argument("--undo", action="store_true", help="bring everything back")
    if parser.parse_args().undo:
        git("sparse-checkout", "disable")
    else:
        git("sparse-checkout", "set", "--no-cone", *patterns())
    print(f"tracked files here: {tree_bytes() / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
