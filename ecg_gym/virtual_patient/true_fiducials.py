"""Fiducials of one noise-free beat, by the definitions the delineator uses on recordings.

QRS begins where the spatial velocity of the 8 independent leads first exceeds 3 % of its peak and ends where it last
does; the T peak is the largest top of the vector magnitude behind it; the T end is where the steepest tangent of the
magnitude behind the peak meets the level behind the T wave. P lasts while its vector magnitude exceeds 4.5 % of its
peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient.beat import BeatShape, electrode_strip
from ecg_gym.virtual_patient.lead_field import ELECTRODES, leads_from_electrodes

VELOCITY_FRACTION = 0.03  # of the peak spatial velocity, as in waveform.fiducials
P_FRACTION = 0.045  # of the P wave's height, as in waveform.fiducials
_BEFORE_S = 0.05


@dataclass(frozen=True)
class Fiducials:
    """Lengths of one beat [ms] from its QRS onset; NaN where there is no T wave to speak of."""

    onset_ms: float  # of the QRS, after the first cell fired
    qrs_ms: float
    r_peak_ms: float
    jtpeak_ms: float
    qt_ms: float
    t_amplitude_mv: float


def typical_beat(shape: BeatShape, mean_ms: float, activation_ms: float, rate_hz: float) -> Fiducials:
    """The fiducials of a beat whose nodes fire within ``activation_ms`` and last ``mean_ms`` on average.

    ``rate_hz`` is the rate that ``shape`` was made for.
    """
    samples = round((_BEFORE_S + mean_ms / 1000) * rate_hz) + shape.last.steps.shape[2]
    strip = electrode_strip([(shape, _BEFORE_S, mean_ms)], len(ELECTRODES), rate_hz, samples)
    leads = independent_from_leads(leads_from_electrodes(strip)).astype(float)
    onset, j = _qrs(leads, activation_ms / 1000, rate_hz)
    to_ms = 1000 / rate_hz
    qrs_ms, onset_ms = (j - onset) * to_ms, (onset - _BEFORE_S * rate_hz) * to_ms
    plain = np.linalg.norm(leads, axis=0)
    r_ms = (int(np.argmax(plain[: round(j) + 1])) - onset) * to_ms
    magnitude = gaussian_filter1d(plain, 0.005 * rate_hz)
    first = round(j + 0.03 * rate_hz)
    tops = first + find_peaks(magnitude[first:])[0]  # an ST segment that falls from the J point has no top there
    peak = int(tops[np.argmax(magnitude[tops])]) if len(tops) else first + int(np.argmax(magnitude[first:]))
    slope = np.gradient(magnitude)
    steepest = peak + int(np.argmin(slope[peak:]))
    if slope[steepest] >= 0:
        return Fiducials(onset_ms, qrs_ms, r_ms, float("nan"), float("nan"), float("nan"))
    end = steepest + (magnitude[steepest:].min() - magnitude[steepest]) / slope[steepest]
    jtpeak_ms = (_vertex(magnitude, peak) - j) * to_ms
    qt_ms = float(end - onset) * to_ms
    return Fiducials(onset_ms, qrs_ms, r_ms, float(jtpeak_ms), qt_ms, float(magnitude[peak]))


def p_wave(shape: BeatShape, mean_ms: float, activation_ms: float, rate_hz: float) -> tuple[float, float, float]:
    """Onset, peak and end [ms] of a noise-free P wave after the first atrial cell fired."""
    samples = round((2 * _BEFORE_S + activation_ms / 1000) * rate_hz)
    strip = electrode_strip([(shape, _BEFORE_S, mean_ms)], len(ELECTRODES), rate_hz, samples)
    size = np.linalg.norm(independent_from_leads(leads_from_electrodes(strip)), axis=0).astype(float)
    onset, end = _crossings(size, P_FRACTION)
    to_ms = 1000 / rate_hz
    before = _BEFORE_S * rate_hz
    return (onset - before) * to_ms, (float(np.argmax(size)) - before) * to_ms, (end - before) * to_ms


def _qrs(leads: np.ndarray, activation_s: float, rate_hz: float) -> tuple[float, float]:
    """QRS onset and end [samples] of noise-free ``leads (8, T)`` whose nodes fire within ``activation_s``.

    Where the T wave begins before the velocity is quiet, the QRS ends at the turn between them: the slowest moment
    within 20 ms of the last cell's firing.
    """
    velocity = np.linalg.norm(np.gradient(gaussian_filter1d(leads, 0.002 * rate_hz, axis=1), axis=1), axis=0)
    fired, around = (_BEFORE_S + activation_s) * rate_hz, 0.02 * rate_hz
    last = round(fired + around)  # the T wave may be fast too: look no further
    onset, end = _crossings(velocity[:last], VELOCITY_FRACTION)
    if velocity[last - 1] > VELOCITY_FRACTION * velocity[:last].max():
        turn = max(0, round(fired - around))
        end = float(turn + np.argmin(velocity[turn:last]))
    return onset, end


def _crossings(y: np.ndarray, fraction: float) -> tuple[float, float]:
    """Where ``y (T,)`` first and last crosses a fraction of its peak [samples], between samples."""
    level = fraction * y.max()
    loud = np.flatnonzero(y > level)
    first, last = int(loud[0]), int(loud[-1])
    onset = first - (y[first] - level) / (y[first] - y[first - 1]) if first > 0 else float(first)
    end = last + (y[last] - level) / (y[last] - y[last + 1]) if last + 1 < len(y) else float(last)
    return float(onset), float(end)


def _vertex(y: np.ndarray, top: int) -> float:
    """The top of the parabola through a sample and its neighbours."""
    if not 0 < top < len(y) - 1:
        return float(top)
    left, middle, right = y[top - 1 : top + 2]
    bend = left - 2 * middle + right
    return top + 0.5 * (left - right) / bend if bend < 0 else float(top)
