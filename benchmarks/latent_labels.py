"""Labels from the latents of a model that was never trained for labels, beside those from pictures.

::

    python -m benchmarks.latent_labels --data DIR [--model photo] [--quality 10,40]

DIR has ``train/LABEL/`` and ``test/LABEL/`` with small pictures (CIFAR-10 as files), which are
enlarged. One small head, always of the same layers, is trained for each source: latents of real
files, what the decoder makes of them, what mozjpeg makes of as many bytes, and the pictures
themselves. Pictures come to the head as their blocks of 16 x 16 pixels, so that it sees as many
places as of latents. Bytes are those that code the picture, without headers.
`benchmarks.labels_rate` does this for `cifar`, whose decoder `class` was trained with it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import track
from torch import nn
from torch.nn import functional

from benchmarks import _machine
from benchmarks.bootstrap import mean_interval
from benchmarks.codecs import Codec, Pixels, Spec, make
from benchmarks.labels_rate import payload
from benchmarks.latent_labels_tables import SOURCES, markdown, plot
from benchmarks.picture_labels import LabelledSet, read_set
from trellic import bitstream
from trellic.codec import Codec as Trellic
from trellic.latents.decoder import LatentDecoder
from trellic_training.models.transforms import DepthBlock

ROOT = Path(__file__).resolve().parent
LARGER = 4  # times, each way
STRIDE = 16  # pixels of a place
WIDTH, BLOCKS = 128, 2
BATCH = 64
LEARNING_RATE = 2e-3
SMOOTHING = 0.1
SETTINGS = 6  # of mozjpeg that are tried for a picture

Floats = npt.NDArray[np.float32]


class Head(nn.Module):
    """Places of some numbers to labels: a convolution 1x1, two blocks, a mean.

    Parameters
    ----------
    planes : (N, C, h, w), of the training set; its means and deviations normalise all inputs
    labels : how many
    """

    def __init__(self, planes: torch.Tensor, labels: int) -> None:
        super().__init__()
        mean, std = planes.mean((0, 2, 3), keepdim=True), planes.std((0, 2, 3), keepdim=True)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / (std + 1e-3 * std.max()))
        self.layers = nn.Sequential(
            nn.Conv2d(planes.shape[1], WIDTH, 1),
            nn.LeakyReLU(0.1),
            *(DepthBlock(WIDTH) for _ in range(BLOCKS)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(WIDTH, labels),
        )

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return logits (N, labels)."""
        logits: torch.Tensor = self.layers((planes - self.mean) * self.scale)
        return logits


class Coder:
    """What becomes of a picture at a quality: latents, a picture, a JPEG of as many bytes."""

    def __init__(self, model: str) -> None:
        self.codec = Trellic.load(model, device="cpu", threads=1)
        bundle = self.codec.bundle
        exact = self.codec._pool.exact()
        self._decoder = LatentDecoder(bundle.manifest.layout, bundle.tables, exact)
        self._jpeg: Codec = make(Spec.parse("jpeg"))

    def code(self, pixels: Pixels, quality: float) -> dict[str, Any]:
        """Return planes of each source, and the bytes of ours and of the JPEG."""
        data = self.codec.encode(pixels, quality=quality)
        most = payload(data)
        jpeg = self._jpeg_of(pixels, most)
        return {
            "latents": self.latents(data),
            "decoded": places(self.codec.decode(data)),
            "jpeg": places(self._jpeg.decode(jpeg)),
            "bytes": most,
            "jpeg_bytes": payload(jpeg),
        }

    def latents(self, data: bytes) -> Floats:
        """Return the latents of a file as a decoder gets them, (C, rows, columns)."""
        stream, bundle = bitstream.read(data), self.codec.bundle
        header, layout = stream.header, bundle.manifest.layout
        level = bundle.levels.at(header.quality16, header.trellis)
        plane = layout.plane(header.width, header.height)
        v32 = self._decoder.decode(stream.segments, header.lanes, plane, level, header.trellis)
        return (v32 / (32 * level.gain_float[:, None, None])).astype(np.float16)

    def _jpeg_of(self, pixels: Pixels, most: int) -> bytes:
        """Return the best JPEG of at most so many bytes; the smallest, if none is."""
        low, high = min(self._jpeg.ladder), max(self._jpeg.ladder)
        best = self._jpeg.encode(pixels, low)
        for _ in range(SETTINGS):
            middle = round((low + high) / 2)
            data = self._jpeg.encode(pixels, middle)
            if payload(data) <= most:
                low, best = middle, data
            else:
                high = middle
        return best


def places(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return a picture's blocks of 16 x 16 pixels as planes (768, rows, columns)."""
    height, width = (side // STRIDE for side in pixels.shape[:2])
    cut = pixels.reshape(height, STRIDE, width, STRIDE, 3)
    return np.ascontiguousarray(cut.transpose(1, 3, 4, 0, 2).reshape(-1, height, width))


def larger(data: LabelledSet) -> list[Pixels]:
    """Return the pictures enlarged, bicubic."""
    side = tuple(LARGER * s for s in data.pixels.shape[2:0:-1])
    return [
        np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BICUBIC)) for p in data.pixels
    ]


def sources(coder: Coder, pictures: Sequence[Pixels], qualities: Sequence[float]) -> dict[str, Any]:
    """Code each picture at its quality; return arrays of each source."""
    made: dict[str, list[Any]] = {}
    for pixels, quality in track(
        list(zip(pictures, qualities, strict=True)), "coding", transient=True
    ):
        row = coder.code(pixels, quality) | {"untouched": places(pixels)}
        for key, value in row.items():
            made.setdefault(key, []).append(value)
    return {key: np.stack(values) for key, values in made.items()}


def train(planes: npt.NDArray[Any], labels: npt.NDArray[np.int64], steps: int) -> Head:
    """Train a head on one source; the seed is the same for all."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    head = Head(torch.from_numpy(planes[:1000].astype(np.float32)), int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=0.05)
    for step in track(range(steps), "training a head", transient=True):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / (0.05 * steps), 1 - step / steps)
        chosen = rng.integers(len(labels), size=BATCH)
        logits = head(torch.from_numpy(planes[chosen].astype(np.float32)))
        target = torch.from_numpy(labels[chosen])
        loss = functional.cross_entropy(logits, target, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


@torch.no_grad()
def right(
    head: Head, planes: npt.NDArray[Any], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which pictures get their label."""
    parts = np.array_split(planes, max(1, len(planes) // 250))
    guesses = [head(torch.from_numpy(p.astype(np.float32))).argmax(1).numpy() for p in parts]
    return np.asarray(np.concatenate(guesses) == labels)


def measure(
    coder: Coder, learn: LabelledSet, test: LabelledSet, qualities: Sequence[float], steps: int
) -> list[dict[str, Any]]:
    """Train a head for each source, and return a row for each quality."""
    drawn = np.random.default_rng(1).choice(qualities, len(learn.labels))
    seen = sources(coder, larger(learn), drawn)
    heads = {name: train(seen[name], learn.labels, steps) for name in SOURCES}
    del seen
    rows = []
    for quality in qualities:
        made = sources(coder, larger(test), [quality] * len(test.labels))
        hits = {name: right(heads[name], made[name], test.labels) for name in SOURCES}
        gains = {name: hits["latents"].astype(np.float64) - hits[name] for name in SOURCES}
        rows.append(
            {
                "quality": quality,
                "bytes": float(made["bytes"].mean()),
                "jpeg_bytes": float(made["jpeg_bytes"].mean()),
                "accuracy": {name: float(hit.mean()) for name, hit in hits.items()},
                "latents_less": {
                    name: [float(gain.mean()), *(mean_interval(list(gain)) or (0.0, 0.0))]
                    for name, gain in gains.items()
                    if name != "latents"
                },
            }
        )
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Labels from latents and from pictures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", default="10,40")
    parser.add_argument("--train", type=int, default=2400, help="training pictures to use")
    parser.add_argument("--count", type=int, default=800, help="test pictures to use")
    parser.add_argument("--steps", type=int, default=800, help="of training, of each head")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "latent-labels.json")
    parser.add_argument("--plots", type=Path, default=ROOT.parent / "docs" / "plots")
    options = parser.parse_args()
    record: dict[str, Any] = {
        "benchmark": "latent_labels",
        "machine": _machine.describe(("numpy", "torch", "onnxruntime", "pyvips-binary")),
        "model": options.model,
        "steps": options.steps,
        "pictures": {"train": options.train, "test": options.count},
    }
    learn = read_set(options.data / "train", options.train)
    test = read_set(options.data / "test", options.count)
    qualities = [float(part) for part in options.quality.split(",")]
    record["rows"] = measure(Coder(options.model), learn, test, qualities, options.steps)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))
    plot(record, options.plots)


if __name__ == "__main__":
    main()
