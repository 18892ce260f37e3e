"""What exact entropy parameters cost: integer entropy networks against the same ones in float32.

::

    python -m benchmarks.exactness_price --weights WEIGHTS.pt --images DIR

The same weights predict means and scale indices twice: as the integer networks of the bitstream,
and in float32 with weights, activations, context inputs and means unrounded. Quantizer, scales and
code are the same. Each gets frequency tables fitted to its own symbols, and the code
lengths are the ideal ones of those tables. Hyper-latents are the same in both and are counted.
The weights were trained with rounding in the loop; what a float network could have become without
it is not measured.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from benchmarks import _machine
from benchmarks.measure import find_images, read_pixels
from trellic.entropy.tables import Tables
from trellic.geometry import Plane
from trellic.latents.encoder import LatentEncoder
from trellic.latents.quantizer import Quantizer
from trellic.limits import ACTIVATION_LIMIT, STEP32
from trellic.model.quality import GAIN_BITS, Level
from trellic.quantize.cpu import reconstruct, search
from trellic.quantize.reference import round_to_step
from trellic_training.models.exact import ACTIVATION_UNIT, ExactConv
from trellic_training.models.photo import MEAN_UNIT, PhotoModel
from trellic_training.models.weights import load_weights
from trellic_training.pixels import to_network
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import LoopQuantizer, sigmas_of
from trellic_training.quantization.symbols import Collector

QUALITIES = (10, 30, 50, 70, 90)
ROUNDS = 3
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Photo:
    """A photo's latents and hyper-latents before their gains."""

    f: Float32
    h: Float32
    plane: Plane


class FloatCoder:
    """Quantizes as `LatentEncoder` does, with entropy networks in float32."""

    def __init__(self, model: PhotoModel, skip_index: int) -> None:
        self.model = model
        self.layout = model.config.layout(skip_index)

    @torch.no_grad()
    def __call__(
        self, photo: Photo, level: Level, quantizer: Quantizer, tables: Tables, out: Collector
    ) -> None:
        """Quantize one photo and collect its symbols."""
        gain = torch.from_numpy(level.gain / 2.0**GAIN_BITS).float()[:, None, None]
        context_scale = torch.from_numpy(level.context_scale * STEP32 / 2.0**16).float()
        y = torch.from_numpy(photo.f) * gain
        v = torch.zeros_like(y)
        features = _run(self.model.h_s, self._hyper_input(photo, level))
        steps = self.model.step_map(*y.shape[1:])
        for k, step in enumerate(self.layout.steps):
            seen = v[: step.context] * context_scale[: step.context, None, None]
            x = torch.cat([features, seen.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)])
            *trunk, heads = self.model.contexts[k].children()
            hidden = _run(trunk, x)
            coded = slice(step.first, step.last)
            mean = _run([heads.mean], hidden) * MEAN_UNIT * gain[coded]
            shift = torch.from_numpy(level.scale_shift[coded] / 128).float()[:, None, None]
            index = _run([heads.scale], hidden) / 8 + shift
            index = (index + 0.5).floor().clamp(0, self.layout.scales - 1)
            mask = steps[coded] == k
            v[coded][mask] = mean[mask]
            chosen = mask & (index >= self.layout.skip_index)
            self._quantize(y[coded], v[coded], index, chosen, quantizer, tables, out)

    def _hyper_input(self, photo: Photo, level: Level) -> Tensor:
        z = np.floor(photo.h * level.hyper_gain_float[:, None, None] + 0.5)
        scaled = torch.from_numpy(z * level.hyper_scale[:, None, None] / 2.0**16).float()
        quality = torch.full((1, *scaled.shape[1:]), float(level.plane))
        return torch.cat([scaled.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT), quality])

    @staticmethod
    def _quantize(
        y: Tensor,
        v: Tensor,
        index: Tensor,
        chosen: Tensor,
        quantizer: Quantizer,
        tables: Tables,
        out: Collector,
    ) -> None:
        t32 = ((y - v)[chosen] * STEP32 + 0.5).floor().numpy().astype(np.int32)
        at = index[chosen].numpy().astype(np.uint8)
        if quantizer.mode == "round":
            k, cls = round_to_step(t32), np.zeros(len(t32), np.uint8)
        else:
            k, cls = search(t32, at, 1, quantizer.states, tables, quantizer.lam)
        v[chosen] += torch.from_numpy(reconstruct(k, cls, at, tables) / STEP32).float()
        out(t32, at, k, cls)


def _run(layers: object, x: Tensor) -> Tensor:
    """Run a chain of layers without any rounding; clipping is part of the networks."""
    x = x[None]
    for layer in layers:  # type: ignore[attr-defined]
        if not isinstance(layer, ExactConv):
            x = layer(x)
            continue
        bias = layer.bias / ACTIVATION_UNIT
        x = functional.conv2d(x, layer.weight, bias, padding=layer.kernel // 2, groups=layer.groups)
        x = (x * 2.0**-layer.steps).clamp(layer.low, layer.high)
    return x[0]


def ideal_bits(tables: Tables, collected: Collector) -> float:
    """Sum of the ideal code lengths of symbols, in bits."""
    rates = tables.rates() / 64
    total = 0.0
    width, start = tables.half_width.ravel().astype(np.int64), tables.start
    for _, index, k, cls in collected.parts:
        table = cls.astype(np.int64) * tables.scales + index
        escaped = np.abs(k) > width[table]
        place = start[table] + width[table] + np.where(escaped, width[table] + 1, k)
        excess = np.maximum(np.abs(k) - width[table], 1)
        total += rates[place].sum() + (escaped * 2 * (np.floor(np.log2(excess)) + 1)).sum()
    return float(total)


def measure(
    model: PhotoModel, photos: Sequence[dict[int, Photo]], quantizer: Quantizer, skip_index: int
) -> list[dict[str, float]]:
    """Bits per pixel with integer and with float networks at each quality."""
    prior = parametric_tables(sigmas_of(model.config.scales), 21)
    loop = LoopQuantizer(model, prior, skip_index)
    floating = FloatCoder(model, skip_index)

    def integer(photo: Photo, level: Level, tables: Tables, out: Collector) -> None:
        coder = LatentEncoder(loop.coder.layout, tables, loop.coder.predictor.networks)
        coder.quantize(photo.f, photo.h, photo.plane, level, quantizer, observe=out)

    def unrounded(photo: Photo, level: Level, tables: Tables, out: Collector) -> None:
        floating(photo, level, quantizer, tables, out)

    bits: dict[str, dict[int, float]] = {}
    for name, run in (("integer", integer), ("float32", unrounded)):
        tables = prior
        for turn in range(ROUNDS + 1):
            seen = {q: Collector() for q in QUALITIES}
            everything = Collector()
            for photo in track(photos, f"{name} networks, {turn}"):
                for q in QUALITIES:
                    run(photo[q], loop.levels.at(16 * q, quantizer.states), tables, seen[q])
            if turn < ROUNDS:
                for one in seen.values():
                    everything.parts.extend(one.parts)
                tables = everything.refit(tables, prior)
        bits[name] = {q: ideal_bits(tables, one) for q, one in seen.items()}
    planes = [photo[QUALITIES[0]].plane for photo in photos]
    pixels = sum(plane.width * plane.height for plane in planes)
    return [
        {
            "quality": q,
            "integer_bpp": bits["integer"][q] / pixels,
            "float32_bpp": bits["float32"][q] / pixels,
            "price_percent": 100 * (bits["integer"][q] / bits["float32"][q] - 1),
        }
        for q in QUALITIES
    ]


@torch.no_grad()
def _photo(model: PhotoModel, path: Path) -> dict[int, Photo]:
    """Analyse the centre of a photo, cut to multiples of 64 and to one slice, at each quality."""
    pixels = read_pixels(path)
    height, width = (min(side // 64 * 64, 1024) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    crop = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    x, analysed = to_network(torch.from_numpy(crop)[None]), {}
    for q in QUALITIES:
        f = model.g_a(x, torch.tensor([float(q)]))
        analysed[q] = Photo(f[0].numpy(), model.h_a(f)[0].numpy(), Plane(width, height))
    return analysed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    model = load_weights(options.weights)[0].float().eval().requires_grad_(False)
    paths = find_images(options.images)[: options.limit]
    photos = [_photo(model, path) for path in paths]
    quantizer = _quantizer(options.quantizer)
    rows = measure(model, photos, quantizer, options.skip_index)
    mean = float(np.mean([row["price_percent"] for row in rows]))
    console = Console()
    for row in rows:
        console.print(
            f"quality {row['quality']}: integer {row['integer_bpp']:.4f} bpp,"
            f" float32 {row['float32_bpp']:.4f} bpp, price {row['price_percent']:+.2f} %"
        )
    console.print(f"mean price {mean:+.2f} %")
    head = {
        "benchmark": "exactness_price",
        "machine": _machine.describe(("numpy", "torch")),
        "images": [path.name for path in paths],
        "quantizer": options.quantizer,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {**head, "mean_price_percent": mean, "qualities": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {options.out}")
    return 0


def _quantizer(name: str) -> Quantizer:
    if name == "round":
        return Quantizer(0, 0, "round")
    return Quantizer(int(name), 24 if int(name) else 20)  # lam of the exporter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exactness_price",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="weights.pt of train or finetune")
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add(
        "--quantizer",
        default="round",
        help="round (default), 0 for RDOQ, or states of a trellis: a search chooses differently"
        " under other tables, so that the two differ in distortion too",
    )
    add("--skip-index", type=int, default=4, help="as at export (default 4)")
    add("--limit", type=int, metavar="N", help="only the first N photos")
    add("--out", type=Path, default=Path("benchmarks/results/exactness_price.json"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
