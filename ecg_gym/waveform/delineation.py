"""Fiducials: where P, QRS and T begin, peak and end on a median beat, all leads together.

QRS: spatial velocity (norm over leads of the slope) against its floor. T: vector magnitude over the level before the
QRS, its end where the steepest tangent of the descent meets the level behind it (Lepeschkin 1952, on the vector
magnitude as in Johannesen 2014 doi:10.1038/clpt.2014.155). P: a bump that every beat repeats, or none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """The numbers the fiducials hang on; chosen on the 141 unpaced records of LUDB and virtual strips of all rhythms.

    All of LUDB was looked at while choosing: its figures are in-sample
    (training.evaluation.virtual_patient.delineation).
    """

    qrs_smooth_ms: float = 2.5  # Gaussian smoothing before the spatial velocity of the QRS
    velocity_fraction: float = 0.025  # of the peak spatial velocity, above its floor: below it the QRS is over
    quiet_ms: float = 8.0  # and it stays below for this long
    largest_floor: float = 0.05  # of the peak spatial velocity: a higher floor is a wave, not noise
    longest_half_qrs_ms: float = 160.0  # from its steepest point to either end
    p_smooth_ms: float = 10.0  # Gaussian smoothing before the P wave is read
    p_half_ms: float = 36.0  # a P wave is bent against the line between points this far to either side
    p_slope: float = 0.36  # of its steepest slope: before it is reached the P wave has not begun
    usual_p_peak_ms: float = 150.0  # before the QRS onset; only to choose between candidates
    p_peak_spread_ms: float = 65.0  # and this far around it a candidate counts as much as one 1.6 times as high
    p_away: float = 0.5  # of a candidate's bend it must stand away from the level before the QRS
    foot_within_ms: float = 120.0  # of a taller wave: a bump that turns against it is only its foot
    flutter_apart_ms: tuple[float, float] = (120.0, 320.0)  # a wave like the P wave this long before it is flutter
    flutter_cosine: float = 0.8  # if it points the same way
    flutter_size: float = 0.6  # and is at least this share of its size
    p_likeness: float = 0.45  # mean correlation of the single P waves with the others
    least_p_mv: float = 0.015  # vector magnitude of the smallest P wave that is believed
    t_smooth_ms: float = 7.0  # Gaussian smoothing of the vector magnitude of the T wave
    usual_t_peak_s: float = 0.28  # times sqrt(RR/s) after R; only to choose between candidates
    t_peak_spread_s: float = 0.15  # and this far around it a candidate counts as much as one 1.6 times as high
    t_tail: float = 1.0  # 1 is the tangent; a reader's "return to the baseline" lies further along it, see MANUAL
    least_t_mv: float = 0.05  # vector magnitude of the smallest T wave that is believed


RULES = Rules()
MANUAL = replace(RULES, t_tail=1.75)  # where the cardiologists of LUDB put the T end, on average (in-sample)
NAN = float("nan")


def fiducials(beat: Beat, rr_ms: float, rules: Rules = RULES) -> Fiducials:
    """The fiducials of one median beat whose typical RR is ``rr_ms`` [ms]."""
    bounds = _qrs(beat, rules)
    if bounds is None:
        return Fiducials(NAN, NAN, NAN, NAN, NAN, NAN, NAN, "QRS boundaries not found")
    onset, end = bounds
    # the least sizes are meant for all leads; a magnitude over fewer ones is smaller
    present = np.sqrt((np.ptp(beat.signal, axis=-1) > 0).mean())
    rules = replace(rules, least_p_mv=present * rules.least_p_mv, least_t_mv=present * rules.least_t_mv)
    leads = beat.signal - beat.signal[:, onset - round(12 * MS) : onset - round(2 * MS)].mean(axis=-1, keepdims=True)
    next_beat = rr_ms * MS
    magnitude = _norm(ndimage.gaussian_filter1d(leads, rules.t_smooth_ms * MS, axis=-1))
    usual = _usual_t_peak(leads.shape[-1], beat.r, rr_ms, rules)
    # T first without knowing where the next P begins, P behind that T, and T again up to that P
    behind = beat.next_rr_ms * MS
    last = int(onset - round(20 * MS) + behind)
    guess = _t(magnitude, usual, end, last, None, replace(rules, t_tail=1.0))
    previous = beat.previous_rr_ms * MS
    p_onset, p_reason = _p(beat, leads, onset, guess[0] - previous, guess[1] - previous, rr_ms, rules)
    # a premature beat behind has no P wave that could bound this T
    next_p = int(p_onset + behind) if np.isfinite(p_onset) and behind > 0.9 * next_beat else None
    t_peak, t_end, t_mv, t_reason = _t(magnitude, usual, end, last, next_p, rules)
    if np.isfinite(p_onset) and p_onset <= guess[0] - previous:
        p_onset, t_peak, t_end = NAN, NAN, NAN
        t_reason = "the P wave begins before the T wave has peaked: they cannot be told apart"
    reason = "; ".join(reason for reason in (p_reason, t_reason) if reason)
    return Fiducials(p_onset, onset, end, t_peak, t_end, float(_norm(leads[:, onset:end]).max()), t_mv, reason)


def _norm(leads: np.ndarray) -> np.ndarray:
    """Vector magnitude over leads, ``(L, W)`` -> ``(W,)``."""
    return np.sqrt(np.einsum("lt,lt->t", leads, leads))


def _qrs(beat: Beat, rules: Rules) -> tuple[int, int] | None:
    """QRS onset and end: first and last column around R where spatial velocity leaves its floor and stays away.

    Where it never does (a fast ventricular rhythm has no flat ST segment), the calmest moment within reach is taken.
    """
    leads = ndimage.gaussian_filter1d(beat.signal, rules.qrs_smooth_ms * MS, axis=-1)
    velocity, r = _norm(np.gradient(leads, axis=-1)), beat.r
    around = slice(r - round(60 * MS), r + round(60 * MS))
    steepest = around.start + int(np.argmax(velocity[around]))
    share = rules.velocity_fraction * velocity[steepest]
    floor_before = _quantile(velocity[r - round(200 * MS) : r - round(50 * MS)], 0.2)
    floor_behind = _quantile(velocity[r + round(60 * MS) : r + round(200 * MS)], 0.2)
    largest = rules.largest_floor * velocity[steepest]
    before, behind = velocity[steepest::-1], velocity[steepest:]
    to_onset = _calm(before, share + min(floor_before, largest), rules)
    to_end = _calm(behind, share + min(floor_behind, largest), rules)
    onset, end = steepest - to_onset, steepest + to_end
    return (onset, end) if onset > round(20 * MS) else None


def _calm(velocity: np.ndarray, level: float, rules: Rules) -> int:
    """How many columns from the first on ``velocity`` needs to fall below ``level`` and to stay there for a while."""
    quiet, reach = round(rules.quiet_ms * MS), round(rules.longest_half_qrs_ms * MS)
    result = _run(velocity[:reach] < level, 0, quiet)
    if np.isfinite(result):
        return int(result)
    nearest = round(30 * MS)
    return nearest + int(np.argmin(ndimage.uniform_filter1d(velocity[nearest:reach], quiet)))


def _quantile(x: np.ndarray, share: float) -> float:
    """The value below which ``share`` of ``x`` lies, without interpolation."""
    k = int(share * (len(x) - 1))
    return float(np.partition(x, k)[k])


def _run(low: np.ndarray, start: int, quiet: int) -> float:
    """First index from ``start`` at which ``low`` holds for ``quiet`` samples on end; NaN if never."""
    runs = np.convolve(low[start:], np.ones(quiet, dtype=int), mode="valid") == quiet
    return start + int(np.argmax(runs)) if runs.any() else NAN


def _p(
    beat: Beat, leads: np.ndarray, qrs_onset: int, last_t_peak: float, last_t_end: float, rr_ms: float, rules: Rules
) -> tuple[float, str]:
    """P onset [column], or NaN and why; the T wave of the beat before has its peak and end there (NaN if unknown).

    A P wave is the tallest bump between the T wave before and the QRS; it may ride on the descent of that T but not be
    its foot, must have a size, and look the same in the single beats, which fibrillatory waves and dissociated P waves
    do not.
    """
    first = max(round(20 * MS), beat.r - round(min(370, 0.52 * rr_ms) * MS))
    last = qrs_onset - round(12 * MS)
    half = round(rules.p_half_ms * MS)
    if np.isfinite(last_t_end):
        first = max(first, round((last_t_peak + last_t_end) / 2))
    elif np.isfinite(last_t_peak):
        first = max(first, round(last_t_peak) + half)
    if last - first < round(30 * MS):
        return NAN, "no room for a P wave before the QRS"
    bump = _bump(leads[:, : qrs_onset - 1], half)
    size = _norm(bump)
    tops = first + signal.find_peaks(size[first:last])[0]  # a shoulder of the T wave before is no top
    tops = tops[_are_waves(leads, bump, size, tops, rules)]
    if len(tops) == 0:
        return NAN, "no P wave"
    ahead_ms = (qrs_onset - tops) / MS
    usual = np.exp(-0.5 * ((ahead_ms - rules.usual_p_peak_ms) / rules.p_peak_spread_ms) ** 2)
    peak = int(tops[np.argmax(size[tops] * usual)])
    around = slice(max(0, peak - 2 * half), min(peak + 2 * half, qrs_onset - 1))
    singles = _bump(beat.singles[:, :, around], half).reshape(len(beat.singles), -1)
    if size[peak] < rules.least_p_mv or _likeness(singles) < rules.p_likeness:
        return NAN, "no P wave that every beat repeats"
    if _flutters(leads, bump[:, peak], peak, last_t_end, rules):
        return NAN, "no P wave but a wave that keeps coming"
    on_t = bool(np.isfinite(last_t_end)) and peak - round(100 * MS) < last_t_end
    onset = _p_onset(leads[:, : qrs_onset - 1], peak, on_t, last_t_peak, rules)
    return onset, "" if np.isfinite(onset) else "no P wave that ends before the QRS"


def _are_waves(leads: np.ndarray, bump: np.ndarray, size: np.ndarray, tops: np.ndarray, rules: Rules) -> np.ndarray:
    """Which ``tops`` are waves and not the feet of waves, ``(len(tops),)`` bool.

    A wave stands away from the level before the QRS in the direction in which it is bent, and is no bend the other way
    beside a taller wave.
    """
    away = np.einsum("lt,lt->t", leads[:, tops], bump[:, tops]) > rules.p_away * size[tops] ** 2
    against = bump[:, tops].T @ bump[:, tops] < -0.5 * np.outer(size[tops], size[tops])
    near = np.abs(np.subtract.outer(tops, tops)) < rules.foot_within_ms * MS
    waves = np.zeros(len(tops), dtype=bool)
    for i in np.argsort(-size[tops]):
        waves[i] = away[i] and not (waves & near[i] & against[i]).any()
    return waves


def _flutters(leads: np.ndarray, p_bump: np.ndarray, peak: int, last_t_end: float, rules: Rules) -> bool:
    """Whether a bump like the P wave's, ``(8,)``, stands shortly before it and behind the T wave.

    Sinus nodes do not fire twice within 320 ms; flutter does.
    """
    half = round(rules.p_half_ms * MS)
    first = max(half, peak - round(rules.flutter_apart_ms[1] * MS))
    first = max(first, round(last_t_end)) if np.isfinite(last_t_end) else first
    last = peak - round(rules.flutter_apart_ms[0] * MS)
    if last - first < 3:
        return False
    bump = _bump(leads[:, first - half : last + half], half)[:, half:-half]
    height = float(np.linalg.norm(p_bump))
    along = p_bump @ bump / height
    like = along > rules.flutter_cosine * _norm(bump)
    return bool((like & (along > rules.flutter_size * height)).any())


def _likeness(singles: np.ndarray) -> float:
    """Mean correlation of each row ``(n, k)`` with the mean of the others; 0 for fewer than three rows."""
    n = len(singles)
    if n < 3:
        return 0.0
    others = (singles.sum(axis=0) - singles) / (n - 1)
    dot = (singles * others).sum(axis=1)
    return float(np.mean(dot / (np.linalg.norm(singles, axis=1) * np.linalg.norm(others, axis=1) + 1e-9)))


def _p_onset(leads: np.ndarray, peak: int, on_t: bool, last_t_peak: float, rules: Rules) -> float:
    """Column where the P wave begins to rise, read along its own direction in lead space ``(8, to QRS onset)``.

    NaN if it does not come down again: then it was the foot of the QRS.

    Its direction is that of the peak against the levels before and behind it, or, where a T wave is still coming down
    (``on_t``), that of its bend; there its rise may be hidden, and is taken to be no shorter than its fall. A
    projection keeps the sign and averages the noise, which a norm rectifies; the level it rises from is the lowest
    within 90 ms before the P peak, because the T wave before may still be falling.
    """
    smooth = ndimage.gaussian_filter1d(leads, rules.p_smooth_ms * MS, axis=-1)
    wing = round(24 * MS)
    around = slice(max(0, peak - wing), peak + wing)
    if on_t:
        along = _bump(smooth, round(rules.p_half_ms * MS))[:, around].mean(axis=-1)
    else:
        far = smooth[:, max(0, peak - round(110 * MS)) : max(1, peak - round(90 * MS))].mean(axis=-1)
        near = smooth[:, -round(10 * MS) :].mean(axis=-1)
        along = smooth[:, around].mean(axis=-1) - (far + near) / 2
    wave = along @ smooth
    top = max(0, peak - round(20 * MS)) + int(np.argmax(wave[max(0, peak - round(20 * MS)) : peak + round(20 * MS)]))
    start = max(0, top - round(90 * MS))
    bottom = start + int(np.argmin(wave[start : top + 1]))
    if wave[top] - wave[top:].min() < 0.2 * (wave[top] - wave[bottom]):
        return NAN
    height, slope = wave[bottom : top + 1] - wave[bottom], np.gradient(wave[start : top + 1])
    half_way = bottom - start + int(np.argmax(height >= 0.5 * (wave[top] - wave[bottom])))
    steepest = min(bottom - start + int(np.argmax(slope[bottom - start :])), half_way + round(8 * MS))
    gentle = np.flatnonzero(slope[:steepest] < rules.p_slope * slope[bottom - start :].max())
    onset = start + int(gentle[-1]) if len(gentle) else start
    mirrored = top - _fall(wave[top:], rules) if on_t else onset
    return float(min(onset, mirrored) if mirrored > last_t_peak else onset)


def _fall(wave: np.ndarray, rules: Rules) -> int:
    """How many columns behind its top, which comes first, a P wave has come down: where its slope has become gentle."""
    slope = -np.gradient(wave)
    steepest = int(np.argmax(slope[: round(90 * MS)]))
    gentle = np.flatnonzero(slope[steepest:] < rules.p_slope * slope[steepest])
    return steepest + int(gentle[0]) if len(gentle) else 0


def _bump(leads: np.ndarray, half: int) -> np.ndarray:
    """How far each column stands out of the straight line between the columns ``half`` samples to either side [mV]."""
    smooth = ndimage.uniform_filter1d(leads, half // 2 | 1, axis=-1)
    last = leads.shape[-1] - 1
    columns = np.arange(last + 1)
    before, behind = np.maximum(columns - half, 0), np.minimum(columns + half, last)
    return smooth - 0.5 * (smooth[..., before] + smooth[..., behind])


def _usual_t_peak(width: int, r: int, rr_ms: float, rules: Rules) -> np.ndarray:
    """How usual each column is for a T peak, ``(width,)`` in (0, 1]: a broad bell in time after R over sqrt(RR).

    It decides between T and a U wave, wander or a plateau of the ST segment, and moves no fiducial.
    """
    seconds = (np.arange(width) - r) / RATE_HZ / (rr_ms / 1000) ** 0.5
    return np.exp(-0.5 * ((seconds - rules.usual_t_peak_s) / rules.t_peak_spread_s) ** 2)


def _t(
    magnitude: np.ndarray, usual: np.ndarray, j: int, last: int, next_p: int | None, rules: Rules
) -> tuple[float, float, float, str]:
    """T peak and T end [columns], amplitude [mV], and why not; nothing from ``last`` on belongs to this beat.

    T peaks before the next P wave begins (``next_p``) and falls before that one peaks; where none was found, T ends
    with its first deep valley, because one may hide behind it.
    """
    last = min(last, len(magnitude) - round(10 * MS))
    before = last if next_p is None else min(last, next_p)
    tops = _tops(magnitude, j + round(50 * MS), before)
    if len(tops) == 0:  # a fast ventricular rhythm has no ST segment
        tops = _tops(magnitude, j + round(10 * MS), before)
    if len(tops) == 0:
        return NAN, NAN, NAN, "no T peak before the next beat"
    peak = int(tops[np.argmax(magnitude[tops] * usual[tops])])
    height = float(magnitude[peak])
    if height < rules.least_t_mv:
        return NAN, NAN, NAN, f"T wave below {1000 * rules.least_t_mv:.0f} uV"
    stop = min(last, peak + round(200 * MS))
    if next_p is None:
        stop = min(stop, peak + _first_valley(magnitude[peak:last]) + 1)
    else:
        stop = min(stop, next_p + round(rules.p_half_ms * MS))
    descent = np.gradient(magnitude[peak : max(stop, peak + 2)])
    steepest = peak + int(np.argmin(descent))
    fall, level = descent.min(), _lowest(magnitude[steepest : min(last, steepest + round(200 * MS))])
    if fall >= 0 or height - level < 0.3 * height:
        return float(peak), NAN, height, "T wave does not come down before the next beat"
    return float(peak), float(steepest + rules.t_tail * (level - magnitude[steepest]) / fall), height, ""


def _lowest(x: np.ndarray, share: float = 0.1) -> float:
    """The mean of the lowest tenth, which noise moves less than it moves the minimum."""
    count = max(1, int(share * len(x)))
    return float(np.partition(x, count - 1)[:count].mean())


def _tops(x: np.ndarray, first: int, last: int) -> np.ndarray:
    """Local maxima of ``x`` between two columns; none where there is not room for a T wave."""
    return first + signal.find_peaks(x[first:last])[0] if last - first > round(60 * MS) else np.empty(0, int)


def _first_valley(magnitude: np.ndarray) -> int:
    """How far behind the peak, which comes first, the first minimum lies that is more than half way down."""
    low = (magnitude[0] + magnitude.min()) / 2
    inner = magnitude[1:-1]
    valleys = np.flatnonzero((inner < low) & (inner <= magnitude[:-2]) & (inner <= magnitude[2:]))
    return int(valleys[0]) + 1 if len(valleys) else len(magnitude) - 1
