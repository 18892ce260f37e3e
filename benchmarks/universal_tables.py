"""Tables of docs/universal.md, from the report that `trellic train mnist_universal` left."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed_tables import table

Row = Mapping[str, Any]


def report_beside(results: Path) -> dict[str, Any]:
    """Read the report that is committed under docs/, beside the results of the benchmarks."""
    path = results.parents[1] / "docs" / "universal" / "report.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def rates(results: Path) -> str:
    """Draw end-to-end models by rate and lambda_c."""
    rows = report_beside(results)["tables"]["End to end: distortion and classification, by rate"]
    head = ("bits", "lambda_c", "MSE", "accuracy", "cross entropy")
    return table(head, [(f"{row['bits']:.2f}", *_classified(row)) for row in rows])


def reuse(results: Path) -> str:
    """Draw decoders on encoders that were trained for other targets, with what that costs."""
    rows = report_beside(results)["tables"]["Re-used encoders: distortion and classification"]
    head = ("encoder trained with", "decoder's lambda_c", "MSE", "accuracy", "cross entropy")
    cells = [
        (
            row["encoder"],
            *_classified(row),
            f"{row['extra loss']:.4f} ({share(row):.1%})",
            at_equal_entropy(row),
        )
        for row in rows
        if row["extra loss"]  # 0: the encoder's own decoder
    ]
    return table((*head, "extra loss", "extra MSE at equal cross entropy"), cells)


def perception(results: Path) -> str:
    """Draw end-to-end models for perception, and decoders on the encoder of one of them."""
    tables = report_beside(results)["tables"]
    alone = tables["End to end: distortion and perception"]
    reused = tables["Decoders on one encoder: distortion and perception"]
    head = ("encoder", "decoder's lambda_p", "MSE", "W1 (critic)", "sliced W", "extra MSE")
    cells = [("end to end", *_perceived(row), "") for row in alone]
    own = max(row["lambda_p"] for row in reused)
    for row in reused:
        if row["lambda_p"] != own:
            extra = f"{extra_mse(row, alone):+.1%}"
            cells.append((f"re-used, lambda_p = {own:g}", *_perceived(row), extra))
    return table(head, cells)


def share(row: Row) -> float:
    """Return the extra loss of a re-used encoder's decoder, relative to training end to end."""
    loss = row["MSE"] + row["lambda_c"] * row["cross entropy"]
    return float(row["extra loss"] / (loss - row["extra loss"]))


def at_equal_entropy(row: Row) -> str:
    """Return the extra squared error over end-to-end models of the same cross entropy, relative."""
    extra = row["extra MSE at equal cross entropy"]
    return "better than all" if extra is None else f"{extra / (row['MSE'] - extra):+.1%}"


def extra_mse(row: Row, alone: list[dict[str, float]]) -> float:
    """Return the extra squared error over the end-to-end model of the same lambda_p, relative."""
    twin = next(other for other in alone if other["lambda_p"] == row["lambda_p"])
    return float(row["MSE"] / twin["MSE"] - 1)


def _classified(row: Row) -> tuple[str, ...]:
    accuracy, entropy = f"{row['accuracy']:.1%}", f"{row['cross entropy']:.3f}"
    return f"{row['lambda_c']:g}", f"{row['MSE']:.5f}", accuracy, entropy


def _perceived(row: Row) -> tuple[str, ...]:
    distances = f"{row['W1 (critic)']:.2f}", f"{row['sliced W']:.4f}"
    return f"{row['lambda_p']:g}", f"{row['MSE']:.5f}", *distances


TABLES = {
    "universal-rates": rates,
    "universal-reuse": reuse,
    "universal-perception": perception,
}
