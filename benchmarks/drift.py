"""What drifts when a photo is decoded and encoded again and again: where the error lies, and why.

::

    python -m benchmarks.drift --images DIR [--count 3] [--rounds 20]

Every round's error to the original is cut into parts whose squares add up (`parts`): a shift of the
whole picture, means of blocks in brightness and in colour, detail that is lost and detail that is
new. The same rounds are run with one cause after another taken away (`LOOPS`): no quantizer, plain
rounding, the hyper-latents of the first round. Kim et al. ("Successive learned image compression:
comprehensive analysis of instability", Neurocomputing 2022) ask what makes learned codecs unstable.
`benchmarks.generations` has whole files and other codecs.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.progress import Progress

from benchmarks import _machine
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table
from trellic.engines.pool import EnginePool
from trellic.images import Picture
from trellic.latents.encoder import hyper_symbols
from trellic.latents.quantizer import Quantizer
from trellic.model.bundle import Bundle, find
from trellic.pipeline import transforms
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import EncodeOptions
from trellic.support.clock import Clock

ROOT = Path(__file__).resolve().parent
BLOCK = 16  # pixels a side, whose means are told from detail: one latent
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
PARTS = ("shift", "block means", "colour of blocks", "lost detail", "new detail")
LATENTS = ("hyper-latents changed", "latents changed")
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Loop:
    """What one round does."""

    trellis: int | None
    """States; 0 for scalar, None for no quantizer at all."""
    search: str = "trellis"
    keep_hyper: bool = False
    """Take the hyper-latents of the first round."""


LOOPS = {
    "transforms alone": Loop(None),
    "rounding": Loop(0, "round"),
    "rounding, hyper-latents kept": Loop(0, "round", keep_hyper=True),
    "RDOQ": Loop(0),
    "32 states": Loop(32),
    "32 states, hyper-latents kept": Loop(32, keep_hyper=True),
}


class Rounds:
    """Encodes and decodes with a model, without writing files.

    Parameters
    ----------
    model : name or path
    quality : of every round
    """

    def __init__(self, model: str, quality: float) -> None:
        self._bundle = Bundle(find(model))
        self._pool = EnginePool(self._bundle, "cpu", 1, "fp32")
        self._encoder = StreamEncoder(self._bundle, self._pool)
        self._quality = quality

    def run(self, pixels: Pixels, loop: Loop, rounds: int) -> list[dict[str, float]]:
        """Return for each round the parts of the error, and how much of the latents changed."""
        kept: Float32 | None = None
        before: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
        found, current = [], pixels
        for _ in range(rounds):
            current, z, v32, h = self._round(current, loop, kept)
            kept = h if kept is None and loop.keep_hyper else kept
            row = parts(pixels, current)
            if before is not None:
                changed = (float((a != b).mean()) for a, b in zip(before, (z, v32), strict=True))
                row |= dict(zip(LATENTS, changed, strict=True))
            before = z, v32
            found.append(row)
        return found

    def _round(
        self, pixels: Pixels, loop: Loop, kept: Float32 | None
    ) -> tuple[Pixels, npt.NDArray[Any], npt.NDArray[Any], Float32]:
        """Return the picture, the hyper-latents, the latents, and what rounds to the former."""
        layout, levels = self._bundle.manifest.layout, self._bundle.levels
        level = levels.at(round(16 * self._quality), loop.trellis or 0)
        plane = layout.plane(pixels.shape[1], pixels.shape[0])
        told = level.quality if self._bundle.manifest.encoder.sees_quality else None
        f, h = self._encoder.analyse(Picture(pixels), plane, Clock(), quality=told)
        z = hyper_symbols(h, level)
        h = z / level.hyper_gain_float[:, None, None] if kept is None else kept
        v32 = np.rint(32 * f * level.gain_float[:, None, None])  # as fine as means are
        latents = f
        if loop.trellis is not None:
            options = EncodeOptions(self._quality, trellis=loop.trellis, search=loop.search)
            quantizer: Quantizer = options.quantizer(self._bundle)
            made = self._encoder.latents().quantize(f, h, plane, level, quantizer)
            v32 = made.v32
            latents = v32.astype(np.float32) / (32 * level.gain_float[:, None, None])
        engine = transforms.told(self._pool.decoder("quality"), level.quality)
        halo = self._bundle.manifest.decoders["quality"].graph.halo
        return transforms.synthesis(engine, latents, plane, halo), z, v32, h


def parts(original: Pixels, decoded: Pixels) -> dict[str, float]:
    """Return the mean squared error, and the parts that it is the sum of.

    Channels are turned to brightness and two differences of colour, by an orthonormal matrix.
    Detail is what a block has beside its mean. What of the original's detail is still there, at
    which strength, is found by least squares in each channel: what is missing is "lost", what the
    original does not explain is "new".

    Parameters
    ----------
    original, decoded : uint8 (H, W, 3); what goes beyond whole blocks is left out
    """
    height, width = (side - side % BLOCK for side in original.shape[:2])
    one, other = (p[:height, :width].astype(np.float64) @ OPPONENT.T for p in (original, decoded))
    error = other - one
    samples = error.size
    shift = error.mean((0, 1))
    coarse = _block_means(error) - shift
    details = [p - _grown(_block_means(p)) for p in (one, other)]
    power, cross = ((details[0] * d).sum((0, 1)) for d in details)
    strength = cross / np.maximum(power, 1e-9)
    lost = ((1 - strength) ** 2 * power).sum()
    new = ((details[1] - strength * details[0]) ** 2).sum()
    blocks = (coarse**2).sum((0, 1)) * BLOCK**2
    found = ((shift**2).sum() * height * width, blocks[0], blocks[1:].sum(), lost, new)
    values = {name: float(value) / samples for name, value in zip(PARTS, found, strict=True)}
    return {"mse": float((error**2).mean()), **values, "strength": float(strength[0])}


def _block_means(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    height, width, channels = plane.shape
    tiled = plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    return np.asarray(tiled.mean((1, 3)))


def _grown(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return means.repeat(BLOCK, 0).repeat(BLOCK, 1)


def measure(rounds: Rounds, photos: Sequence[Pixels], count: int) -> dict[str, list[Any]]:
    """Return means over the photos: for each loop a list of rounds."""
    found = {}
    with Progress() as progress:
        bar = progress.add_task("rounds", total=len(LOOPS) * len(photos))
        for name, loop in LOOPS.items():
            runs = []
            for pixels in photos:
                runs.append(rounds.run(pixels, loop, count))
                progress.advance(bar)
            found[name] = [
                {key: round(float(np.mean([run[i][key] for run in runs])), 6) for key in runs[0][i]}
                for i in range(count)
            ]
    return found


# ---- what came out ----


def markdown(record: Mapping[str, Any]) -> str:
    """Draw the last round of every loop as Markdown."""
    count = record["rounds"]
    head = ("loop", "mean squared error, round 1", f"round {count}", *PARTS, *LATENTS)
    rows = []
    for name, made in record["loops"].items():
        first, last = made[0], made[-1]
        cells = [f"{last[part] - first[part]:+.1f}" for part in PARTS]
        changed = [f"{made[1][key]:.1%}".replace("%", " %") for key in LATENTS]
        rows.append([name, f"{first['mse']:.1f}", f"{last['mse']:.1f}", *cells, *changed])
    return table(head, rows)


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the error over rounds of each loop, and its parts with 32 states."""

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        across = range(1, record["rounds"] + 1)
        for colour, (name, made) in zip(theme.colours, record["loops"].items(), strict=False):
            left.plot(across, [row["mse"] for row in made], color=colour, label=name)
        made = record["loops"]["32 states"]
        stacked = [[row[part] for row in made] for part in PARTS]
        right.stackplot(across, stacked, labels=PARTS, colors=theme.colours)
        for axes, title in ((left, "error of each loop"), (right, "32 states: what the error is")):
            axes.set_facecolor(theme.background)
            axes.set_xlabel("times encoded and decoded", color=theme.text)
            axes.set_ylabel("mean squared error", color=theme.text)
            colour_axes(axes, title, theme, loc="upper left")
        left.set_yscale("log")
        return figure

    return write(draw, folder, "drift")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="What drifts over rounds of saving again.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=3, help="photos to use, by name")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "drift.json")
    parser.add_argument("--plots", type=Path, default=ROOT.parent / "docs" / "plots")
    options = parser.parse_args()
    paths = find_images(options.images)[: options.count]
    record: dict[str, Any] = {
        "benchmark": "drift",
        "machine": _machine.describe(("numpy", "onnxruntime", "numba")),
        "model": options.model,
        "quality": options.quality,
        "rounds": options.rounds,
        "images": [describe_image(path) for path in paths],
        "settings": {name: asdict(loop) for name, loop in LOOPS.items()},
    }
    rounds = Rounds(options.model, options.quality)
    record["loops"] = measure(rounds, [read_pixels(path) for path in paths], options.rounds)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))
    plot(record, options.plots)


if __name__ == "__main__":
    main()
