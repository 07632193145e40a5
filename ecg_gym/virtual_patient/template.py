"""Fiducials of one noise-free beat, by the definitions the delineator uses on recordings.

QRS begins where the spatial velocity of the 8 independent leads first exceeds 4 % of its peak and ends where it last
does; the T peak is the largest vector magnitude behind it; the T end is where the steepest tangent of the magnitude
behind the peak meets the level behind the T wave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient.lead_field import leads_from_electrodes
from ecg_gym.virtual_patient.repolarisation import Beat, electrode_strip

RATE_HZ = 500.0
_BEFORE_S = 0.05
VELOCITY_FRACTION = 0.04  # of the peak spatial velocity, as in waveform.fiducials


@dataclass(frozen=True)
class Fiducials:
    """Lengths of one beat [ms] from its QRS onset; NaN where there is no T wave to speak of."""

    qrs_ms: float
    jtpeak_ms: float
    qt_ms: float
    t_amplitude_mv: float


def typical_beat(rows: np.ndarray, beat: Beat, phase3_ms: float) -> Fiducials:
    """The fiducials of ``beat`` seen through electrode ``rows (9, N)``."""
    longest = float(beat.activation_ms.max() + beat.duration_ms.max()) / 1000
    samples = round((_BEFORE_S + longest + 12 * phase3_ms / 1000) * RATE_HZ)
    strip = electrode_strip(
        rows, [Beat(_BEFORE_S, beat.activation_ms, beat.duration_ms, beat.plateau)], RATE_HZ, samples, 0.0, phase3_ms
    )
    leads = independent_from_leads(leads_from_electrodes(strip))
    onset, j = _qrs(leads, float(np.ptp(beat.activation_ms)) / 1000)
    to_ms = 1000 / RATE_HZ
    qrs_ms = (j - onset) * to_ms
    magnitude = gaussian_filter1d(np.linalg.norm(leads, axis=0), 0.005 * RATE_HZ)
    j = round(j + 0.03 * RATE_HZ)
    peak = j + int(np.argmax(magnitude[j:]))
    slope = np.gradient(magnitude)
    steepest = peak + int(np.argmin(slope[peak:]))
    if slope[steepest] >= 0:
        return Fiducials(qrs_ms, float("nan"), float("nan"), float("nan"))
    end = steepest + (magnitude[steepest:].min() - magnitude[steepest]) / slope[steepest]
    return Fiducials(
        qrs_ms, (_vertex(magnitude, peak) - onset) * to_ms - qrs_ms, (end - onset) * to_ms, float(magnitude[peak])
    )


def _qrs(leads: np.ndarray, activation_s: float) -> tuple[float, float]:
    """QRS onset and end [samples] of noise-free ``leads (8, T)`` whose nodes fire within ``activation_s``."""
    velocity = np.linalg.norm(np.gradient(gaussian_filter1d(leads, 0.002 * RATE_HZ, axis=1), axis=1), axis=0)
    last = round((_BEFORE_S + activation_s + 0.02) * RATE_HZ)  # the T wave may be fast too: look no further
    loud = np.flatnonzero(velocity[:last] > VELOCITY_FRACTION * velocity[:last].max())
    return float(loud[0]), float(loud[-1] + 1)


def _vertex(y: np.ndarray, top: int) -> float:
    """The top of the parabola through a sample and its neighbours."""
    if not 0 < top < len(y) - 1:
        return float(top)
    left, middle, right = y[top - 1 : top + 2]
    bend = left - 2 * middle + right
    return top + 0.5 * (left - right) / bend if bend < 0 else float(top)
