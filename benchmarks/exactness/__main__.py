"""``python -m benchmarks.exactness``: all engines on all bundles, to a JSON file."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks._machine import REPOSITORY, describe
from trellic.model.bundle import Bundle, find

from .compare import Comparison
from .engines import cpu_variants, gpu_variants

RESULT = REPOSITORY / "benchmarks" / "results" / "exactness.json"
TINY = REPOSITORY / "tests" / "data" / "tiny.zip"
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "trellic")


def compare(model: str, indices: int, *, gpu: bool, names: str = "") -> dict[str, Any]:
    """Compare all engines, or those with a text in their names, on one bundle."""
    bundle = Bundle(find(model))
    start = time.perf_counter()
    judge, *others = cpu_variants() + (gpu_variants() if gpu else [])
    comparison = Comparison(bundle, [judge, *(one for one in others if names in one.name)])
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{bundle.manifest.name}, {indices:,} indices", total=indices)
        for done in comparison.run(indices):
            progress.advance(task, done)
    return {
        "model": bundle.manifest.name,
        "stream_id": bundle.manifest.stream_id,
        "scale_indices": comparison.scale_indices,
        "engines": [asdict(tally) for tally in comparison.tallies],
        "wrong": [tally.name for tally in comparison.wrong],
        "seconds": round(time.perf_counter() - start, 1),
    }


def show(result: dict[str, Any]) -> None:
    """Print what every engine did."""
    print(f"{result['model']}: {result['scale_indices']:,} scale indices an engine")
    print(f"{'engine':<46}{'integers':>14}{'different':>14}{'by at most':>12}")
    for row in result["engines"]:
        note = "" if row["exact"] else "  (reported only)"
        cells = f"{row['integers']:>14,}{row['different']:>14,}{row['largest']:>12g}"
        print(f"{row['name']:<46}{cells}{note}")


def main() -> int:
    """Run from the command line; 1 if an engine that must be exact is not."""
    parser = argparse.ArgumentParser(description="Compare the integers of all engines.")
    parser.add_argument("--indices", type=float, default=100e6, help="scale indices an engine")
    parser.add_argument(
        "--model", action="append", help="bundle, name or path (default: photo and the tiny one)"
    )
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    parser.add_argument("--engines", default="", metavar="TEXT", help="with TEXT in their names")
    parser.add_argument("--gpu", action="store_true", help="also on the GPU of this machine")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.gpu and not gpu_variants():
        parser.error("neither torch nor onnxruntime has a CUDA device here")
    if options.threads:
        torch.set_num_threads(options.threads)
    results: list[dict[str, Any]] = []
    report = {
        "machine": describe(PACKAGES),
        "torch_threads": torch.get_num_threads(),
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for model in options.model or ["photo", str(TINY)]:
        results.append(compare(model, int(options.indices), gpu=options.gpu, names=options.engines))
        show(results[-1])
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(any(result["wrong"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
