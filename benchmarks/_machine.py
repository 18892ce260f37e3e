"""What a benchmark ran on: processor, versions and commit, for the head of its JSON."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trellic.support.cores import usable_cores

REPOSITORY = Path(__file__).resolve().parent.parent


def describe(packages: Iterable[str] = ("numpy",)) -> dict[str, object]:
    """Describe the machine and the software that a benchmark runs on.

    Parameters
    ----------
    packages
        Names of distributions whose versions matter for this benchmark; missing ones are left out.

    Returns
    -------
    dict
        ``processor``, ``cores`` (logical, usable by this process), ``memory_gib``, ``system``,
        ``python``, ``packages`` (name to version), ``commit`` (``+`` appended when tracked files
        differ from it; None outside a repository) and ``date`` (UTC, ISO 8601).
    """
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_gib": memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": package_versions(packages),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def made_on(machine: Mapping[str, Any]) -> str:
    """Say when, from which commit and where a result was made, by what `describe` returned."""
    day, commit = machine["date"][:10], machine["commit"]
    return f"Made on {day} from commit {commit}, {machine['processor']}"


def processor_name() -> str:
    """Return the processor's marketing name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_gib() -> float | None:
    """Return the main memory in GiB, or None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(total / 2**30, 1)


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the short hash of the repository's commit, with ``+`` if tracked files differ."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
