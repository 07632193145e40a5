"""Numbers with their uncertainty: IQM, stratified bootstrap, CVaR, probability of improvement. NumPy alone.

Episodes are the units. A stratum is a (scenario, seed): resamples draw episodes within each, never across, so that an
interval is about other patients of these scenarios (Agarwal et al., NeurIPS 2021, "Deep RL at the edge of the
statistical precipice", whose library resamples runs within tasks in the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95
TRIM = 0.25  # of each end, for the interquartile mean
TAIL = 0.10  # worst decile


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis: the mean of the middle half, ``floor(n/4)`` dropped at each end."""
    n = values.shape[-1]
    cut = int(TRIM * n)
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)


def cvar(values: np.ndarray, tail: float = TAIL) -> np.ndarray:
    """Mean of the worst (lowest) ``tail`` of the last axis; a fraction of an episode counts by its fraction."""
    ordered = np.sort(values, axis=-1)
    weight = np.clip(tail * values.shape[-1] - np.arange(values.shape[-1]), 0, 1)
    return ordered @ weight / weight.sum()


def resamples(strata: Sequence[int], draws: int, seed: int) -> np.ndarray:
    """Row numbers ``(draws, N)`` for consecutive strata of these sizes, drawn with replacement within each."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *strata[:-1]])
    return np.concatenate([start + rng.integers(n, size=(draws, n)) for start, n in zip(starts, strata)], axis=1)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], strata: Sequence[int], draws: int, seed: int
) -> tuple[float, list[float] | None]:
    """A statistic of row numbers ``(..., N) -> (...)`` with its percentile interval; None for strata of one episode.

    Several numbers of the same episodes (an agent's and the anchors') stay paired when one statistic reads them all.
    """
    n = int(sum(strata))
    value = float(statistic(np.arange(n)[None])[0])
    if max(strata) < 2 or not np.isfinite(value):
        return value, None
    samples = statistic(resamples(strata, draws, seed))
    low, high = np.nanquantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, [float(low), float(high)]


def p_better(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Probability of a higher value in the same episode (paired), equal ones counting half; over the last axis."""
    return ((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=-1)
