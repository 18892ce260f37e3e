"""Spread between seeds: the same models of the MNIST experiments, trained from several seeds.

::

    trellic train mnist_universal_seeds --seed 2 --data DIR --out runs/seed-2
    trellic train mnist_universal_seeds --seed 3 --data DIR --out runs/seed-3
    python -m benchmarks.universal docs/universal runs/seed-2 runs/seed-3

Each argument is a folder with the ``report.json`` of a run. Rows that two runs or more have are
written to benchmarks/results/universal.json, with the value of each run; a run that is not finished
adds what it has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _machine
from benchmarks.universal_tables import extra_mse, share, spread

OUT = Path(__file__).resolve().parent / "results" / "universal.json"
RATES = "End to end: distortion and classification, by rate"
REUSE = "Re-used encoders: distortion and classification"
PERCEPTION = "End to end: distortion and perception"
REUSED_PERCEPTION = "Decoders on one encoder: distortion and perception"
VALUES = ("MSE", "accuracy", "cross entropy", "sliced W")
BITS = "4.75"  # the rate of the papers' figures
Row = dict[str, Any]
Key = tuple[str, str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, write and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.universal", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    texts = [(run / "report.json").read_text(encoding="utf-8") for run in options.runs]
    reports = [json.loads(text) for text in texts]
    try:
        result = compare(reports)
    except ValueError as error:
        print(f"error: {error}")
        return 2
    result["machine"] = _machine.describe(("numpy", "torch", "lightning"))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(spread(result))
    return 0


def compare(reports: Sequence[Mapping[str, Any]]) -> Row:
    """Put the rows of several runs side by side.

    Raises
    ------
    ValueError
        When two runs have the same seed, or were trained differently.
    """
    seeds = [report["recipe"]["seed"] for report in reports]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds}: expected one run a seed")
    trained = {
        (round(r["epochs"], 2), *(r["recipe"][k] for k in ("batch", "width", "learning_rate")))
        for r in reports
    }
    if len(trained) > 1:
        raise ValueError(f"epochs, batch, width and learning rate differ: {sorted(trained)}")
    found = [rows_of(report["tables"]) for report in reports]
    keys = dict.fromkeys(key for rows in found for key in rows)
    rows = []
    for key in keys:
        own = [rows[key] for rows in found if key in rows]
        if len(own) > 1:
            names = [name for name in (*VALUES, "extra") if name in own[0]]
            of = [seed for seed, rows in zip(seeds, found, strict=True) if key in rows]
            head = dict(zip(("encoder", "axis", "weight"), key, strict=True))
            rows.append(head | {"seeds": of} | {name: [row[name] for row in own] for name in names})
    (epochs, *_), *_ = trained
    return {"benchmark": "universal", "epochs": epochs, "seeds": seeds, "rows": rows}


def rows_of(tables: Mapping[str, Sequence[Row]]) -> dict[Key, Row]:
    """Return the rows of a run at 4.75 bits by encoder, axis and weight; ``extra`` is relative.

    The extra is of the loss for classification, and of the squared error for perception, both over
    the end-to-end model of the same target.
    """
    found: dict[Key, Row] = {}
    for row in tables[RATES]:
        if f"{row['bits']:.2f}" == BITS:
            found["end to end", "lambda_c", row["lambda_c"]] = row
    for row in tables[REUSE]:
        if row["extra loss"] and "," not in row["encoder"]:  # a comma: another rate
            found[row["encoder"], "lambda_c", row["lambda_c"]] = row | {"extra": share(row)}
        elif row["extra loss"] is None:  # a weight that no end-to-end model has
            found[row["encoder"], "lambda_c", row["lambda_c"]] = row
    alone = tables[PERCEPTION]
    for row in alone:
        found["end to end", "lambda_p", row["lambda_p"]] = row
    reused = tables[REUSED_PERCEPTION]
    own = max((row["lambda_p"] for row in reused), default=0.0)
    for row in reused:
        if row["lambda_p"] != own and any(a["lambda_p"] == row["lambda_p"] for a in alone):
            key = f"lambda_p = {own:g}", "lambda_p", row["lambda_p"]
            found[key] = row | {"extra": extra_mse(row, list(alone))}
    return found


if __name__ == "__main__":
    raise SystemExit(main())
