"""How far each quantizer stays above the Shannon bound, on Gaussian samples of known deviations.

::

    python -m benchmarks.gaussian_rd [--samples N] [--results FILE] [--plot FILE]

The source: 24 deviations, known to both sides, as a scale index would tell them. As in the codec,
samples whose deviation is under a threshold are not coded and do not move the trellis; both sides
take them as 0. Tables and centroids are re-estimated on one set of samples while lambda grows to
its value (choices and tables confirm each other: a loop that starts where fewer samples are zero
settles better). Then the coder's bytes and the error are counted on fresh samples. The excess is
the rate over the least rate that any code of the same error needs (reverse water-filling). Within
each deviation the samples are stratified, which takes most of the chance out of the figures.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from benchmarks import _machine
from trellic import entropy
from trellic.entropy.tables import Tables
from trellic.limits import STEP32
from trellic.quantize import cpu
from trellic.quantize.search_tables import SearchTables
from trellic.quantize.trellis import STATES
from trellic_training.quantization.fit import parametric_tables, refit

SIGMAS = np.geomspace(0.11, 12, 24)
WEIGHTS = np.exp(-0.5 * (np.log(SIGMAS / 0.35) / 0.9) ** 2)
WEIGHTS /= WEIGHTS.sum()
LAMBDA = 0.15  # squared unit steps per bit
ANNEALING = (0.5, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0)  # of lambda, a round each
SKIP = 6  # samples of smaller deviations (0.11 to 0.31) are not coded
FIT_SAMPLES = 1_000_000
LANES = 16
TRELLIS_STEP32 = 21
STEPS = [0.66, 0.62, 0.6]
# What the design's own experiment gave, in percent.
EXPECTED = {
    "rounding": 47.0,
    "rounding, centroids": 24.0,
    "RDOQ": 18.0,
} | dict(zip([f"{s} states" for s in STATES], [9.8, 8.1, 6.8, 5.7, 5.2, 4.3, 3.7], strict=True))


@dataclass(frozen=True)
class Setting:
    """A quantizer and its step in units of the source; the trellis step D for trellises."""

    name: str
    states: int
    step: float
    plain: bool = False
    centroids: bool = True

    @property
    def gain(self) -> float:
        """Scalar steps of the fixed point per unit of the source."""
        return TRELLIS_STEP32 / STEP32 / self.step if self.states else 1 / self.step


@dataclass(frozen=True)
class Result:
    """Figures of one setting: rates in bit a sample, excess in percent."""

    name: str
    step: float
    rate: float
    ideal_rate: float
    mse: float
    bound: float
    excess: float
    excess_ideal: float
    expected: float
    search_samples_per_second: float


def settings(steps: list[float]) -> list[Setting]:
    """All quantizers; scalar steps are chosen to come near the rate of the trellises."""
    scalar = [
        Setting("rounding", 0, 1.45, plain=True, centroids=False),
        Setting("rounding, centroids", 0, 1.45, plain=True),
        Setting("RDOQ", 0, 1.0),
    ]
    return scalar + [Setting(f"{n} states", n, step) for step in steps for n in STATES]


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw stratified samples and their scale indices, in random order."""
    rng = np.random.default_rng(seed)
    bounds = np.rint(np.cumsum(np.append(0, WEIGHTS)) * count).astype(int)
    each = np.diff(bounds)
    index = np.repeat(np.arange(len(SIGMAS)), each)
    rank = np.arange(count) - bounds[index]
    x = SIGMAS[index] * ndtri((rank + rng.random(count)) / each[index])
    order = rng.permutation(count)
    return x[order], index[order].astype(np.uint8)


def shannon_bound(mse: float) -> float:
    """Return the least rate at which a code can have this error, in bit a sample."""
    low, high = 1e-9, float(SIGMAS[-1] ** 2)
    for _ in range(200):  # bisection for the water level, on a log scale
        level = (low * high) ** 0.5
        below = float((WEIGHTS * np.minimum(SIGMAS**2, level)).sum()) < mse
        low, high = (level, high) if below else (low, level)
    return float((WEIGHTS * np.maximum(0, 0.5 * np.log2(SIGMAS**2 / level))).sum())


def ideal_bits(tables: Tables, k: np.ndarray, cls: np.ndarray, index: np.ndarray) -> float:
    """Return the ideal code length over the integer tables, in bits."""
    levels = SearchTables.of(tables)
    width = levels.half_width[cls, index]
    excess = np.maximum(np.abs(k) - width, 0)
    place = levels.zero[cls, index] + np.where(excess > 0, width + 1, k)
    digits = 2 * np.ceil(np.log2(excess + 1.0))
    return float((tables.precision - np.log2(tables.freqs[place]) + digits).sum())


def quantize(
    setting: Setting, t32: np.ndarray, index: np.ndarray, tables: Tables, share: float = 1.0
):
    """Return the indices and classes that the setting chooses, at a share of lambda."""
    if setting.plain:
        return cpu.round_to_step(t32), np.zeros(len(t32), np.uint8)
    lam = round(16 * share * LAMBDA * setting.gain**2 * STEP32**2 / 64)
    return cpu.search(t32, index, LANES, setting.states, tables, lam)


def fixed_point(x: np.ndarray, setting: Setting) -> np.ndarray:
    """Return the samples in 1/32 of the scalar step."""
    return np.floor(x * setting.gain * STEP32 + 0.5).astype(np.int32)


def fitted(setting: Setting, count: int) -> Tables:
    """Return tables and centroids re-estimated on a set of samples of their own."""
    x, index = samples(count, seed=1)
    x, index = x[index >= SKIP], index[index >= SKIP]
    t32 = fixed_point(x, setting)
    prior = tables = parametric_tables(SIGMAS * setting.gain, TRELLIS_STEP32)
    for share in ANNEALING:
        k, cls = quantize(setting, t32, index, tables, share)
        tables = refit(tables, prior, t32, index, k, cls)
        if not setting.centroids:
            tables = replace(tables, off=np.zeros_like(tables.off))
    return tables


def measure(setting: Setting, count: int) -> Result:
    """Fit a quantizer, then count its bytes and its error on fresh samples."""
    tables = fitted(setting, min(count, FIT_SAMPLES))
    x, index = samples(count, seed=2)
    coded_ones = index >= SKIP
    index = index[coded_ones]
    t32 = fixed_point(x[coded_ones], setting)
    start = time.perf_counter()
    k, cls = quantize(setting, t32, index, tables)
    seconds = time.perf_counter() - start
    recon = np.zeros(count)
    recon[coded_ones] = cpu.reconstruct(k, cls, index, tables) / (STEP32 * setting.gain)
    mse = float(np.mean((x - recon) ** 2))
    table = (cls.astype(np.uint16) * len(SIGMAS) + index).astype(np.uint16)
    coded = entropy.encode([entropy.Segment(k, table)], tables, LANES)
    rate = 8 * sum(len(segment) for segment in coded) / count
    ideal = ideal_bits(tables, k, cls, index) / count
    bound = shannon_bound(mse)
    return Result(
        name=setting.name,
        step=setting.step,
        rate=rate,
        ideal_rate=ideal,
        mse=mse,
        bound=bound,
        excess=100 * (rate / bound - 1),
        excess_ideal=100 * (ideal / bound - 1),
        expected=EXPECTED[setting.name],
        search_samples_per_second=len(k) / seconds,
    )


def line(result: Result) -> str:
    """Return one row of the table."""
    return (
        f"{result.name:<20} {result.step:5.2f} {result.rate:8.4f} {result.mse:8.4f} "
        f"{result.bound:8.4f} {result.excess:7.2f} {result.excess_ideal:7.2f} "
        f"{result.expected:7.1f} {result.search_samples_per_second / 1e6:8.1f}"
    )


def plot(results: list[Result], path: Path) -> None:
    """Draw the excess over the number of states."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "gaussian_rd"
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6.4, 4.0), layout="constrained")).subplots()
    names = [f"{n} states" for n in STATES]
    for step in sorted({r.step for r in results if r.name in names}):
        excess = {r.name: r.excess_ideal for r in results if r.step == step}
        axes.plot(STATES, [excess[n] for n in names], "o-", label=f"trellis, D = {step}")
    axes.plot(STATES, [EXPECTED[n] for n in names], "x--", color="grey", label="design's figures")
    for colour, name in (("C3", "rounding, centroids"), ("C4", "RDOQ")):
        value = next(r.excess_ideal for r in results if r.name == name)
        axes.axhline(value, color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(STATES, [str(n) for n in STATES])
    axes.set(xlabel="states", ylabel="rate above the Shannon bound, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: list[str] | None = None) -> None:
    """Measure all quantizers, print a table and write results and plot."""
    root = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Quantizers against the Shannon bound.")
    parser.add_argument("--samples", type=int, default=4_000_000, help="evaluated per quantizer")
    parser.add_argument("--steps", type=float, nargs="+", default=STEPS, help="of the trellises")
    parser.add_argument("--results", type=Path, default=root / "results" / "gaussian_rd.json")
    parser.add_argument("--plot", type=Path, default=root.parent / "docs" / "gaussian_rd.svg")
    options = parser.parse_args(arguments)
    measure(Setting("8 states", 8, 0.66), 2000)  # compile before anything is timed
    print("quantizer             step     rate      mse    bound  excess   ideal  design  M/s")
    results = []
    for setting in settings(options.steps):
        results.append(measure(setting, options.samples))
        print(line(results[-1]), flush=True)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": _machine.describe(("numpy", "numba")),
        "samples": options.samples,
        "results": [asdict(result) for result in results],
    }
    options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    plot(results, options.plot)


if __name__ == "__main__":
    main()
