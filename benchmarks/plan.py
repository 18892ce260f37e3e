"""What a rate-distortion run has to measure, after what an earlier one offers."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.codecs import Codec, Spec, make
from benchmarks.measure import Task, Wanted, describe_image
from benchmarks.runs import Measured, Point, load
from benchmarks.scores import SCORES


class UsageError(ValueError):
    """Options contradict each other or the pictures."""


def specs(options: argparse.Namespace) -> list[Spec]:
    """Read the codecs, with one Trellic for each decoder and number of states.

    Raises
    ------
    UsageError
        A codec is named twice.
    """
    found = []
    for spec in map(Spec.parse, options.codecs.split(",")):
        found += _trellic(spec, options) if spec.name == "trellic" else [spec]
    if len({str(spec) for spec in found}) < len(found):
        raise UsageError("a codec is named twice")
    return found


def _trellic(spec: Spec, options: argparse.Namespace) -> list[Spec]:
    chosen = {**({"model": options.model} if options.model else {}), **dict(spec.options)}
    decoders = options.decoders.split(",") if options.decoders else [None]
    if options.decoders == "all":
        decoders = make(Spec("trellic", tuple(chosen.items()))).decoders
    more = [
        {"decoder": decoder, "trellis": states}
        for decoder in decoders
        for states in (options.trellis.split(",") if options.trellis else [None])
    ]
    return [
        Spec("trellic", (*chosen.items(), *((k, v) for k, v in one.items() if v is not None)))
        for one in more
    ]


def ladders(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Read ``CODEC=Q,Q,...``, where the codec may have options.

    Raises
    ------
    UsageError
        A text is written otherwise.
    """
    found = {}
    for text in texts:
        name, _, values = text.rpartition("=")
        try:
            found[name] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise UsageError(f"--quality {text!r}: expected CODEC=NUMBER,NUMBER,...") from None
    return found


def thinned(ladder: Sequence[float], count: int | None) -> tuple[float, ...]:
    """Return so many of a ladder's qualities, evenly chosen with both ends; all for None."""
    if count is None or count >= len(ladder):
        return tuple(ladder)
    return tuple(ladder[round(i * (len(ladder) - 1) / (count - 1))] for i in range(count))


def wanted_points(
    qualities: Sequence[float], scores: Sequence[str], every: int
) -> tuple[Wanted, ...]:
    """Return each quality with its scores: PSNR always, the others at each ``every``-th."""
    return tuple(
        Wanted(quality, tuple(scores) if index % every == 0 else ("psnr",))
        for index, quality in enumerate(qualities)
    )


class Earlier:
    """The points of an earlier run, where they are still good.

    A point is taken over if codec, settings, library versions and the picture's hash are the same
    and it has all the scores that are wanted.

    Parameters
    ----------
    paths
        JSON of that run, or of several; the first that has a point counts.
    images
        The pictures of this run.
    """

    def __init__(self, paths: Sequence[Path], images: Sequence[Path]) -> None:
        self._codecs: list[tuple[Measured, set[str]]] = []
        self.machine: dict[str, object] | None = None
        """What the earlier run was made on, the first of several."""
        now = {image.name: describe_image(image)["sha256"] for image in images if paths}
        for path in reversed(paths):
            head, codecs = load(path)
            self.machine = head["machine"]
            hashes = {image["name"]: image["sha256"] for image in head["images"]}
            same = {name for name, digest in now.items() if hashes.get(name) == digest}
            if not same:
                raise UsageError(f"{path} was measured on other pictures")
            self._codecs += [(codec, same) for codec in codecs]

    def points(self, codec: Measured) -> dict[tuple[str, float], Point]:
        """Return its points of the codec, by picture and quality."""
        key = (codec.spec, codec.settings, codec.versions)
        return {
            (point.image, float(point.quality)): point
            for old, same in self._codecs
            if (old.spec, old.settings, old.versions) == key
            for point in old.points
            if point.image in same
        }


def plan(
    spec: Spec,
    codec: Codec,
    images: Sequence[Path],
    wanted: Sequence[Wanted],
    earlier: Earlier,
    files: Path | None = None,
) -> tuple[Measured, list[Task]]:
    """Return a codec's result, holding what is taken over, and the tasks that complete it.

    ``files`` is where encoded files are kept, None for nowhere.
    """
    result = Measured(str(spec), codec.settings, codec.versions)
    old = earlier.points(result)
    tasks = []
    for image in images:
        missing = tuple(
            _left(point, old.get((image.name, float(point.quality))))
            for point in wanted
            if not _good(old, image.name, point)
        )
        left = {point.quality for point in missing}
        result.points.extend(
            old[image.name, float(point.quality)] for point in wanted if point.quality not in left
        )
        if missing:
            tasks.append(Task(spec, image, missing, files))
    return result, tasks


def _left(wanted: Wanted, old: Point | None) -> Wanted:
    """Return a point with what an earlier run knows of it."""
    if old is None:
        return wanted
    known = tuple(name for name in wanted.scores if old.score(name) is not None)
    return wanted._replace(known=known, size=old.bytes)


def with_scores_of(new: Point, old: Point | None) -> Point:
    """Return a point with the scores that only an earlier measurement of the same file has."""
    if old is None or old.bytes != new.bytes:
        return new
    return replace(new, **{s: old.score(s) for s in SCORES if new.score(s) is None})


def _good(old: Mapping[tuple[str, float], Point], image: str, wanted: Wanted) -> bool:
    point = old.get((image, float(wanted.quality)))
    return point is not None and all(point.score(name) is not None for name in wanted.scores)
