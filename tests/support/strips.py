"""Strips of five waves that eight leads share, for tests of physiology."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S, limb_from_independent
from ecg_gym.physiology import mcsharry

CENTRE = np.array([[-0.150, -0.026, 0.0, 0.030, 0.270]])
WIDTH = np.array([[0.020, 0.009, 0.011, 0.010, 0.042]])
GAIN = np.array(
    [[0.08, -0.05, 0.7, -0.1, 0.25], [0.12, -0.10, 1.0, -0.15, 0.30], [0.05, 0.10, -0.4, -0.9, 0.10],
     [0.05, 0.20, 0.3, -1.1, 0.45], [0.05, 0.05, 0.8, -0.7, 0.50], [0.06, -0.05, 1.2, -0.4, 0.45],
     [0.06, -0.10, 1.3, -0.2, 0.35], [0.06, -0.10, 1.1, -0.1, 0.25]]
)  # fmt: skip


def strip(beats_s: np.ndarray, centre: np.ndarray = CENTRE, width: np.ndarray = WIDTH) -> np.ndarray:
    """``(B, 12, 1024)`` [mV] of five waves that eight leads share."""
    rows = np.ones((len(beats_s), 1))
    unit = mcsharry.unit_waves(
        rows * centre, rows * width, beats_s, samples=MODEL_SAMPLES, rate_hz=MODEL_RATE_HZ, first_s=R_PEAK_OFFSET_S,
        relaxation_per_s=0.0,
    )  # fmt: skip
    return limb_from_independent(GAIN @ unit).astype(np.float32)
