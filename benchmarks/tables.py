"""Tables of a rate-distortion run, for the terminal and for Markdown pages."""

from collections.abc import Callable, Sequence

from rich.table import Table

from benchmarks.bdrate import BdRate
from benchmarks.runs import Comparison, Measured
from benchmarks.scores import SCORES

EMPTY = "-"
NOTE = (
    "First line: on the curve of means over the pictures; second: mean of the pictures' own "
    "BD-rates (95 % bootstrap interval); third: range of quality compared; * the wanted range is "
    "not covered whole. MS-SSIM is compared in dB, -10 log10(1 - MS-SSIM)."
)


def mean_points(codecs: Sequence[Measured]) -> Table:
    """Return the mean curves, a row for each quality of each codec."""
    names = [name for name in SCORES if any(name in codec.scores() for codec in codecs)]
    table = Table(title="Mean over the pictures, at each quality")
    table.add_column("codec", overflow="fold")
    for name in ("quality", "bpp", *(SCORES[name].label for name in names)):
        table.add_column(name, justify="right")
    for codec in codecs:
        for row in codec.mean_points():
            values = (row.get(name) for name in names)
            cells = (EMPTY if value is None else f"{value:.6g}" for value in values)
            table.add_row(codec.spec, f"{row['quality']:g}", f"{row['bpp']:.4f}", *cells)
        table.add_section()
    return table


def bd_rates(comparisons: Sequence[Comparison], bpp_range: tuple[float, float] | None) -> Table:
    """Return the BD-rates of one score, a row for each codec and three lines for each anchor."""
    anchors = _anchors(comparisons)
    table = Table(title=bd_title(comparisons[0].score if comparisons else "psnr", bpp_range))
    table.add_column("codec", overflow="fold")
    for anchor in anchors:
        table.add_column(f"vs {anchor}", justify="right", overflow="fold")
    for codec in dict.fromkeys(comparison.codec for comparison in comparisons):
        cells = {c.anchor: c for c in comparisons if c.codec == codec}
        table.add_row(codec, *(_cell(cells.get(anchor)) for anchor in anchors))
        table.add_section()
    table.caption = NOTE
    return table


def bd_title(score: str, bpp_range: tuple[float, float] | None) -> str:
    """Say what the BD-rates are."""
    where = "whole overlap"
    if bpp_range is not None:
        where = f"where the codec spends {bpp_range[0]:g} to {bpp_range[1]:g} bit/pixel"
    return f"BD-rate in % at equal {SCORES[score].label}, {where}; negative: fewer bits"


def markdown(
    comparisons: Sequence[Comparison],
    name: Callable[[str], str] = str,
    *,
    detailed: bool = False,
) -> str:
    """Return BD-rates as a Markdown table.

    Parameters
    ----------
    comparisons
        Of one score.
    name
        Turns a codec's spec into how the table calls it.
    detailed
        Add the mean over pictures with its interval, and the range of quality compared.
    """
    anchors = _anchors(comparisons)
    lines = [
        "| codec | " + " | ".join(f"vs {name(anchor)}" for anchor in anchors) + " |",
        "|---" + "|---:" * len(anchors) + "|",
    ]
    for codec in dict.fromkeys(comparison.codec for comparison in comparisons):
        cells = {c.anchor: c for c in comparisons if c.codec == codec}
        texts = (_cell(cells.get(anchor)).split("\n") for anchor in anchors)
        row = ("<br>".join(text if detailed else text[:1]) for text in texts)
        lines.append(f"| {name(codec)} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def page(comparisons: Sequence[Comparison], bpp_range: tuple[float, float] | None) -> str:
    """Return a Markdown page: for each score, BD-rates and the range of quality of each."""
    parts = ["# BD-rates", NOTE]
    for score in SCORES:
        chosen = [c for c in comparisons if c.score == score]
        if chosen:
            parts += [f"## {bd_title(score, bpp_range)}", markdown(chosen, detailed=True)]
    return "\n\n".join(parts) + "\n"


def _anchors(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the anchors by name, the published ones last."""
    return sorted(
        {c.anchor for c in comparisons}, key=lambda name: (name.endswith("(published)"), name)
    )


def _cell(comparison: Comparison | None) -> str:
    if comparison is None or comparison.mean_curve is None:
        return EMPTY
    mean, lines = comparison.mean_curve, [_percent(comparison.mean_curve)]
    if comparison.per_image is not None:
        low, high = comparison.ci95 or (comparison.per_image,) * 2
        lines.append(f"{comparison.per_image:+.1f} ({low:+.1f} to {high:+.1f})")
    lines.append(f"{mean.quality[0]:.4g} to {mean.quality[1]:.4g}")
    return "\n".join(lines)


def _percent(rate: BdRate | None) -> str:
    if rate is None:
        return EMPTY
    return f"{rate.percent:+.1f}" + ("" if rate.complete else "*")
