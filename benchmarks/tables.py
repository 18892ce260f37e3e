"""Tables of a rate-distortion run, for the terminal and for Markdown pages."""

from collections.abc import Sequence

from rich.table import Table

from benchmarks.bdrate import BdRate
from benchmarks.runs import Comparison, Measured

EMPTY = "-"


def mean_points(codecs: Sequence[Measured]) -> Table:
    """Return the mean curves, a row for each quality of each codec."""
    table = Table(title="Mean over the pictures, at each quality")
    table.add_column("codec", overflow="fold")
    for name in ("quality", "bpp", "PSNR, dB", "MS-SSIM"):
        table.add_column(name, justify="right")
    for codec in codecs:
        for row in codec.mean_points():
            similarity = row["ms_ssim"]
            table.add_row(
                codec.spec,
                f"{row['quality']:g}",
                f"{row['bpp']:.4f}",
                f"{row['psnr']:.3f}",
                EMPTY if similarity is None else f"{similarity:.5f}",
            )
        table.add_section()
    return table


def bd_rates(comparisons: Sequence[Comparison], bpp_range: tuple[float, float] | None) -> Table:
    """Return the BD-rates, a row for each codec and two lines for each anchor."""
    anchors = _anchors(comparisons)
    table = Table(title=bd_title(bpp_range))
    table.add_column("codec", overflow="fold")
    for anchor in anchors:
        table.add_column(f"vs {anchor}", justify="right", overflow="fold")
    for codec in dict.fromkeys(comparison.codec for comparison in comparisons):
        cells = {c.anchor: c for c in comparisons if c.codec == codec}
        table.add_row(codec, *(_cell(cells.get(anchor)) for anchor in anchors))
        table.add_section()
    table.caption = (
        "first line: mean curve (per image: mean ± 95 % interval); second: PSNR range compared; "
        "* the wanted range is not covered whole"
    )
    return table


def bd_title(bpp_range: tuple[float, float] | None) -> str:
    """Say what the BD-rates are."""
    where = "whole overlap"
    if bpp_range is not None:
        where = f"where the codec spends {bpp_range[0]:g} to {bpp_range[1]:g} bit/pixel"
    return f"BD-rate in %, RGB PSNR, {where}; negative: fewer bits"


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the BD-rates on the mean curves as a Markdown table."""
    anchors = _anchors(comparisons)
    lines = [
        "| codec | " + " | ".join(f"vs {anchor}" for anchor in anchors) + " |",
        "|---" + "|---:" * len(anchors) + "|",
    ]
    for codec in dict.fromkeys(comparison.codec for comparison in comparisons):
        cells = {c.anchor: c.mean_curve for c in comparisons if c.codec == codec}
        row = (_percent(cells.get(anchor)) for anchor in anchors)
        lines.append(f"| {codec} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _anchors(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the anchors by name, the published ones last."""
    return sorted(
        {c.anchor for c in comparisons}, key=lambda name: (name.endswith("(published)"), name)
    )


def _cell(comparison: Comparison | None) -> str:
    if comparison is None or comparison.mean_curve is None:
        return EMPTY
    mean = comparison.mean_curve
    text = _percent(mean)
    if comparison.per_image is not None:
        spread = "" if comparison.ci95 is None else f"±{comparison.ci95:.1f}"
        text += f" ({comparison.per_image:+.1f}{spread})"
    return f"{text}\n{mean.psnr[0]:.1f} to {mean.psnr[1]:.1f} dB"


def _percent(rate: BdRate | None) -> str:
    if rate is None:
        return EMPTY
    return f"{rate.percent:+.1f}" + ("" if rate.complete else "*")
