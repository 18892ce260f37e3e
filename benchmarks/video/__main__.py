"""Clips by key pictures and an interpolation loop, beside MPEG-4 and H.264.

::

    python -m benchmarks.video --photo samples/osprey.png

An experiment: see docs/experiments/video.md. Two clips are rendered from the photo
(`benchmarks.video.clips`). Bytes are those of whole clips, of rivals of their elementary streams;
PSNR is the mean over the frames.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks import _machine
from benchmarks.codecs import CodecUnavailableError, Spec, make
from benchmarks.measure import read_pixels
from benchmarks.metrics import psnr
from benchmarks.video.clips import CLIPS, Pixels
from benchmarks.video.codec import LOOPS, Reader, VideoCodec
from benchmarks.video.container import KINDS
from benchmarks.video.report import LOOPED, markdown, plot
from benchmarks.video.rivals import RIVALS, ffmpeg

ROOT = Path(__file__).resolve().parents[1]
RATE = 25.0  # frames a second
OURS = {"Trellic, every frame": (1,), LOOPED: LOOPS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        ffmpeg()
        run(options)
    except (CodecUnavailableError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Measure, write and draw."""
    photo = read_pixels(options.photo)
    record: dict[str, Any] = {
        "benchmark": "video",
        "machine": _machine.describe(("numpy", "onnxruntime", "imageio-ffmpeg")),
        "model": options.model,
        "photo": options.photo.name,
        "frames": options.frames,
        "rows": [],
    }
    qualities = [float(part) for part in options.quality.split(",")]
    for clip, render in CLIPS.items():
        frames = render(photo, options.frames)
        rows = [*_ours(frames, options.model, qualities), *_rivals(frames)]
        record["rows"] += [{"clip": clip, **row} for row in rows]
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))
    plot(record, options.plots)


def _ours(frames: Sequence[Pixels], model: str, qualities: Sequence[float]) -> list[dict[str, Any]]:
    pictures = make(Spec.parse(f"trellic:model={model}"))
    rows = []
    jobs = [(name, loops, q) for name, loops in OURS.items() for q in qualities]
    for name, loops, quality in track(jobs, "Trellic"):
        data = VideoCodec(pictures, loops).encode(frames, quality, RATE)
        reader = Reader(data, pictures)
        decoded = [reader.frame(i) for i in range(len(frames))]
        kinds = Counter(frame.kind for frame in reader.clip.frames)
        row = {"kinds": {kind: kinds[kind] for kind in KINDS}}
        rows.append(_row(name, quality, data, frames, decoded) | row)
    return rows


def _rivals(frames: Sequence[Pixels]) -> list[dict[str, Any]]:
    rows = []
    for name, rival in RIVALS.items():
        for quality in rival.ladder:
            data = rival.encode(frames, quality, RATE)
            decoded = rival.decode(data, frames[0].shape)
            rows.append(_row(name, quality, data, frames, decoded))
    return rows


def _row(
    codec: str, quality: float, data: bytes, frames: Sequence[Pixels], decoded: Sequence[Pixels]
) -> dict[str, Any]:
    pairs = list(zip(frames, decoded, strict=True))
    pixels = len(frames) * frames[0][..., 0].size
    return {
        "codec": codec,
        "quality": quality,
        "bytes": len(data),
        "bpp": 8 * len(data) / pixels,
        "psnr": float(np.mean([psnr(*pair) for pair in pairs])),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__)
    add = parser.add_argument
    add("--photo", type=Path, required=True, help="the clips are rendered from it")
    add("--model", default="photo-psnr")
    add("--quality", default="10,25,45,65")
    add("--frames", type=int, default=33)
    add("--out", type=Path, default=ROOT / "results" / "video.json")
    add("--plots", type=Path, default=ROOT.parent / "docs" / "plots")
    return parser


if __name__ == "__main__":
    sys.exit(main())
