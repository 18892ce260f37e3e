"""``python -m tests.conformance.run --decoder "COMMAND"``: does a decoder conform?

The command gets a stream and writes a picture; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trellic import images
from trellic.errors import TrellicError
from trellic.images import Picture

from . import kit

TIMEOUT = 60.0  # seconds a stream


@dataclass
class Verdict:
    """What came of one stream; ``faults`` is empty if all is well."""

    case: kit.Case
    faults: list[str]
    psnr: float | None = None
    latents: bool = False
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One row of the table."""
        limit = max(self.case.pictures.values(), default=math.nan)
        shown = "-" if self.psnr is None else f"{self.psnr:.1f}"
        cells = [
            f"{self.case.name:<26}",
            f"{'exact' if self.latents else '-':>8}",
            f"{shown:>7}",
            f"{'-' if math.isnan(limit) else f'{limit:.0f}':>6}",
        ]
        words = list(self.faults) or ["refused, as it must" if self.case.refuse else "ok"]
        words += [f"({', '.join(self.dropped)} dropped)"] if self.dropped else []
        return " ".join(cells) + "  " + "; ".join(words)


# ---- one stream ----


def check_picture(case: kit.Case, decoder: str, seen: Picture) -> Verdict:
    """Compare a picture with what the kit has."""
    expected = images.read(case.picture(decoder))
    if _shape(seen) != _shape(expected):
        return Verdict(case, [f"a picture {_shape(seen)} in place of {_shape(expected)}"])
    faults = []
    shown = np.ones(expected.pixels.shape[:2], bool)
    if expected.alpha is not None:
        shown = expected.alpha > 0
        if not np.array_equal(seen.alpha, expected.alpha):  # type: ignore[arg-type]
            faults.append("another alpha plane")
    psnr = psnr_between(seen.pixels[shown], expected.pixels[shown])
    if psnr < case.pictures[decoder]:
        faults.append(f"{psnr:.1f} dB, at least {case.pictures[decoder]:g} are asked for")
    dropped = []
    for part, digest in case.metadata.items():
        content = getattr(seen, part)
        if content is None:
            dropped.append(part)
        elif kit.digest(content) != digest:
            faults.append(f"another {part} chunk")
    return Verdict(case, faults, psnr, dropped=tuple(dropped))


def check_latents(case: kit.Case, content: bytes) -> list[str]:
    """Compare latents, z and then y as int32: say which of them differ."""
    size = 4 * math.prod(case.z["shape"])
    parts = {"z": content[:size], "y": content[size:]}
    return [f"another {name}" for name in parts if kit.digest(parts[name]) != _hash(case, name)]


def psnr_between(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """PSNR in dB; infinite for equal pictures, and for none."""
    error = float(np.square(a.astype(float) - b).mean()) if a.size else 0.0
    return 10 * math.log10(255**2 / error) if error else math.inf


def _hash(case: kit.Case, name: str) -> str:
    value: str = getattr(case, name)["sha256"]
    return value


def _shape(picture: Picture) -> str:
    kind = ("grey" if picture.grey else "colour") + (" with alpha" * (picture.alpha is not None))
    return f"{picture.width}x{picture.height} {kind}"


# ---- any command ----


class Runner:
    """Runs commands on streams.

    Parameters
    ----------
    decode : command with ``{input}`` and ``{output}``, a picture file; also ``{model}``
    latents : command of the same form that writes latents, or None
    decoder : name of the decoder network that ``decode`` uses
    folder : for what the commands write
    """

    def __init__(
        self, decode: str, latents: str | None, decoder: str, folder: Path, timeout: float = TIMEOUT
    ) -> None:
        self.commands = {"decode": decode, "latents": latents}
        self.decoder, self.folder, self.timeout = decoder, folder, timeout
        for command in (decode, latents):
            if command is not None and not {"{input}", "{output}"} <= _placeholders(command):
                raise ValueError(f"{command!r} lacks {{input}} or {{output}}")

    def check(self, case: kit.Case) -> Verdict:
        """Run what there is to run on one stream."""
        output = self.folder / f"{case.name}.png"
        code, message = self._run("decode", case, output)
        if case.refuse:
            return Verdict(case, self._refused(case, code, output))
        if code != 0 or not output.exists():
            return Verdict(case, [f"exit code {code}: {message}" if code else "no picture"])
        try:
            verdict = check_picture(case, self.decoder, images.read(output))
        except TrellicError as error:
            return Verdict(case, [f"no picture that can be read: {error}"])
        if self.commands["latents"] is not None:
            self._check_latents(case, verdict)
        return verdict

    def _refused(self, case: kit.Case, code: int, output: Path) -> list[str]:
        faults = ["decoded, but must be refused: " + case.refuse] if code == 0 else []
        if code < 0:
            faults.append(f"ended by signal {-code}")
        return faults + ["left a picture behind"] * (output.exists() and code != 0)

    def _check_latents(self, case: kit.Case, verdict: Verdict) -> None:
        output = self.folder / f"{case.name}.latents"
        code, message = self._run("latents", case, output)
        if code != 0 or not output.exists():
            verdict.faults.append(f"latents: exit code {code}: {message}")
            return
        faults = check_latents(case, output.read_bytes())
        verdict.faults += faults
        verdict.latents = not faults

    def _run(self, what: str, case: kit.Case, output: Path) -> tuple[int, str]:
        paths = {"{input}": case.stream, "{output}": output, "{model}": case.model}
        values = {name: str(path) for name, path in paths.items()}
        words = [_fill(word, values) for word in shlex.split(self.commands[what] or "")]
        environment = os.environ | {"TRELLIC_MODELS": str(kit.DATA)}
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=self.timeout, env=environment
            )
        except subprocess.TimeoutExpired:
            return -1, f"no end after {self.timeout:g} s"
        except OSError as error:
            raise SystemExit(f"error: cannot run {words[0]!r}: {error.strerror}") from None
        lines = done.stderr.strip().splitlines() or [""]
        return done.returncode, lines[-1]


def _placeholders(command: str) -> set[str]:
    return {name for name in ("{input}", "{output}", "{model}") if name in command}


def _fill(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


# ---- all streams ----


def run(cases: Sequence[kit.Case], check: Callable[[kit.Case], Verdict]) -> list[Verdict]:
    """Check all cases, with a progress bar on stderr."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    verdicts = []
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("conformance", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            verdicts.append(check(case))
            progress.advance(task)
    return verdicts


def show(verdicts: Sequence[Verdict]) -> None:
    """Print the table."""
    print(f"{'stream':<26} {'latents':>8} {'PSNR':>7} {'limit':>6}  verdict")
    for verdict in verdicts:
        print(verdict)
    failed = sum(bool(verdict.faults) for verdict in verdicts)
    print(f"{len(verdicts)} streams, {failed} failed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line: 1 if a stream fails, 2 for bad usage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--decoder",
        required=True,
        metavar="COMMAND",
        help="with {input} and {output}.png; {model} is the path of the stream's bundle",
    )
    parser.add_argument(
        "--latents", metavar="COMMAND", help="the same, writing z and y as int32 (see README.md)"
    )
    parser.add_argument("--name", default="quality", help="decoder network that it uses")
    parser.add_argument("--only", default="", metavar="TEXT", help="streams with this in the name")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds a stream")
    options = parser.parse_args(arguments)
    cases = [case for case in kit.load() if options.only in case.name]
    if not cases:
        parser.error(f"no stream has {options.only!r} in its name")
    with tempfile.TemporaryDirectory() as folder:
        try:
            runner = Runner(
                options.decoder, options.latents, options.name, Path(folder), options.timeout
            )
        except ValueError as error:
            parser.error(str(error))
        verdicts = run(cases, runner.check)
    show(verdicts)
    return int(any(verdict.faults for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
