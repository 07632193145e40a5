"""Numbers with their uncertainty: IQM, bootstrap, paired differences, Holm's correction, normalised scores.

Episodes are the units. A stratum is a (scenario, seed): resamples draw episodes within each, never across, so that an
interval is about other patients of these scenarios (Agarwal et al., NeurIPS 2021, "Deep RL at the edge of the
statistical precipice", whose library resamples runs within tasks in the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95
TRIM = 0.25  # of each end, for the interquartile mean


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis: the mean of the middle half, ``floor(n/4)`` dropped at each end."""
    n = values.shape[-1]
    tail = int(TRIM * n)
    return np.sort(values, axis=-1)[..., tail : n - tail].mean(axis=-1)


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


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference with its test against zero; made by :func:`paired_difference`."""

    value: float
    p: float  # two-sided, of no difference
    _bound: Callable[[float], tuple[float, float]]

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The differences that a test at ``1 - level`` does not reject; it holds 0 where ``p`` is above that."""
        return self._bound(level)


def paired_difference(differences: np.ndarray, draws: int = 4000, seed: int = 0) -> PairedDifference:
    """The mean of paired differences ``(patients,)`` or ``(training seeds, patients)``, for other patients and seeds.

    Without repeated training: a permutation test that flips the signs of patients, and its inversion (Fisher 1935, The
    Design of Experiments; Ernst 2004, doi:10.1214/088342304000000396). It is exact where agent and reference are
    exchangeable, however rare and costly the deaths are, which bootstrap intervals are not.
    With training seeds as the outer level, patients crossed with them: t with the degrees of freedom of Satterthwaite
    1946, doi:10.2307/3002019. Raises ``ValueError`` for fewer than two patients or numbers that are not finite.
    """
    table = np.atleast_2d(np.asarray(differences, float))
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise ValueError(
            f"differences have shape {np.shape(differences)}; expected finite numbers of at least two patients, "
            "(patients,) or (training seeds, patients); play more patients"
        )
    return _flipped(table[0], draws, seed) if len(table) == 1 else _crossed(table)


def _flipped(x: np.ndarray, draws: int, seed: int) -> PairedDifference:
    """By signs that are flipped at random."""
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), (draws, len(x)))
    sums, weights, n = signs @ x, signs.sum(axis=1), len(x)

    def p(theta: float) -> float:
        beyond = np.abs(sums - theta * weights) >= abs(x.sum() - theta * n) - 1e-9
        return float((beyond.sum() + 1) / (draws + 1))

    def bound(level: float) -> tuple[float, float]:
        reach = float(np.ptp(x)) + 1e-12
        return _edge(p, x.mean(), -reach, 1 - level), _edge(p, x.mean(), reach, 1 - level)

    return PairedDifference(float(x.mean()), p(0.0), bound)


def _edge(p: Callable[[float], float], inside: float, reach: float, alpha: float) -> float:
    """The last value from ``inside`` on in the direction of ``reach`` that is not rejected, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p(inside + middle * reach) > alpha else (low, middle)
    return float(inside + high * reach)


def _crossed(table: np.ndarray) -> PairedDifference:
    """By the components of variance of seeds, patients and their interaction."""
    (s, n), mean = table.shape, float(table.mean())
    seeds, patients = table.mean(axis=1), table.mean(axis=0)
    rest = table - seeds[:, None] - patients + mean
    freedom = np.array([s - 1, n - 1, (s - 1) * (n - 1)])
    squares = np.array([n * ((seeds - mean) ** 2).sum(), s * ((patients - mean) ** 2).sum(), (rest**2).sum()]) / freedom
    parts = np.array([squares[0], squares[1], -squares[2]]) / (s * n)
    variance = max(float(parts.sum()), float(parts[:2].max()))
    degrees = max(1.0, variance**2 / max(float((parts**2 / freedom).sum()), 1e-300))
    error = np.sqrt(variance)
    p = float(2 * student.sf(abs(mean) / error, degrees)) if error > 0 else float(mean == 0)

    def bound(level: float) -> tuple[float, float]:
        reach = error * student.ppf((1 + level) / 2, degrees)
        return mean - reach, mean + reach

    return PairedDifference(mean, p, bound)


def holm(p: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Adjusted p values, and the level ``alpha / (m - rank)`` at which each hypothesis is tested, as a share of alpha.

    Holm 1979, Scand J Stat 6:65. A hypothesis is rejected at alpha exactly if its adjusted p is at most alpha.
    """
    values = np.asarray(p, float)
    order, m = np.argsort(values, kind="stable"), len(values)
    shares, adjusted = np.empty(m), np.empty(m)
    shares[order] = 1.0 / (m - np.arange(m))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] / shares[order]))
    return adjusted, shares


@dataclass(frozen=True)
class Anchor:
    """A mean return that scores are measured from, and how well it is known."""

    mean: float
    standard_error: float
    n: int  # patients


def gap_in_errors(low: Anchor, high: Anchor) -> float:
    """The distance of two anchors in standard errors of it."""
    error = float(np.hypot(low.standard_error, high.standard_error))
    return (high.mean - low.mean) / error if error > 0 else float(np.inf * np.sign(high.mean - low.mean))


def normalised(
    returns: Sequence[np.ndarray],  # per scenario (training seeds, patients)
    anchors: Sequence[tuple[Anchor, Anchor]],  # per scenario: 0 and 1
    draws: int = 4000,
    seed: int = 0,
) -> dict[str, tuple[float, tuple[float, float]]]:
    """``mean`` and ``iqm`` of scores ``(return - low) / (high - low)`` over scenarios, with 95 % intervals.

    Every draw takes training seeds and patients with replacement and the anchors from their sampling distribution, so
    that their noise is in the interval. The mean is that of the scenarios' means, the IQM that of all episodes.
    """
    rng, means, middles = np.random.default_rng(seed), [], []
    tables = [np.atleast_2d(np.asarray(table, float)) for table in returns]

    def scored(noisy: bool) -> tuple[float, float]:
        parts = []
        for table, (low, high) in zip(tables, anchors):
            part, ends = table, (low.mean, high.mean)
            if noisy:
                s, n = table.shape
                part = table[rng.integers(s, size=s)][:, rng.integers(n, size=n)]
                ends = rng.normal(low.mean, low.standard_error), rng.normal(high.mean, high.standard_error)
            parts.append(((part - ends[0]) / (ends[1] - ends[0])).ravel())
        return float(np.mean([part.mean() for part in parts])), float(iqm(np.concatenate(parts)))

    for _ in range(draws):
        mean, middle = scored(True)
        means.append(mean)
        middles.append(middle)
    value = scored(False)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {
        name: (value[i], (float(np.quantile(samples, tails[0])), float(np.quantile(samples, tails[1]))))
        for i, (name, samples) in enumerate((("mean", means), ("iqm", middles)))
    }
