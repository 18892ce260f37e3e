"""Tables of a speed run, as Markdown: times, stages, memory, and how far the goals are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.labels import label

Run = Mapping[str, Any]


class Goal(NamedTuple):
    """A ratio of times that the project aims at, with one thread."""

    what: str
    direction: str
    numerator: str
    """Start of a codec's spec; ``trellic NAME`` is ours with that decoder."""
    denominator: str
    least: float | None = None
    most: float | None = None


GOALS = (
    Goal("encode, against AVIF speed 6", "encode", "avif:speed=6", "trellic", least=4),
    Goal("encode, against JPEG XL effort 7", "encode", "jxl:effort=7", "trellic", least=1),
    Goal("decode `fast`, against AVIF", "decode", "trellic fast", "avif:speed=6", most=2),
    Goal("decode `quality`, against AVIF", "decode", "trellic quality", "avif:speed=6", most=10),
)


def goals(run: Run) -> str:
    """Return the goals, measured with the least number of threads, in each precision."""
    rows = run["times"][0]["rows"]
    kinds: dict[str, list[str]] = {}
    for codec in run["ours"]:
        kinds.setdefault(_precision(codec) or "float32", []).append(codec)
    head = ["goal", "wanted"]
    for name in kinds:
        head += [f"measured, {name}", ""]
    lines = []
    for goal in GOALS:
        verdicts = (_verdict(goal, ours, rows) for ours in kinds.values())
        lines.append([goal.what, _wanted(goal), *(cell for pair in verdicts for cell in pair)])
    return table(head, lines)


def _precision(codec: str) -> str:
    """Return the precision that a spec names, if it is another than float32."""
    parts = dict(part.split("=", 1) for part in codec.split(":") if "=" in part)
    return parts.get("precision", "")


def _wanted(goal: Goal) -> str:
    if goal.least is not None:
        return "at least " + f"{goal.least:g} times " * (goal.least > 1) + "as fast"
    return f"at most {goal.most:g} times as long"


def _verdict(goal: Goal, ours: Sequence[str], rows: Sequence[Run]) -> tuple[str, str]:
    upper, lower = (_codec(which, ours, rows) for which in (goal.numerator, goal.denominator))
    if upper is None or lower is None:
        return "-", "not measured: no such decoder or codec in this run"
    ratio = total(rows, upper, goal.direction) / total(rows, lower, goal.direction)
    met = ratio >= goal.least if goal.least is not None else ratio <= (goal.most or 0)
    return f"{ratio:.2f}", "met" if met else "**missed**"


def _codec(which: str, ours: Sequence[str], rows: Sequence[Run]) -> str | None:
    """Return the spec of a codec of the run; the first of ours where any will do."""
    name, _, decoder = which.partition(" ")
    for text in dict.fromkeys(row["codec"] for row in rows):
        if text in ours:
            fits = name == "trellic" and (not decoder or f"decoder={decoder}" in text.split(":"))
        else:
            fits = name != "trellic" and f"{text}:".startswith(f"{name}:")
        if fits:
            return str(text)
    return None


def total(rows: Iterable[Run], codec: str, direction: str) -> float:
    """Return the sum over the pictures of the least time of each, in seconds."""
    return sum(min(row[direction]) for row in rows if row["codec"] == codec)


def mean_times(rows: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return each codec's mean seconds a picture, ``encode`` and ``decode``."""
    codecs = dict.fromkeys(row["codec"] for row in rows)
    count = len({row["image"] for row in rows})
    return {
        codec: {d: total(rows, codec, d) / count for d in ("encode", "decode")} for codec in codecs
    }


def ratios(run: Run) -> str:
    """Return how many times as long as ours every other codec takes, less than 1 is faster."""
    head = ["codec"]
    columns = []
    for one in run["times"]:
        count = _threads(one)
        means = mean_times(one["rows"])
        for direction in ("encode", "decode"):
            head.append(f"{direction}, {count}")
            columns.append({c: m[direction] for c, m in means.items()})
    ours = run["ours"][0]
    rows = [
        [_name(codec, run), *(f"{column[codec] / column[ours]:.2f}" for column in columns)]
        for codec in columns[0]
    ]
    return table(head, rows)


def _threads(one: Run) -> str:
    return f"{one['threads']} thread" + ("s" if one["threads"] > 1 else "")


def times(run: Run) -> str:
    """Return milliseconds a picture and what was matched, for each number of threads."""
    head = ["codec", "bpp", "PSNR, dB"]
    for one in run["times"]:
        head += [f"encode, {_threads(one)}", f"decode, {_threads(one)}"]
    first = run["times"][0]["rows"]
    rows = []
    for codec in dict.fromkeys(row["codec"] for row in first):
        own = [row for row in first if row["codec"] == codec]
        rate = sum(8 * row["bytes"] / row["pixels"] for row in own) / len(own)
        cells = [_name(codec, run), f"{rate:.3f}", f"{_mean(own, 'psnr'):.2f}"]
        for one in run["times"]:
            sums = (total(one["rows"], codec, d) for d in ("encode", "decode"))
            cells += [f"{1e3 * seconds / len(own):.1f}" for seconds in sums]
        rows.append(cells)
    return table(head, rows)


def stages(run: Run) -> str:
    """Return what each stage of ours takes by ``trellic bench``, in milliseconds a picture.

    With the least number of threads.
    """
    one = run["times"][0]
    head, columns = [f"stage, {_threads(one)}"], []
    for codec in run["ours"]:
        columns.append([stage for stage in one["stages"] if stage["codec"] == codec])
        decoder = codec.rpartition("decoder=")[2]
        precision = _precision(codec)
        head.append(f"`{decoder}`" + f", {precision}" * bool(precision))
    rows = []
    for direction in ("encode", "decode"):
        for stage in columns[0][0][direction]:
            means = (_mean([one[direction] for one in own], stage) for own in columns)
            rows.append([f"{direction} {stage}", *(f"{1e3 * mean:.1f}" for mean in means)])
    return table(head, rows)


def memory(run: Run) -> str:
    """Return peak memory on the first photo, in MiB: what coding adds, and all of the process."""
    head = ("codec", "encode adds", "decode adds", "encoding process", "decoding process")
    rows = []
    for row in run["memory"]:
        added = [row[d]["peak_mib"] - row[d]["before_mib"] for d in ("encode", "decode")]
        peaks = [row[d]["peak_mib"] for d in ("encode", "decode")]
        cells = (f"{value:.0f}" for value in (*added, *peaks))
        rows.append([_name(row["codec"], run), *cells])
    return table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, its first column to the left."""
    parts = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(parts + ["| " + " | ".join(row) + " |" for row in rows])


def short(codec: str) -> str:
    """Return a codec's label for a plot: the decoder of ours, the settings of others."""
    name, *options = codec.split(":")
    shown = ("decoder=", "precision=")
    kept = [option.partition("=")[2] for option in options if option.startswith(shown)]
    return "\n".join([label(name), *kept])


def _name(codec: str, run: Run) -> str:
    return f"**{label(codec)}**" if codec in run["ours"] else label(codec)


def _mean(rows: Sequence[Run], field: str) -> float:
    return float(sum(row[field] for row in rows) / len(rows))


TABLES: dict[str, Callable[[Run], str]] = {
    "speed-times": times,
    "speed-ratios": ratios,
    "speed-stages": stages,
    "speed-memory": memory,
}
