"""S(a) = mean risk + lambda x spread of risk (lower is better), its bootstrap, its ties, its breakpoints in lambda.

All functions take ``risks (C, K)``: C candidates, K futures each, column k drawn with the same random numbers for every
candidate. That pairing is what makes a difference of two scores much sharper than either score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class LambdaInterval:
    """On ``low <= lambda <= high`` the candidate ``winner`` (a row number) has the lowest S."""

    low: float
    high: float
    winner: int


def c4(k: int) -> float:
    """Expected sample SD of ``k`` normal draws, in true SDs (0.886 for 3, 0.983 for 16); NaN for one draw."""
    if k < 2:
        return math.nan
    return math.sqrt(2 / (k - 1)) * math.exp(math.lgamma(k / 2) - math.lgamma((k - 1) / 2))


def mean_and_sd(risks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and c4-corrected SD over the last axis; the SD of a single draw is NaN, because it is not known."""
    mean, k = risks.mean(axis=-1), risks.shape[-1]
    if k < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, risks.std(axis=-1, ddof=1) / c4(k)


def score(risks: np.ndarray, risk_aversion: float) -> np.ndarray:
    """S = mean + lambda x SD over the last axis; with one draw the SD is unknown and the lambda term is left out."""
    mean, sd = mean_and_sd(risks)
    return mean + risk_aversion * np.nan_to_num(sd)


def paired_bootstrap(
    risks: np.ndarray, how: float | Callable[[np.ndarray], np.ndarray], seed: int, resamples: int = RESAMPLES
) -> np.ndarray:
    """Scores (C, R) of resampled futures; every candidate is resampled at the same columns, so differences stay paired.

    ``how`` is lambda, or a function from ``(..., K)`` to ``(...)`` such as ``Measure.score``.
    A percentile bootstrap of K draws is too narrow for small K (of 3 draws there are ten resamples): read it as a lower
    bound of the uncertainty. It knows sampling noise only, nothing of the model's own errors. NaN for K = 1.
    """
    candidates, k = risks.shape
    if k < 2:
        return np.full((candidates, resamples), np.nan)
    columns = np.random.default_rng([seed, k]).integers(0, k, size=(resamples, k))
    samples = risks[:, columns]
    return how(samples) if callable(how) else score(samples, how)


def interval(draws: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central ``level`` interval of the draws; (NaN, NaN) when there are none."""
    if np.isnan(draws).all():
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def separation(draws: np.ndarray, best: int) -> float:
    """P(candidate ``best`` scores lower than every other), over the columns of ``draws (C, R)``; a draw counts half.

    NaN without a rival or without intervals (K = 1). Like the bootstrap behind it, it is too sure for small K.
    """
    if len(draws) < 2 or np.isnan(draws).all():
        return math.nan
    return lower(draws[best], np.delete(draws, best, axis=0).min(axis=0))


def lower(a: np.ndarray, b: np.ndarray) -> float:
    """Share of paired draws ``(R,)`` in which ``a`` is below ``b``; a draw counts half, NaN where nothing was drawn."""
    if np.isnan(a).all() or np.isnan(b).all():
        return math.nan
    return float(np.mean(a < b) + 0.5 * np.mean(a == b))


def ties(order: Sequence[int], draws: np.ndarray) -> np.ndarray:
    """Tie group (C,) of each candidate, 1 for the best: it cannot be told from the first of its group.

    Down the ranking ``order``, each candidate that is not in a group yet starts one and takes in every later candidate
    whose paired interval of the difference to it contains 0. Without an interval (K = 1) nothing can be told apart.
    """
    group = np.zeros(len(draws), dtype=int)
    for leader in order:
        if group[leader]:
            continue
        number = group.max() + 1
        for other in order:
            low, high = interval(draws[other] - draws[leader])
            if not group[other] and not (low > 0 or high < 0):
                group[other] = number
    return group


def lambda_intervals(mean: np.ndarray, sd: np.ndarray, eligible: Sequence[int]) -> tuple[LambdaInterval, ...]:
    """Who wins for which lambda >= 0, exactly: S is a straight line in lambda, so the winners are its lower envelope.

    ``eligible`` are row numbers in the order that breaks ties. An unknown SD counts as 0.
    """
    slope = np.nan_to_num(sd)
    winner = min(eligible, key=lambda c: (mean[c], slope[c]))
    result: list[LambdaInterval] = []
    low = 0.0
    while True:
        flatter = [c for c in eligible if slope[c] < slope[winner]]
        with np.errstate(over="ignore"):  # slopes that differ by nothing cross nowhere
            crossing = {c: float((mean[c] - mean[winner]) / (slope[winner] - slope[c])) for c in flatter}
        crossing = {c: at for c, at in crossing.items() if math.isfinite(at)}
        if not crossing:
            return (*result, LambdaInterval(low, math.inf, winner))
        following = min(crossing, key=lambda c: (crossing[c], slope[c]))
        result.append(LambdaInterval(low, crossing[following], winner))
        low, winner = crossing[following], following
