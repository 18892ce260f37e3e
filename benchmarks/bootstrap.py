"""Confidence intervals over pictures, by resampling them."""

from collections.abc import Sequence

import numpy as np

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
