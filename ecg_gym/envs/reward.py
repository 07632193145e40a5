"""The reward of a step is minus the risk of the strip it led to; a lethal end costs more than any survival."""

from __future__ import annotations

import numpy as np


def reward(risk: np.ndarray, lost: np.ndarray, steps: np.ndarray, horizon: int) -> np.ndarray:
    """Rewards ``(B,)``: ``-risk``, and ``-(horizon + remaining)`` where the patient was ``lost`` in this step.

    ``steps (B,)`` counts the steps before this one; ``remaining = horizon - steps`` includes it. A surviving step costs
    at most 1, so an undiscounted episode that ends lethally totals at most ``-(horizon + 1)``, less than any surviving
    one (at least ``-horizon``), and dying later is never worse than dying sooner: nobody gains by making a bad episode
    short. From any step on, under any discount, dying now is worse than every way to survive.
    """
    remaining = np.maximum(horizon - steps, 1)
    return np.where(lost, -(horizon + remaining).astype(float), 0.0 - np.clip(risk, 0.0, 1.0))


def mean_variance(risks: np.ndarray, risk_aversion: float) -> np.ndarray:
    """``min(1, mean + risk_aversion x SD)`` over the last axis of ``(B, samples)``; a single sample is its own mean."""
    spread = risks.std(axis=-1, ddof=1) if risks.shape[-1] > 1 else 0.0
    return np.minimum(1.0, risks.mean(axis=-1) + risk_aversion * spread)
