"""Confidence intervals over pictures, by resampling them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
SEED = 0


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a mean.

    Parameters
    ----------
    values
        One a picture; 10,000 samples of the same number are drawn from them, with return and
        with a fixed seed.

    Returns
    -------
    (float, float) or None
        The 2.5th and 97.5th percentile of the samples' means; None for fewer than two values.

    References
    ----------
    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    """
    if len(values) < 2:
        return None
    draws = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def two_way_interval(table: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a mean over runs and pictures.

    Rows and columns are drawn each on their own, because a run's luck is shared by all of its
    pictures, and a picture's nature by all runs (A. Owen, "The pigeonhole bootstrap", 2007).

    Parameters
    ----------
    table
        (runs, pictures), two pictures or more; with one run the interval is over pictures alone.
    """
    runs, pictures = table.shape
    if pictures < 2:
        return None
    rng = np.random.default_rng(SEED)
    rows = rng.integers(0, runs, (RESAMPLES, runs))
    columns = rng.integers(0, pictures, (RESAMPLES, pictures))
    weights = [
        np.stack([(drawn == i).sum(1) for i in range(count)], 1) / count
        for drawn, count in ((rows, runs), (columns, pictures))
    ]
    means = np.einsum("sr,rp,sp->s", weights[0], table, weights[1])
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
