"""Slim models of one game against the large model: bits at equal score, and frames a second.

::

    pip install --group video
    python -m benchmarks.game FRAMES
    trellic distill FRAMES/train --name half --width half
    trellic distill FRAMES/train --name quarter --width quarter
    python -m benchmarks.slim --frames FRAMES --model half.zip --model quarter.zip

All codecs code single pictures. H.264 is x264 with the preset superfast and key frames alone, AVIF
has speed 10; both are 4:4:4. Frames a second are those of one thread, over one frame of each track
of ``FRAMES/known``, at the settings whose SSIMULACRA 2 is nearest to that of the large model at
`EQUAL`. Codecs take turns on each frame. H.264 gets all these frames in one call of ffmpeg, less
the time of a call with one frame.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks._machine import describe
from benchmarks.codecs import Pixels, Spec, make
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from benchmarks.slim_tables import drawn
from benchmarks.video.rivals import Rival
from trellic.model.bundle import Bundle
from trellic.scored import ssimulacra2

RESULT = Path(__file__).resolve().parent / "results" / "slim.json"
EQUAL = 60.0  # quality of the large model that speeds are compared at
OURS = (20.0, 35.0, 50.0, 60.0, 75.0)
AVIF = (20.0, 35.0, 50.0, 60.0, 75.0)
H264 = Rival(
    ("-c:v", "libx264", "-preset", "superfast", "-g", "1"),
    "-crf",
    (40, 35, 30, 25, 20),
    "h264",
    "yuv444p",
)
X264 = "H.264 superfast, key frames"
RATE = 30.0  # frames a second; only single frames are coded, so it does not matter
Row = dict[str, Any]


class SingleFrames:
    """H.264 as a codec of pictures of one size."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Return a stream of one key frame."""
        return H264.encode([pixels], int(quality), RATE)

    def decode(self, data: bytes) -> Pixels:
        """Return the frame."""
        return H264.decode(data, self._shape)[0]


def specs(models: Sequence[str]) -> dict[str, str]:
    """Name the codecs of pictures; all use one thread."""
    own = {"photo": "", "photo, `fast`": ":decoder=fast"}
    own |= {Path(model).stem: f":model={model}" for model in models}
    own |= {f"{Path(model).stem}, trellis 0": f":model={model}:trellis=0" for model in models}
    return {name: f"trellic:threads=1{rest}" for name, rest in own.items()} | {
        "AVIF, speed 10": "avif:speed=10:threads=1"
    }


def points(codec: Any, qualities: Sequence[float], pixels: Pixels) -> list[Row]:
    """Code a frame at all qualities."""
    rows = []
    for quality in qualities:
        data = codec.encode(pixels, quality)
        shown = codec.decode(data)
        scores = {"ssimulacra2": ssimulacra2(pixels, shown), "psnr": psnr(pixels, shown)}
        rows.append({"quality": quality, "bytes": len(data)} | scores)
    return rows


def nearest(frames: Sequence[Row], name: str, score: float) -> float:
    """Quality of a codec whose mean SSIMULACRA 2 is nearest to a score."""
    scores = np.mean([[p["ssimulacra2"] for p in frame["points"][name]] for frame in frames], 0)
    best = int(np.abs(scores - score).argmin())
    return float(frames[0]["points"][name][best]["quality"])


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def speeds(made: dict[str, Any], at: dict[str, float], frames: list[Pixels], repeat: int) -> Row:
    """Median milliseconds a frame of each codec; they take turns."""
    taken: dict[str, dict[str, list[float]]] = {name: {"encode": [], "decode": []} for name in made}
    for _ in track(range(repeat), "timing"):
        for pixels in frames:
            for name, codec in made.items():
                seconds, data = timed(lambda c=codec, n=name, p=pixels: c.encode(p, at[n]))  # type: ignore[misc]
                taken[name]["encode"].append(seconds)
                taken[name]["decode"].append(timed(lambda c=codec, d=data: c.decode(d))[0])  # type: ignore[misc]
    return {
        name: {way: round(1000 * float(np.median(values)), 2) for way, values in ways.items()}
        for name, ways in taken.items()
    }


def h264_speed(frames: list[Pixels], crf: float, repeat: int) -> Row:
    """Milliseconds a frame of H.264: of all frames in one call, less a call with one frame."""
    shape, more = frames[0].shape, 2 * frames
    found: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(repeat):
        many, data = timed(lambda: H264.encode(more, int(crf), RATE))
        one, first = timed(lambda: H264.encode(more[:1], int(crf), RATE))
        found["encode"].append(many - one)
        many, one = (timed(lambda d=d: H264.decode(d, shape))[0] for d in (data, first))  # type: ignore[misc]
        found["decode"].append(many - one)
    return {
        way: round(1000 * float(np.median(values)) / (len(more) - 1), 2)
        for way, values in found.items()
    }


def run(asked: argparse.Namespace) -> None:
    """Measure everything, and write it."""
    named = specs([str(model) for model in asked.model])
    made = {name: make(Spec.parse(spec)) for name, spec in named.items()}
    sets: dict[str, list[Row]] = {}
    for kind in ("known", "new"):
        sets[kind] = []
        for path in track(find_images(asked.frames / kind)[:: asked.every], kind):
            pixels = read_pixels(path)
            every: Row = {
                name: points(codec, AVIF if name.startswith("AVIF") else OURS, pixels)
                for name, codec in made.items()
            }
            every[X264] = points(SingleFrames(pixels.shape), H264.ladder, pixels)
            sets[kind].append({"name": path.name, "points": every})
    known = sets["known"]
    wanted = float(np.mean([score_at(frame["points"]["photo"], EQUAL) for frame in known]))
    at = {name: nearest(known, name, wanted) for name in (*made, X264)}
    frames = [read_pixels(path) for path in find_images(asked.frames / "known")[::3]]
    times = speeds(made, at, frames, asked.repeat)
    times[X264] = h264_speed(frames, at[X264], asked.repeat)
    models = {Path(model).stem: facts(model) for model in asked.model}
    result = {
        "benchmark": "slim",
        "machine": describe(("numpy", "pillow", "imagecodecs", "onnxruntime")),
        "threads": 1,
        "qualities": at,
        "milliseconds": times,
        "sets": sets,
        "models": models,
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(drawn(result))


def facts(model: Path) -> Row:
    """Say how a slim model was made, and what it costs."""
    manifest = Bundle(model).manifest
    cost = {"encoder": manifest.encoder, "decoder": manifest.decoders["quality"].graph}
    return manifest.training["distilled"] | {
        "bytes": model.stat().st_size,
        **{name: graph.kmac_per_pixel for name, graph in cost.items()},
    }


def score_at(rows: Sequence[Row], quality: float) -> float:
    """SSIMULACRA 2 at one of the qualities."""
    return float(next(row["ssimulacra2"] for row in rows if row["quality"] == quality))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, required=True, help="made by benchmarks.game")
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--every", type=int, default=1, help="take each n-th frame")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
