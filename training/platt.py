"""From logits to honest probabilities, and how honest they are: Platt's fit, AUROC, Brier score, calibration error."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

FEWEST = 8  # cases, and non-cases, below which a calibration or an AUROC would be noise
PRIOR = 4.0  # strength, in strips, of the belief that the logit was right: slope 1, intercept 0
BINS = 10


def platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of sigmoid(slope * logit + intercept) by penalised maximum likelihood.

    (1, 0) where cases or non-cases are too few. Platt 1999, with a Gaussian prior around the logit itself instead of
    smoothed targets; the slope stays positive, since a calibration may flatten a ranking but never reverse it.
    """
    cases = int((labels == 1).sum())
    if min(cases, len(labels) - cases) < FEWEST:
        return 1.0, 0.0
    start, sign = np.array([1.0, 0.0]), np.where(labels == 1, 1.0, -1.0)

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (weights[0] * logits + weights[1])
        wrong = -sign * expit(-margin)
        gradient = np.array([wrong @ logits, wrong.sum()]) + PRIOR * (weights - start)
        return float(np.logaddexp(0, -margin).sum() + PRIOR / 2 * np.sum((weights - start) ** 2)), gradient

    result = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[(0.05, None), (None, None)]).x
    return float(result[0]), float(result[1])


def scores(probabilities: np.ndarray, labels: np.ndarray, prevalence: float) -> dict[str, float]:
    """``n``, ``cases``, and where they can be had ``brier``, ``brier_of_prevalence``, ``ece``, ``auroc``.

    ``prevalence`` (of the training people) is the trivial forecast every score stands beside.
    """
    n, cases = len(labels), int((labels == 1).sum())
    result = {"n": float(n), "cases": float(cases)}
    if n:
        result["brier"] = float(np.mean((probabilities - labels) ** 2))
        result["brier_of_prevalence"] = float(np.mean((prevalence - labels) ** 2))
        result["ece"] = calibration_error(probabilities, labels)
    if min(cases, n - cases) >= 1:
        result["auroc"] = auroc(probabilities, labels)
    return result


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a case scores above a non-case, ties counted half (Mann-Whitney)."""
    cases = labels == 1
    n, m = int(cases.sum()), int((~cases).sum())
    return float((rankdata(scores)[cases].sum() - n * (n + 1) / 2) / (n * m))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error over ten equal bins: mean |observed - predicted|, weighted by strips."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [
        abs(labels[bins == b].mean() - probabilities[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)
    ]
    return float(sum(gaps) / len(labels))
