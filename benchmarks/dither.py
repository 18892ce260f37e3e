"""What the number of frequency tables a scale index costs dithered streams, on Gaussian samples.

::

    python -m benchmarks.dither [--samples N] [--results FILE]

A known noise moves the levels, so the best table for a latent depends on its noise, of which there
are 64. Tables for fewer, each a mean over neighbouring noises, cost bits. For each deviation of the
source of `benchmarks.gaussian_rd`: the ideal code length of integer tables under the exact
distributions (no samples, no chance), with one table for each of 1, 2, ... 64 buckets; and, for the
16 of the format and for one, the bytes of the real coder on samples with the real noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from benchmarks import _machine
from benchmarks.gaussian_rd import SIGMAS, WEIGHTS
from trellic.entropy import Segment, cpu
from trellic.entropy.tables import TOTAL, FrequencyTables, quantized_pmf
from trellic.quantize import dither_cpu
from trellic_training.quantization.fit import MIN_HALF_WIDTH

Floats = npt.NDArray[np.float64]

NOISES = 64
BUCKETS = (1, 2, 4, 8, 16, 64)
CODED = (1, 16)
TAIL = 6.0  # deviations that a table covers: escapes play no part
LANES = 16
SEED = 1
SHIFTS = (2 * np.arange(-32, 32) + 1) / 128  # steps


@dataclass(frozen=True)
class Row:
    """Bits a sample at one deviation (in steps), by buckets; and how many of each were coded."""

    sigma: float
    ideal: float
    tables: dict[int, float]
    coded: dict[int, float]


def distributions(sigma: float) -> Floats:
    """Return the probabilities of -K..K for each noise, (64, 2 K + 1), and nothing beyond."""
    half_width = max(MIN_HALF_WIDTH, int(np.ceil(TAIL * sigma)) + 1)
    edges = np.arange(-half_width, half_width + 2) - 0.5
    pmf = np.diff(ndtr((edges - SHIFTS[:, None]) / sigma), axis=1)
    return np.asarray(pmf / pmf.sum(1, keepdims=True), np.float64)


def tables_for(pmf: Floats, buckets: int) -> FrequencyTables:
    """Return a table for each bucket: the mean of its noises' distributions, and a rare escape."""
    means = pmf.reshape(buckets, -1, pmf.shape[1]).mean(1)
    freqs = [quantized_pmf(np.append(mean, 0.0)) for mean in means]
    half_width = np.full((buckets, 1), pmf.shape[1] // 2, np.uint16)
    return FrequencyTables(half_width, np.concatenate(freqs))


def ideal_bits(pmf: Floats, tables: FrequencyTables) -> float:
    """Return the mean code length of the tables under the exact distributions."""
    freqs = tables.freqs.reshape(len(tables.half_width), -1)[:, :-1] / TOTAL
    each = np.repeat(freqs, NOISES // len(freqs), axis=0)
    return float(-(pmf * np.log2(each)).sum(1).mean())


def entropy_bits(pmf: Floats) -> float:
    """Return the mean entropy given the noise: what no table can go below."""
    return float(-(pmf * np.log2(np.maximum(pmf, 1e-300))).sum(1).mean())


def coded_bits(sigma: float, tables: FrequencyTables, samples: int) -> float:
    """Return the bits a sample that the coder takes."""
    strata = (np.arange(samples) + 0.5) / samples
    t32 = np.rint(32 * sigma * ndtri(np.random.default_rng(SEED).permutation(strata)))
    key = dither_cpu.slice_key(SEED, 0)
    u = dither_cpu.noise(key, 0, np.arange(samples, dtype=np.int32))
    k = dither_cpu.quantize(t32.astype(np.int32), u)
    bucket = (u.astype(np.int32) + 32) // (NOISES // len(tables.half_width))
    coded = cpu.encode([Segment(k, bucket.astype(np.uint16))], tables, LANES)
    return 8 * sum(map(len, coded)) / samples


def measure(samples: int, sigmas: Sequence[float]) -> list[Row]:
    """Return the figures of each deviation."""
    rows = []
    for sigma in sigmas:
        pmf = distributions(sigma)
        made = {buckets: tables_for(pmf, buckets) for buckets in BUCKETS}
        rows.append(
            Row(
                sigma=round(sigma, 4),
                ideal=entropy_bits(pmf),
                tables={buckets: ideal_bits(pmf, tables) for buckets, tables in made.items()},
                coded={buckets: coded_bits(sigma, made[buckets], samples) for buckets in CODED},
            )
        )
    return rows


def excess(rows: Sequence[Row], weights: Floats) -> dict[int, float]:
    """Return by how many percent each number of buckets exceeds the entropy of the whole source."""
    ideal = sum(w * row.ideal for w, row in zip(weights, rows, strict=True))
    return {
        buckets: 100
        * (sum(w * row.tables[buckets] for w, row in zip(weights, rows, strict=True)) / ideal - 1)
        for buckets in BUCKETS
    }


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Bits of dithered streams over tables a scale.")
    results = Path(__file__).parent / "results" / "dither.json"
    parser.add_argument("--samples", type=int, default=1_000_000, help="for each deviation")
    parser.add_argument("--results", type=Path, default=results)
    options = parser.parse_args(arguments)
    rows = measure(options.samples, SIGMAS.tolist())
    print("  sigma  entropy  excess in % with tables for", *BUCKETS, "buckets; coded:", *CODED)
    for row in rows:
        over = [100 * (bits / row.ideal - 1) for bits in row.tables.values()]
        coded = [100 * (bits / row.ideal - 1) for bits in row.coded.values()]
        numbers = " ".join(f"{value:7.2f}" for value in [*over, *coded])
        print(f"{row.sigma:7.3f} {row.ideal:8.4f}  {numbers}")
    total = excess(rows, WEIGHTS)
    print("whole source", *(f"{buckets}: {value:.2f} %" for buckets, value in total.items()))
    record = {
        "machine": _machine.describe(["numpy", "numba", "scipy"]),
        "samples": options.samples,
        "rows": [asdict(row) for row in rows],
        "excess_of_the_source_percent": total,
    }
    options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
