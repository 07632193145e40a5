"""An analytic ECG whose QRS onset and end, P onset and T end are chosen."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG, limb_from_independent

# One row per lead of I, II, V1..V6: amplitudes [mV] of P, Q, R, S, T
AMPLITUDES = np.array(
    [
        (0.08, -0.05, 0.7, -0.1, 0.22),
        (0.14, -0.08, 1.1, -0.2, 0.30),
        (0.06, 0.00, 0.2, -1.0, -0.05),
        (0.07, 0.00, 0.4, -1.4, 0.45),
        (0.08, 0.00, 0.8, -0.9, 0.50),
        (0.08, -0.05, 1.4, -0.5, 0.45),
        (0.08, -0.08, 1.3, -0.2, 0.38),
        (0.08, -0.08, 1.0, -0.1, 0.28),
    ]
)
# Raised cosines have an end: QRS lasts from the beginning of Q to the end of S. (centre relative to R, half width) [ms]
Q, R, S = (-28, 18), (0, 22), (28, 22)
QRS_MS = S[0] + S[1] - Q[0] + Q[1]
P_HALF_MS, T_HALF_MS = 50.0, 100.0


def analytic(
    rr_ms: float | np.ndarray = 800.0, pr_ms: float = 160.0, qt_ms: float = 400.0, rate_hz: float = 500.0,
    seconds: float = 10.0, p: bool = True, noise_mv: float = 0.0, seed: int = 0,
) -> ECG:  # fmt: skip
    """Sums of raised cosines whose intervals we choose, ``(12, T)`` [mV].

    The steepest tangent of a raised cosine of half width h is at h/2 from its top, at half its height, with slope
    pi/(2 h) of its height: it meets the base at h (1/2 + 1/pi) from the top. That is the T end we choose.
    """
    onset = Q[0] - Q[1]
    waves = [(onset - pr_ms + P_HALF_MS, P_HALF_MS, 0)] * p
    waves += [(*shape, 1 + i) for i, shape in enumerate((Q, R, S))]
    waves += [(onset + qt_ms - T_HALF_MS * (0.5 + 1 / np.pi), T_HALF_MS, 4)]
    gaps = np.full(60, rr_ms) if np.isscalar(rr_ms) else np.asarray(rr_ms)
    beats = 450 + np.concatenate([[0], np.cumsum(gaps)])
    t = np.arange(round(seconds * rate_hz)) / rate_hz * 1000
    signal = np.zeros((8, len(t)))
    for beat in beats[beats < seconds * 1000 + 600]:
        for at, half, kind in waves:
            phase = np.clip((t - beat - at) / half, -1, 1)
            signal += AMPLITUDES[:, kind, None] * (0.5 + 0.5 * np.cos(np.pi * phase))
    signal += noise_mv * np.random.default_rng(seed).standard_normal(signal.shape)
    return ECG(limb_from_independent(signal), rate_hz)
