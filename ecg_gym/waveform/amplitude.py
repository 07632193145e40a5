"""How much a lead moves: the check that tells millivolts from microvolts read as millivolts."""

from __future__ import annotations

import numpy as np

from ecg_gym.plausibility import largest_amplitude_mv

WINDOW_S = 2.0  # holds a beat at 30/min, and little of the baseline's wander


def check_amplitude(signal: np.ndarray, rate_hz: float, what: str = "the strip") -> None:
    """Raises ValueError for a signal ``(..., T)`` that no heart makes: its gain or unit is wrong."""
    swing, most = largest_swing_mv(signal, rate_hz), largest_amplitude_mv()
    if swing > most:
        raise ValueError(
            f"{what} moves by {swing:.4g} mV within 2 s; expected at most {most:g} mV; check gain and unit: microvolts "
            "must be divided by 1000"
        )


def too_large(signal: np.ndarray, rate_hz: float) -> bool:
    """Whether a signal ``(..., T)`` [mV] is larger than any heart makes."""
    return largest_swing_mv(signal, rate_hz) > largest_amplitude_mv()


def largest_swing_mv(signal: np.ndarray, rate_hz: float) -> float:
    """Peak to peak [mV] of the lead of ``(..., T)`` [mV] that moves most.

    Of each lead the median over stretches of 2 s is taken, so that neither wander nor one artefact counts. NaN counts
    as nothing.
    """
    n = max(1, min(signal.shape[-1], round(WINDOW_S * rate_hz)))
    whole = signal[..., : signal.shape[-1] // n * n]
    pieces = whole.reshape(*signal.shape[:-1], -1, n)
    with np.errstate(invalid="ignore"):
        swing = np.nan_to_num(pieces.max(axis=-1) - pieces.min(axis=-1), nan=0.0, posinf=0.0)
    return float(np.median(swing, axis=-1).max(initial=0.0))
