"""``python -m tests.cuda.driver COMMAND ...``: run a command on the fake driver.

``--order SEED`` runs threads, warps and blocks in a random order; ``--lazy`` does work only when
the host waits for it; ``--idle`` does no work at all, only the host's part is left; ``--prepare``
makes driver and PTX and runs nothing.
"""

import argparse
import subprocess
import sys

from tests.cuda import driver


def main() -> int:
    """Run from the command line; return the command's exit code."""
    parser = argparse.ArgumentParser(description="Run a command on the fake driver.")
    parser.add_argument("--order", type=int, default=0)
    parser.add_argument("--lazy", action="store_true")
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if driver.compiler() is None:
        parser.error("no C++ compiler: the fake driver needs one (apt install g++)")
    environment = driver.environment(order=options.order, lazy=options.lazy, idle=options.idle)
    if options.prepare:
        return 0
    return subprocess.run(options.command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
