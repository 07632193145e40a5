"""Fiducials: where P, QRS and T begin, peak and end on a median beat, all leads together.

QRS: spatial velocity (norm over leads of the slope) against its floor. T: vector magnitude over the level before the
QRS, its end where the steepest tangent of the descent meets the level behind it (Lepeschkin 1952, on the vector
magnitude as in Johannesen 2014 doi:10.1038/clpt.2014.155). P: a bump that every beat repeats, or none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from ecg_gym.waveform.beats import RATE_HZ, Beat

MS = RATE_HZ / 1000  # samples per millisecond


@dataclass(frozen=True)
class Fiducials:
    """Columns of a median beat (float, NaN where there is none)."""

    p_onset: float
    qrs_onset: float
    qrs_end: float
    t_peak: float
    t_end: float
    r_amplitude_mv: float
    t_amplitude_mv: float
    reason: str  # "" or what is missing and why


@dataclass(frozen=True)
class Rules:
    """The few numbers the fiducials hang on; tuned on the even-numbered records of LUDB, checked on the odd ones."""

    velocity_fraction: float = 0.04  # of the peak spatial velocity: below it the QRS is over
    velocity_floors: float = 2.0  # times the floor of spatial velocity before (behind) the QRS
    quiet_ms: float = 8.0  # and it stays below for this long
    p_fraction: float = 0.25  # of the peak P velocity over its floor: below it the P wave has not begun
    p_quiet_ms: float = 16.0  # and it was below for this long: the notch between the atria is shorter
    p_smooth_ms: float = 4.0  # Gaussian smoothing before the P velocity
    p_likeness: float = 0.5  # mean correlation of the single P waves with the rest
    least_p_mv: float = 0.02
    least_t_mv: float = 0.04


RULES = Rules()
NAN = float("nan")


def fiducials(beat: Beat, rr_ms: float, rules: Rules = RULES) -> Fiducials:
    """The fiducials of one median beat whose typical RR is ``rr_ms`` [ms]."""
    leads = ndimage.gaussian_filter1d(beat.signal, 1.0 * MS, axis=-1)
    velocity = _norm(np.gradient(leads, axis=-1)) * MS * 1000  # [mV/s]
    onset, end = _qrs(velocity, beat.r, rules)
    if not np.isfinite(onset + end):
        return Fiducials(NAN, NAN, NAN, NAN, NAN, NAN, NAN, "QRS boundaries not found")
    onset, end = int(onset), int(end)
    iso = leads[:, max(0, onset - round(12 * MS)) : onset - round(2 * MS)].mean(axis=-1, keepdims=True)
    leads = leads - iso
    r_amplitude = float(_norm(leads[:, onset:end]).max())
    p_onset, p_reason = _p(beat, leads, onset, rr_ms, rules)
    before_next = beat.r + (rr_ms * MS - (beat.r - (p_onset if np.isfinite(p_onset) else onset)))
    t_peak, t_end, t_amplitude, t_reason = _t(leads, end, before_next, rr_ms, rules)
    reason = "; ".join(r for r in (p_reason, t_reason) if r)
    return Fiducials(p_onset, float(onset), float(end), t_peak, t_end, r_amplitude, t_amplitude, reason)


def _norm(leads: np.ndarray) -> np.ndarray:
    """Vector magnitude over leads, ``(L, W)`` -> ``(W,)``."""
    return np.sqrt(np.einsum("lt,lt->t", leads, leads))


def _qrs(velocity: np.ndarray, r: int, rules: Rules) -> tuple[float, float]:
    """QRS onset and end: first and last column around R where spatial velocity leaves its floor and stays away."""
    around = velocity[r - round(60 * MS) : r + round(60 * MS)]
    peak = around.max()
    centre = r - round(60 * MS) + int(np.argmax(around))
    floor_before = np.percentile(velocity[r - round(200 * MS) : r - round(50 * MS)], 20)
    floor_behind = np.percentile(velocity[r + round(60 * MS) : r + round(200 * MS)], 20)
    quiet = round(rules.quiet_ms * MS)
    low_before = velocity < rules.velocity_fraction * peak + rules.velocity_floors * floor_before
    low_behind = velocity < rules.velocity_fraction * peak + rules.velocity_floors * floor_behind
    onset = _run(low_before[::-1], len(velocity) - 1 - centre, quiet)
    end = _run(low_behind, centre, quiet)
    return len(velocity) - 1 - onset, end


def _run(low: np.ndarray, start: int, quiet: int) -> float:
    """First index from ``start`` at which ``low`` holds for ``quiet`` samples on end; NaN if never."""
    runs = np.convolve(low[start:], np.ones(quiet, dtype=int), mode="valid") == quiet
    return start + int(np.argmax(runs)) if runs.any() else NAN


def _p(beat: Beat, leads: np.ndarray, qrs_onset: int, rr_ms: float, rules: Rules) -> tuple[float, str]:
    """P onset [column], or NaN and why.

    A P wave is the tallest bump between the T wave before and the QRS; it must stand above the beat-to-beat noise of
    the median and look the same in the single beats, which fibrillatory waves and dissociated P waves do not.
    """
    first = max(round(20 * MS), beat.r - round(min(370, 0.52 * rr_ms) * MS))
    last = qrs_onset - round(20 * MS)
    if last - first < round(30 * MS):
        return NAN, "no room for a P wave before the QRS"
    half = round(36 * MS)
    size = _norm(_bump(leads, half))
    peak = first + int(np.argmax(size[first:last]))
    span = slice(max(0, peak - half), min(peak + half, qrs_onset - round(8 * MS)))
    singles = _bump(beat.singles[:, :, : qrs_onset], half)[:, :, span].reshape(len(beat.singles), -1)
    if size[peak] < rules.least_p_mv or _likeness(singles) < rules.p_likeness:
        return NAN, "no P wave that every beat repeats"
    return _p_onset(leads, peak, qrs_onset, rules), ""


def _likeness(singles: np.ndarray) -> float:
    """Mean correlation of each row ``(n, k)`` with the mean of the others; 0 for fewer than three rows."""
    n = len(singles)
    if n < 3:
        return 0.0
    others = (singles.sum(axis=0) - singles) / (n - 1)
    dot = (singles * others).sum(axis=1)
    return float(np.mean(dot / (np.linalg.norm(singles, axis=1) * np.linalg.norm(others, axis=1) + 1e-9)))


def _p_onset(leads: np.ndarray, peak: int, qrs_onset: int, rules: Rules) -> float:
    """Column where the P wave leaves its floor: spatial velocity below a fraction of its peak for some time."""
    smooth = ndimage.gaussian_filter1d(leads, rules.p_smooth_ms * MS, axis=-1)
    start, stop = max(0, peak - round(120 * MS)), min(peak + round(60 * MS), qrs_onset - round(16 * MS))
    velocity = _norm(np.gradient(smooth[:, start:stop], axis=-1))
    rising = velocity[: peak - start + round(10 * MS)]
    steepest = int(np.argmax(rising))
    floor = np.percentile(velocity, 10)
    low = rising < floor + rules.p_fraction * (rising[steepest] - floor)
    quiet = _run(low[::-1], len(rising) - 1 - steepest, round(rules.p_quiet_ms * MS))
    if not np.isfinite(quiet):
        return float(start + np.argmin(velocity[: steepest + 1]))
    return float(start + len(rising) - 1 - quiet)


def _bump(leads: np.ndarray, half: int) -> np.ndarray:
    """How far each column stands out of the straight line between the columns ``half`` samples to either side [mV]."""
    smooth = ndimage.uniform_filter1d(leads, half // 2 | 1, axis=-1)
    padded = np.pad(smooth, [(0, 0)] * (leads.ndim - 1) + [(half, half)], mode="edge")
    return smooth - 0.5 * (padded[..., : -2 * half] + padded[..., 2 * half :])


def _t(leads: np.ndarray, j: int, limit: float, rr_ms: float, rules: Rules) -> tuple[float, float, float, str]:
    """T peak and T end [columns], amplitude [mV], and why not."""
    magnitude = ndimage.gaussian_filter1d(_norm(leads), 5 * MS)
    first, last = j + round(50 * MS), int(min(limit, leads.shape[-1] - round(10 * MS)))
    if last - first < round(80 * MS):
        return NAN, NAN, NAN, "no room for a T wave"
    reach = magnitude[first:last]
    tops, _ = signal.find_peaks(reach)
    if len(tops) == 0:
        return NAN, NAN, NAN, "no T peak"
    peak = first + int(tops[np.argmax(reach[tops])])
    if magnitude[peak] < rules.least_t_mv:
        return NAN, NAN, NAN, f"T wave below {1000 * rules.least_t_mv:.0f} uV"
    end = _t_end(magnitude, peak, last)
    return float(peak), end, float(magnitude[peak]), "" if np.isfinite(end) else "T end not found"


def _t_end(magnitude: np.ndarray, peak: int, last: int) -> float:
    """Where the steepest tangent behind the T peak meets the level behind the T wave."""
    slope = np.gradient(magnitude)
    stop = min(last, peak + round(200 * MS))
    if stop - peak < round(30 * MS):
        return NAN
    steepest = peak + int(np.argmin(slope[peak:stop]))
    level = magnitude[steepest:last].min()
    if slope[steepest] >= 0:
        return NAN
    return steepest + (level - magnitude[steepest]) / slope[steepest]
