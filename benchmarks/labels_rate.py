"""How many labels are right at how many bits: straight from latents, and from decoded pictures.

::

    python -m benchmarks.labels_rate --data DIR [--model cifar] [--steps N]

DIR has ``train/LABEL/`` and ``test/LABEL/`` with pictures of one size (CIFAR-10 as files). The
model's decoder ``class`` sees latents of real files. A classifier of about its size, trained here
for as many steps of as many pictures, decoded from all codecs (and untouched ones), sees what
Trellic, JPEG and WebP make of the test pictures. Bits are counted twice: whole files, and payloads
alone: the segments of a .tlc, the entropy-coded scans of a JPEG without its tables, the VP8 frame
of a WebP without its headers. At 32x32 pixels headers are most of a file.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import nn

from benchmarks._machine import describe
from benchmarks.codecs import Codec, Spec, make
from benchmarks.labels_tables import markdown, plot
from benchmarks.metrics import psnr
from benchmarks.picture_labels import LabelledSet, accuracy, coded, network, read_set, train
from trellic import bitstream
from trellic.codec import Codec as Trellic

ROOT = Path(__file__).resolve().parent
LADDERS = {
    "trellic": (1, 12, 25, 40, 55, 70, 85, 100),
    "jpeg": (3, 10, 20, 35, 55, 75, 90, 97),
    "webp": (0, 10, 25, 45, 65, 82, 92, 99),
}
RIFF, FRAME_TAG = 20, 10  # bytes of a WebP file before its VP8 frame, and of the frame's header


@dataclass(frozen=True)
class Row:
    """One codec at one quality: means over the test pictures."""

    codec: str
    quality: float
    file_bpp: float
    payload_bpp: float
    psnr: float
    accuracy: dict[str, float]  # by who guesses: "pictures", and "latents" of Trellic


def payload(data: bytes) -> int:
    """Bytes of a file that code the picture: no headers, tables or checks.

    Raises
    ------
    ValueError
        When it is neither .tlc nor JPEG nor lossy WebP without an extended header.
    """
    if data[:3] == b"TLC":
        return sum(map(len, bitstream.read(data).segments))
    if data[:2] == b"\xff\xd8":
        return _scans(data)
    if data[8:16] == b"WEBPVP8 ":
        return int.from_bytes(data[16:20], "little") - FRAME_TAG
    raise ValueError(f"no payload known of a file that begins with {data[:16]!r}")


def _scans(data: bytes) -> int:
    """Bytes of a JPEG's entropy-coded segments, escapes included."""
    at, total = 2, 0
    while data[at + 1] != 0xD9:
        scan = data[at + 1] == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        start = at
        while scan and not (data[at] == 0xFF and data[at + 1] not in (0, *range(0xD0, 0xD8))):
            at += 1
        total += at - start
    return total


def measure(
    name: str, codec: Codec, quality: float, test: LabelledSet, guesser: nn.Module, ours: Trellic
) -> Row:
    """Code all test pictures and guess their labels."""
    bar = track(test.pixels, f"{name} at {quality:g}", transient=True)
    files = [codec.encode(pixels, quality) for pixels in bar]
    pictures = np.stack([codec.decode(data) for data in files])
    right = {"pictures": accuracy(guesser, pictures, test.labels)}
    if name == "trellic":
        best = [ours.classify(data, decoder="class")[0][0] for data in files]
        names = np.array(test.names)[test.labels]
        right["latents"] = float(np.mean([a == b for a, b in zip(best, names, strict=True)]))
    bits = 8 / test.pixels[0, ..., 0].size
    return Row(
        codec=name,
        quality=quality,
        file_bpp=bits * float(np.mean([len(data) for data in files])),
        payload_bpp=bits * float(np.mean([payload(data) for data in files])),
        psnr=float(np.mean([psnr(a, b) for a, b in zip(test.pixels, pictures, strict=True)])),
        accuracy=right,
    )


def guesser_for(
    data: Path, codecs: dict[str, Codec], facts: dict[str, Any], kept: Path
) -> nn.Module:
    """Train the classifier of pictures; or read it, where one is kept that was made of the same.

    Parameters
    ----------
    facts : what decides it: number of "steps", and whose pictures it saw
    """
    learn = read_set(data / "train")
    made = network(len(learn.names))
    found = torch.load(kept, weights_only=True) if kept.is_file() else {}
    if found.get("facts") != facts:
        rng = np.random.default_rng(1)
        sources = [coded(codec, learn.pixels, rng, name) for name, codec in codecs.items()]
        train(made, [learn.pixels, *sources], learn.labels, facts["steps"])
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = {"facts": facts, "state": made.state_dict()}
        torch.save(found, kept)
    made.load_state_dict(found["state"])
    return made.eval()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Accuracy over rate.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--model", default="cifar", help="a bundle with a decoder `class`")
    parser.add_argument("--steps", type=int, help="of training; as many as the decoder's")
    parser.add_argument("--count", type=int, default=2000, help="test pictures to use")
    parser.add_argument(
        "--classifier",
        type=Path,
        default=Path("runs/picture-labels.pt"),
        help="where the classifier of pictures is kept; another model or --steps replaces it",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "labels-rate.json")
    parser.add_argument("--plots", type=Path, default=ROOT.parent / "docs" / "plots")
    options = parser.parse_args()
    specs = {name: name for name in LADDERS} | {"trellic": f"trellic:model={options.model}"}
    codecs = {name: make(Spec.parse(spec)) for name, spec in specs.items()}
    ours, test = Trellic.load(options.model), read_set(options.data / "test", options.count)
    facts = ours.bundle.manifest.training["decoders"]["class"]
    steps = options.steps or int(facts["steps"])
    stream_id = ours.bundle.manifest.stream_id
    seen = {"steps": steps, "stream_id": stream_id, "data": options.data.resolve().name}
    guesser = guesser_for(options.data, codecs, seen, options.classifier)
    untouched = accuracy(guesser, test.pixels, test.labels)
    rows = [
        measure(name, codecs[name], quality, test, guesser, ours)
        for name, ladder in LADDERS.items()
        for quality in ladder
    ]
    record = {
        "machine": describe(("numpy", "torch", "onnxruntime", "pillow", "pyvips-binary")),
        "stream_id": stream_id,
        "test_pictures": len(test.labels),
        "steps": {"from_pictures": steps, "from_latents": facts["steps"]},
        "weights": {
            "from_pictures": sum(p.numel() for p in guesser.parameters()),
            "from_latents": _weights(ours),
        },
        "untouched": untouched,
        "rows": [asdict(row) for row in rows],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    plot(record, options.plots, options.out.stem)
    print(markdown(record))
    print(f"\nfrom untouched pictures: {untouched:.1%}; {len(test.labels)} pictures")


def _weights(codec: Trellic) -> int:
    """Weights of the decoder ``class``, counted in its graph."""
    import onnx

    graph = codec.bundle.graph(codec.bundle.manifest.decoders["class"].graph)
    constants = onnx.load_from_string(graph).graph.initializer
    return sum(int(np.prod(c.dims)) for c in constants if len(c.dims))


if __name__ == "__main__":
    main()
