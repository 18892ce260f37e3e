"""What a decoded picture still tells about its file: latents, hyper-latents, and means.

::

    python -m benchmarks.recognition --images DIR [--count 1] [--quality 60] [--trellis 32]

Each photo is encoded and decoded to 8 bits. From the picture alone, latents are recovered by rounds
of ``y + g_a(picture) - g_a(g_s(y))``, and hyper-latents by rounding h_a of them. Both are compared
with those of the file. The wrong hyper-latents then take the place of the file's, with everything
decoded before left as it was, and each mean moves. To find the right ones again, a search has
these movements to go by. It needs latents whose level is known before the means are: those that
were skipped or coded as 0, which lie on their means.
"""

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks import _machine
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.speed_tables import table
from trellic import bitstream
from trellic.constants import DEFAULT_DECODER, MAX_PIXELS
from trellic.engines.pool import EnginePool
from trellic.geometry import Plane
from trellic.images import Picture
from trellic.latents.encoder import hyper_symbols
from trellic.latents.order import grid_of
from trellic.model.bundle import Bundle, find
from trellic.model.quality import Level
from trellic.pipeline import transforms
from trellic.pipeline.decoder import StreamDecoder
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import DecodeOptions, EncodeOptions
from trellic.support.clock import Clock

RESULT: Final = Path(__file__).resolve().parent / "results" / "recognition.json"
ROUNDS: Final = 4
BORDERS: Final = (12, 20, 26)  # scale indices that classes of coded latents begin with
KNOWN: Final = 0.25  # steps: a mean that moves by less keeps its latent on its level
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Row = dict[str, Any]


class Recognition:
    """Recovers from decoded pictures what their files hold.

    Parameters
    ----------
    model : name or path
    quality, trellis : of the files
    """

    def __init__(self, model: str, quality: float, trellis: int) -> None:
        self._bundle = Bundle(find(model))
        self._pool = EnginePool(self._bundle, "cpu", 1, "fp32")
        self._encoder = StreamEncoder(self._bundle, self._pool)
        self._decoder = StreamDecoder(self._bundle, self._pool)
        self._options = EncodeOptions(quality, trellis=trellis)
        self.layout = self._bundle.manifest.layout
        self.level = self._bundle.levels.at(self._options.quality16, trellis)

    def measure(self, pixels: Pixels) -> tuple[list[Row], list[Row]]:
        """Encode and decode a photo, recover what can be recovered, and compare.

        Returns
        -------
        rounds : for each round the share of hyper-latents that are wrong, and the errors (RMS, in
            steps) of the latents of each group of channels
        classes : as `classes` returns
        """
        data = self._encoder.picture(Picture(pixels), self._options).data
        picture = self._decoder.picture(data, DecodeOptions()).picture
        stream = bitstream.read(data, MAX_PIXELS)
        header, level = stream.header, self.level
        plane = self.layout.plane(header.width, header.height)
        coder = self._decoder.latents()
        side = header.slice_side * plane.block
        v32 = coder.decode(stream.segments, header.lanes, plane, level, header.trellis, side)
        z = coder.hyper_latents(stream.segments, header.lanes, plane, level)

        rounds = []
        for f in self._recovered(picture, plane):
            found = hyper_symbols(self._encoder.hyper(f, plane), level)
            error = f * level.gain_float[:, None, None] - v32 / np.float32(32)
            groups = np.split(error, self.layout.group_ends[:-1])
            row = {"hyper_latents_wrong": float((found != z).mean())}
            rounds.append(row | {"latents": [float(np.sqrt((e**2).mean())) for e in groups]})
        right, scale = self.means(z, v32, plane, level)
        moved = (self.means(found, v32, plane, level)[0] - right) / 32
        return rounds, classes(moved, error, v32 == right, scale, self._first(plane))

    def means(
        self, z: Int64, v32: Int32, plane: Plane, level: Level
    ) -> tuple[Int32, npt.NDArray[np.uint8]]:
        """Means of all latents (int32, in 1/32 step), and scale indices, 0 where not coded.

        Parameters
        ----------
        z : hyper-latents, maybe wrong ones
        v32 : the file's latents, which the context steps see
        """
        predictor = self._encoder.latents().predictor
        means, scale = np.zeros_like(v32), np.zeros(v32.shape, np.uint8)
        for part in grid_of(plane):
            window = (slice(None), *part.index())
            steps = self._steps(plane)[window]
            context = predictor.start(z, part, plane, level)
            index = np.zeros(context.v32.shape, np.uint8)
            mean = np.zeros_like(context.v32)
            for k, step in enumerate(predictor.steps):
                predicted = predictor.predict(k, context)
                own = index[step.first : step.last].reshape(-1)
                own[predicted.position] = predicted.scale_index
                mean[steps == k] = context.v32[steps == k]
                context.v32[steps == k] = v32[window][steps == k]
            means[window], scale[window] = mean, index
        return means, scale

    def _recovered(self, picture: Picture, plane: Plane) -> list[Float32]:
        """Latents before their gain: after g_a alone, and after each round."""
        told = self.level.quality if self._bundle.manifest.encoder.sees_quality else None
        g_s = transforms.told(self._pool.decoder(DEFAULT_DECODER), self.level.quality)
        halo = self._bundle.manifest.decoders[DEFAULT_DECODER].graph.halo
        seen, _ = self._encoder.analyse(picture, plane, Clock(), quality=told)
        found = [seen]
        for _ in range(ROUNDS):
            again = Picture(transforms.synthesis(g_s, found[-1], plane, halo))
            back, _ = self._encoder.analyse(again, plane, Clock(), quality=told)
            found.append(found[-1] + seen - back)
        return found

    def _steps(self, plane: Plane) -> Int64:
        """Context step of each latent; slices begin at even places, so parity is the picture's."""
        rows, columns = np.indices(plane.latents)
        return self.layout.step_of[:, (rows + columns) & 1]

    def _first(self, plane: Plane) -> npt.NDArray[np.bool_]:
        first: npt.NDArray[np.bool_] = self._steps(plane) == 0
        return first


def classes(
    moved: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    on_mean: npt.NDArray[np.bool_],
    scale: npt.NDArray[np.uint8],
    first: npt.NDArray[np.bool_],
) -> list[Row]:
    """Sort latents by context step (the first, the others) and scale index.

    Parameters
    ----------
    moved : by how much wrong hyper-latents move each mean, in steps
    error : of the recovered latents, in steps
    on_mean : whether a latent is equal to its mean
    scale : indices, 0 where not coded

    Returns
    -------
    list of rows: step, lowest index of the class (0: not coded), sums of squares, and counts
    """
    rows = []
    edges = (0, 1, *BORDERS, 256)
    for step, member in (("first", first), ("later", ~first)):
        for low, high in itertools.pairwise(edges):
            own = member & (scale >= low) & (scale < high)
            rows.append(
                {
                    "step": step,
                    "from": low,
                    "latents": int(own.sum()),
                    "on_mean": int((own & on_mean).sum()),
                    "known": int((np.abs(moved[own]) < KNOWN).sum()),
                    "moved2": float((moved[own].astype(np.float64) ** 2).sum()),
                    "error2": float((error[own].astype(np.float64) ** 2).sum()),
                }
            )
    return rows


def summed(photos: Sequence[list[Row]]) -> list[Row]:
    """Add the classes of several photos."""
    names = ("latents", "on_mean", "known", "moved2", "error2")
    return [
        {key: rows[0][key] for key in ("step", "from")}
        | {name: sum(row[name] for row in rows) for name in names}
        for rows in zip(*photos, strict=True)
    ]


def markdown(record: Mapping[str, Any]) -> str:
    """Draw the classes as Markdown; those of coded latents begin at 1, whatever the model skips."""
    head = ("context step", "scale index", "latents", "equal to their means", "recovered within")
    head += ("wrong hyper-latents move means by", "means moved by less than a quarter")
    total = sum(row["latents"] for row in record["classes"])
    body = []
    for row in record["classes"]:
        count = max(row["latents"], 1)
        rms = [f"{np.sqrt(row[name] / count):.3f}" for name in ("error2", "moved2")]
        share = f"{row['on_mean'] / count:.0%}".replace("%", " %")
        known = f"{row['known'] / count:.1%}".replace("%", " %")
        part = f"{row['latents'] / total:.1%}".replace("%", " %")
        body.append([row["step"], _name(row["from"]), part, share, *rms, known])
    return table(head, body)


def _name(low: int) -> str:
    edges = (1, *BORDERS)
    if not low:
        return "not coded"
    after = edges.index(low) + 1
    return f"{low} or more" if after == len(edges) else f"{low} to {edges[after] - 1}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="What a decoded picture tells about its file.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", type=float, default=60.0)
    parser.add_argument("--trellis", type=int, default=32)
    parser.add_argument("--count", type=int, default=1, help="photos to use, by name")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    try:
        paths = find_images(options.images)[: options.count]
    except FileNotFoundError as error:
        parser.error(str(error))
    recognition = Recognition(options.model, options.quality, options.trellis)
    made = [recognition.measure(read_pixels(path)) for path in track(paths, "photos")]
    record: dict[str, Any] = {
        "benchmark": "recognition",
        "machine": _machine.describe(("numpy", "onnxruntime", "numba")),
        "model": options.model,
        "quality": options.quality,
        "trellis": options.trellis,
        "images": [describe_image(path) for path in paths],
        "rounds": [rounds for rounds, _ in made],
        "classes": summed([found for _, found in made]),
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for path, rounds in zip(paths, record["rounds"], strict=True):
        wrong = f"{rounds[-1]['hyper_latents_wrong']:.1%}"
        print(path.name, "wrong hyper-latents", wrong, "latents within", rounds[-1]["latents"])
    print(markdown(record))


if __name__ == "__main__":
    main()
