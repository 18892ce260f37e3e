"""What re-using an encoder costs on colour pictures, and a decoder that a classifier regularises.

::

    python -m benchmarks.universal_colour --data DIR

DIR has ``train/LABEL/`` and ``test/LABEL/`` with pictures of one size (CIFAR-10 as files). Two
classifiers are trained on the original training pictures: one to train codecs by, and one of other
layers and another seed that only judges test pictures. From the weights of `cifar`, models are
trained end to end for three targets, and decoders for each target on frozen encoders of others; all
for equal steps, all decoders from the same g_s. Then two decoders of the bundle `cifar`, with and
without the classifier's term, are trained and compared with `quality` on real files.

What is finished lies in ``--work``, and is not made again. The JSON has what is finished.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import _machine
from benchmarks.picture_labels import LabelledSet, read_set
from benchmarks.runs import lines
from benchmarks.universal_colour.measure import Judges, file_rows, measures, model_rows
from benchmarks.universal_colour.plan import BUNDLE_DECODERS, CLASSIFIER, JUDGE, RUNS, SHIPPED, Run
from benchmarks.universal_colour.report import markdown, plot, summary
from benchmarks.universal_colour.training import Work
from trellic.errors import TrellicError
from trellic_training.cli.train import packed_photos, use_threads
from trellic_training.data.files import sha256_of
from trellic_training.models.picture_classifier import load_classifier
from trellic_training.models.weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "universal-colour.json"
PLOTS = ROOT / "docs" / "universal"
SIDE = 32
FILES_AFTER = 10  # models: controls come last


class Bench:
    """Models and their measures in the work folder; each is made once."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        photos = packed_photos(options.data / "train", options.work, SIDE)
        self.work = Work(options.work, photos, options.weights, options.steps)
        self.judges = Judges(
            load_classifier(self.work.judge()).network,
            load_classifier(self.work.classifier(CLASSIFIER)).network,
        )
        self.test: LabelledSet = read_set(options.data / "test", options.count)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        self.console.print(text)

    def wanted(self, name: str) -> bool:
        """Whether a model is to be in the record: with ``--finished``, if it lies in the folder."""
        return not self.options.finished or self.work.file(name).is_file()

    def measured(self, name: str, of: str, make: Any) -> Any:
        """Return measures that were made of the same file, or make them."""
        path = self.options.work / f"{name}.json"
        judges = [sha256_of(self.work.file(name)) for name in (JUDGE, CLASSIFIER)]
        key = {"of": of, "count": len(self.test.labels), "judges": judges}
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if known.get("key") != key:
            self.say(f"measuring {name}")
            known = {"key": key, "rows": make()}
            path.write_text(json.dumps(known), encoding="utf-8")
        return known["rows"]

    def model(self, run: Run) -> Any:
        """Train and measure one model."""
        self.say(f"model {run.name}")
        path = self.work.model(run)

        def make() -> Any:
            model = load_weights(path)[0].eval()
            return model_rows(model, self.test, self.judges, self.say)

        return self.measured(run.name, sha256_of(path), make)

    def files(self) -> Any:
        """Train the bundle's decoders, and measure them on real files."""
        named = [name for name in BUNDLE_DECODERS if self.wanted(name)]
        made = []
        for name in named:
            self.say(f"decoder {name}")
            made.append(self.work.decoder(name))
        bundle = self.work.bundle()
        decoders = ("quality", *named)
        return self.measured(
            "files",
            "".join(map(sha256_of, made)),
            lambda: file_rows(bundle, decoders, self.test, self.judges),
        )

    def untouched(self) -> Any:
        """Judge the test pictures themselves."""
        return self.measured(
            "untouched", "", lambda: [measures(self.test.pixels, self.test, self.judges)]
        )[0]

    def write(self, models: dict[Run, Any], files: Any) -> dict[str, Any]:
        """Write what is finished."""
        record = {
            "benchmark": "universal_colour",
            "machine": _machine.describe(("numpy", "torch", "lightning", "onnxruntime")),
            "steps": self.options.steps,
            "test_pictures": len(self.test.labels),
            "started_from": sha256_of(self.options.weights),
            **summary(models, files, self.untouched()),
        }
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        self.options.out.write_text(lines(record) + "\n", encoding="utf-8")
        plot(record, self.options.plots)
        return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.universal_colour", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder with train/ and test/")
    add("--weights", type=Path, default=SHIPPED, help="of cifar, to start from")
    add("--steps", type=int, default=200, help="of each model")
    add("--count", type=int, default=2000, help="test pictures to use")
    add("--work", type=Path, default=Path("runs/universal-colour"), help="what is finished")
    add("--finished", action="store_true", help="start no model: write those that are finished")
    add("--out", type=Path, default=RESULT)
    add("--plots", type=Path, default=PLOTS)
    add("--threads", type=int, default=0, help="of torch; 0 lets torch choose")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        bench = Bench(options, Console(stderr=True))
        models: dict[Run, Any] = {}
        files = None
        for i, run in enumerate(RUNS):
            if bench.wanted(run.name):
                models[run] = bench.model(run)
            if i == FILES_AFTER:
                files = bench.files()
            if not options.finished or i == len(RUNS) - 1:
                record = bench.write(models, files)
    except (TrellicError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(markdown(record))
    return 0


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    sys.exit(main())
