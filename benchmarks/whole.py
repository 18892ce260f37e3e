"""Training all weights of the decoders, in place of an adapter: what an adapter could give.

`benchmarks.domains --whole` runs it. Pictures, split, minutes, seed and loss are those of an
adapter. Each learning rate trains once; the pictures that check an adapter choose one of them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trellic.codec import Codec
from trellic.model import weights
from trellic.model.adapter import Place
from trellic.model.bundle import Bundle
from trellic_export.adapters import check
from trellic_export.adapters.networks import LEAST_BIAS
from trellic_export.adapters.pictures import Pictures
from trellic_export.adapters.settings import Settings
from trellic_export.adapters.training import Trainer
from trellic_export.bundle import digests, members, plain, write_bundle

LEARNING_RATES = (3e-5, 1e-4)  # an adapter's steps change weights by about the second


@dataclass(frozen=True)
class Trained:
    """A model whose decoders were trained.

    Attributes
    ----------
    path : of its bundle
    facts : of the run: learning rate, steps, and percent of bits on the checking pictures
    """

    path: Path
    facts: dict[str, float]


class WholeTrainer(Trainer):
    """Trains all weights of the decoders that an adapter changes."""

    def places(self, files: dict[str, bytes]) -> dict[str, list[Place]]:
        """Return every constant that is a weight, to be changed in full."""
        return {name: every(file) for name, file in files.items()}

    def write(self, out: Path) -> None:
        """Write the bundle with the trained weights, under the same stream id."""
        old = self.bundle.manifest
        files = members(self.bundle)
        for name, network in self.networks.items():
            file = old.decoders[name].graph.file
            files[file] = weights.add(files[file], network.changes())
        decoders = {
            name: info.model_copy(update={"graph": plain(info.graph)})
            if name in self.networks
            else info
            for name, info in old.decoders.items()
        }
        changed = {"decoders": decoders, "sha256": digests(files)}
        write_bundle(out, old.model_copy(update=changed), files)


def every(graph: bytes) -> list[Place]:
    """Return the weights of a graph: all constants but single numbers and the scale of quality."""
    known = weights.constants(graph)
    return [Place(constant=name, rank=0) for name, c in known.items() if c.size >= LEAST_BIAS]


def train(bundle: Bundle, pictures: Pictures, settings: Settings, out: Path) -> Trained:
    """Train all weights with one learning rate, and check the result."""
    start = time.perf_counter()
    trainer = WholeTrainer(bundle, settings)
    steps = trainer.train(pictures)
    seconds = time.perf_counter() - start
    trainer.write(out)
    facts = {
        "learning_rate": settings.learning_rate,
        "steps": steps,
        "training_seconds": round(seconds, 1),
        "checked": checked(bundle, Bundle(out), pictures, trainer.measure),
    }
    return Trained(out, facts)


def checked(bundle: Bundle, changed: Bundle, pictures: Pictures, measure: str) -> float:
    """Percent of bits at equal score on the checking pictures, against the model; their mean."""
    before, after = Codec(bundle.path, "cpu", 1), Codec(changed.path, "cpu", 1)
    score = check.scored_by(measure)
    found = []
    for picture in map(check.middle, pictures.checking):
        curves = [check.curve(codec, picture, score) for codec in (before, after)]
        found.append(check.percent(*curves))
    return float(np.nanmean(found))


def best(
    bundle: Bundle,
    pictures: Pictures,
    settings: Settings,
    folder: Path,
    rates: Sequence[float] = LEARNING_RATES,
) -> tuple[Trained, list[dict[str, float]]]:
    """Train with each learning rate; return the best by the checking pictures, and facts of all."""
    made = []
    for number, rate in enumerate(rates):
        own = replace(settings, learning_rate=rate)
        made.append(train(bundle, pictures, own, folder / f"{number}.zip"))
    return min(made, key=lambda one: one.facts["checked"]), [one.facts for one in made]
