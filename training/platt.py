"""From logits to honest probabilities, and how honest they are: Platt's fit, AUROC, Brier score, calibration error."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

FEWEST = 8  # cases, and non-cases, below which a calibration or an AUROC would be noise
PRIOR = 4.0  # strength, in strips, of the belief that the logit was right: slope 1, intercept 0
BINS = 10


def platt(
    logits: np.ndarray, labels: np.ndarray, margins: np.ndarray | None = None, weights: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Slope, margin weight and intercept of sigmoid(slope * logit + weight * margin + intercept), all ``(N,)``.

    By penalised maximum likelihood, each strip counted ``weights`` times (default once); the weight is 0 without
    margins. (1, 0, 0) where cases or non-cases are too few. Platt 1999, with a Gaussian prior around the logit itself
    instead of smoothed targets; the slope stays positive, for a calibration may flatten a ranking but never reverse it.
    """
    cases = int((labels == 1).sum())
    if min(cases, len(labels) - cases) < FEWEST:
        return 1.0, 0.0, 0.0
    x = np.stack([logits, np.zeros(len(labels)) if margins is None else margins, np.ones(len(labels))])
    counts = np.ones(len(labels)) if weights is None else weights
    start, sign = np.array([1.0, 0.0, 0.0]), np.where(labels == 1, 1.0, -1.0)

    def cost(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        right = sign * (coefficients @ x)
        gradient = x @ (-counts * sign * expit(-right)) + PRIOR * (coefficients - start)
        loss = counts @ np.logaddexp(0, -right) + PRIOR / 2 * np.sum((coefficients - start) ** 2)
        return float(loss), gradient

    bounds = [(0.05, None), (0.0, None), (None, None)]
    slope, weight, intercept = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope), float(weight), float(intercept)


def scores(probabilities: np.ndarray, labels: np.ndarray, prevalence: float) -> dict[str, float]:
    """``n``, ``cases``, and where they can be had ``brier``, ``brier_of_prevalence``, ``ece``, ``auroc``,
    ``sensitivity`` and ``specificity`` at 0.5.

    ``prevalence`` (of the training people) is the trivial forecast every score stands beside.
    """
    n, cases = len(labels), int((labels == 1).sum())
    result = {"n": float(n), "cases": float(cases)}
    if n:
        result["brier"] = float(np.mean((probabilities - labels) ** 2))
        result["brier_of_prevalence"] = float(np.mean((prevalence - labels) ** 2))
        result["ece"] = calibration_error(probabilities, labels)
    if cases:
        result["sensitivity"] = float((probabilities[labels == 1] >= 0.5).mean())
    if n > cases:
        result["specificity"] = float((probabilities[labels == 0] < 0.5).mean())
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
