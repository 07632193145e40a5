"""P onset: a bump between the T wave before and the QRS that every beat repeats, or none.

It may ride on the descent of that T but not be its foot, must have a size, and look the same in the single beats, which
fibrillatory waves and dissociated P waves do not.
"""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform.arrays import largest, local_maxima, magnitude, slope_at, smallest, smoothed
from ecg_gym.waveform.rules import MS, Numbers

FOUND, NO_ROOM, NO_WAVE, NOT_REPEATED, FLUTTER, NO_END = range(6)  # what was made out of a P wave
_NAN = math.nan
_WING, _BEFORE_TOP, _RISE = round(24 * MS), round(20 * MS), round(90 * MS)


@compiled
def p_onset(
    singles: np.ndarray, n: int, leads: np.ndarray, r: int, qrs_onset: int, last_t_peak: float, last_t_end: float,
    rr_ms: float, least_mv: float, rules: Numbers,
) -> tuple[float, int]:  # fmt: skip
    """P onset [column] or NaN, and a code; the T wave of the beat before has its peak and end there (NaN if unknown).

    ``singles (n or more, 8, W)`` are the beats that the median beat ``leads (8, W)`` was made of.
    """
    half, width = rules.p_half, qrs_onset - 1
    first = max(round(20 * MS), r - int(np.rint(min(370.0, 0.52 * rr_ms) * MS)))
    last = qrs_onset - round(12 * MS)
    if math.isfinite(last_t_end):
        first = max(first, int(np.rint((last_t_peak + last_t_end) / 2)))
    elif math.isfinite(last_t_peak):
        first = max(first, int(np.rint(last_t_peak)) + half)
    if last - first < round(30 * MS):
        return _NAN, NO_ROOM
    bump, size = np.empty((leads.shape[0], width), np.float32), np.empty(width, np.float32)
    stand_out(leads, 0, width, rules, bump)
    magnitude(bump, width, size)
    peak = _peak(leads, bump, size, first, last, qrs_onset, rules)
    if peak < 0:
        return _NAN, NO_WAVE
    begin, end = max(0, peak - 2 * half), min(peak + 2 * half, width)
    if size[peak] < least_mv or _likeness(singles, n, begin, end, rules) < rules.p_likeness:
        return _NAN, NOT_REPEATED
    if _flutters(leads, bump, peak, last_t_end, rules):
        return _NAN, FLUTTER
    on_t = math.isfinite(last_t_end) and peak - round(100 * MS) < last_t_end
    onset = _onset(leads, width, peak, on_t, last_t_peak, rules)
    return (onset, FOUND) if math.isfinite(onset) else (_NAN, NO_END)


@compiled
def stand_out(leads: np.ndarray, first: int, last: int, rules: Numbers, out: np.ndarray) -> None:
    """How far each column of ``leads[:, first:last]`` stands out of the line between those to either side [mV]."""
    n, half = last - first, rules.p_half
    part, smooth = leads[:, first:last].copy(), np.empty((leads.shape[0], n), np.float32)
    smoothed(part, n, rules.bump_kernel, smooth)
    for lead in range(leads.shape[0]):
        for i in range(n):
            sides = smooth[lead, max(i - half, 0)] + smooth[lead, min(i + half, n - 1)]
            out[lead, i] = smooth[lead, i] - np.float32(0.5) * sides


@compiled
def _peak(
    leads: np.ndarray, bump: np.ndarray, size: np.ndarray, first: int, last: int, qrs_onset: int, rules: Numbers
) -> int:
    """The likeliest P peak between two columns, -1 for none; a shoulder of the T wave before is no top."""
    tops = np.empty((last - first) // 2 + 1, np.int64)
    n = local_maxima(size, first, last, tops)
    waves, order = np.zeros(n, np.bool_), np.argsort(-size[tops[:n]])
    best, peak = -1.0, -1
    for k in range(n):
        i = order[k]
        at = tops[i]
        if not _is_wave(leads, bump, size, tops, waves, i, rules):
            continue
        waves[i] = True
        ahead_ms = (qrs_onset - at) / MS
        usual = math.exp(-0.5 * ((ahead_ms - rules.usual_p_peak_ms) / rules.p_peak_spread_ms) ** 2)
        if size[at] * usual > best:
            best, peak = size[at] * usual, at
    return peak


@compiled
def _is_wave(
    leads: np.ndarray, bump: np.ndarray, size: np.ndarray, tops: np.ndarray, waves: np.ndarray, i: int, rules: Numbers
) -> bool:
    """Whether a top stands away from the level before the QRS in the direction in which it is bent, and is no bend
    the other way beside a taller wave."""
    at, away = tops[i], 0.0
    for lead in range(leads.shape[0]):
        away += leads[lead, at] * bump[lead, at]
    if not away > rules.p_away * size[at] ** 2:
        return False
    for j in range(len(waves)):
        if waves[j] and abs(tops[j] - at) < rules.foot_within:
            along = 0.0
            for lead in range(leads.shape[0]):
                along += bump[lead, at] * bump[lead, tops[j]]
            if along < -0.5 * size[at] * size[tops[j]]:
                return False
    return True


@compiled
def _likeness(singles: np.ndarray, n: int, first: int, last: int, rules: Numbers) -> float:
    """Mean correlation of the bumps of each of ``n`` beats with the mean of the others; 0 for fewer than three."""
    if n < 3:
        return 0.0
    count, k = singles.shape[1], last - first
    bumps, total = np.empty((n, count, k), np.float32), np.zeros((count, k), np.float32)
    for q in range(n):
        stand_out(singles[q], first, last, rules, bumps[q])
        for lead in range(count):
            for i in range(k):
                total[lead, i] += bumps[q, lead, i]
    mean = 0.0
    for q in range(n):
        dot, own, rest = np.float32(0), np.float32(0), np.float32(0)
        for lead in range(count):
            for i in range(k):
                x = bumps[q, lead, i]
                other = (total[lead, i] - x) / np.float32(n - 1)
                dot += x * other
                own += x * x
                rest += other * other
        mean += float(dot) / (math.sqrt(own) * math.sqrt(rest) + 1e-9) / n
    return mean


@compiled
def _flutters(leads: np.ndarray, bump: np.ndarray, peak: int, last_t_end: float, rules: Numbers) -> bool:
    """Whether a bump like the P wave's stands shortly before it and behind the T wave.

    Sinus nodes do not fire twice within 320 ms; flutter does.
    """
    half, first = rules.p_half, max(rules.p_half, peak - rules.flutter_first)
    if math.isfinite(last_t_end):
        first = max(first, int(np.rint(last_t_end)))
    last = peak - rules.flutter_last
    if last - first < 3:
        return False
    around = np.empty((leads.shape[0], last - first + 2 * half), np.float32)
    stand_out(leads, first - half, last + half, rules, around)
    height = 0.0
    for lead in range(leads.shape[0]):
        height += bump[lead, peak] ** 2
    height = math.sqrt(height)
    for i in range(half, around.shape[1] - half):
        along, size = 0.0, 0.0
        for lead in range(leads.shape[0]):
            along += bump[lead, peak] * around[lead, i]
            size += around[lead, i] ** 2
        along /= height
        if along > rules.flutter_cosine * math.sqrt(size) and along > rules.flutter_size * height:
            return True
    return False


@compiled
def _onset(leads: np.ndarray, width: int, peak: int, on_t: bool, last_t_peak: float, rules: Numbers) -> float:
    """Column where the P wave begins to rise, read along its own direction in lead space, before the QRS onset.

    NaN if it does not come down again: then it was the foot of the QRS.

    Its direction is that of the peak against the levels before and behind it, or, where a T wave is still coming down
    (``on_t``), that of its bend; there its rise may be hidden, and is taken to be no shorter than its fall. A
    projection keeps the sign and averages the noise, which a norm rectifies; the level it rises from is the lowest
    within 90 ms before the P peak, because the T wave before may still be falling.
    """
    count, smooth, wave = leads.shape[0], np.empty_like(leads), np.zeros(width, np.float32)
    smoothed(leads, width, rules.p_kernel, smooth)
    first, last = max(0, peak - _WING), min(peak + _WING, width)
    bump = np.empty((count, width), np.float32)
    if on_t:
        stand_out(smooth, 0, width, rules, bump)
    for lead in range(count):
        if on_t:
            along = _mean(bump[lead], first, last)
        else:
            far = _mean(smooth[lead], max(0, peak - round(110 * MS)), max(1, peak - round(90 * MS)))
            near = _mean(smooth[lead], width - round(10 * MS), width)
            along = _mean(smooth[lead], first, last) - (far + near) / 2
        for i in range(width):
            wave[i] += along * smooth[lead, i]
    top = largest(wave, max(0, peak - _BEFORE_TOP), min(peak + _BEFORE_TOP, width))
    start = max(0, top - _RISE)
    bottom = smallest(wave, start, top + 1)
    height = wave[top] - wave[bottom]
    if wave[top] - wave[smallest(wave, top, width)] < 0.2 * height or top == start:
        return _NAN
    half_way = bottom
    while half_way < top and wave[half_way] - wave[bottom] < 0.5 * height:
        half_way += 1
    steepest, fastest = bottom, slope_at(wave, bottom, start, top + 1)
    for i in range(bottom + 1, top + 1):
        slope = slope_at(wave, i, start, top + 1)
        if slope > fastest:
            steepest, fastest = i, slope
    steepest = min(steepest, half_way + round(8 * MS))
    onset = start
    for i in range(steepest - 1, start - 1, -1):
        if slope_at(wave, i, start, top + 1) < rules.p_slope * fastest:
            onset = i
            break
    mirrored = top - _fall(wave, top, width, rules) if on_t else onset
    return float(min(onset, mirrored) if mirrored > last_t_peak else onset)


@compiled
def _mean(x: np.ndarray, first: int, last: int) -> float:
    total = np.float32(0)
    for i in range(first, last):
        total += x[i]
    return float(total / np.float32(last - first))


@compiled
def _fall(wave: np.ndarray, top: int, width: int, rules: Numbers) -> int:
    """How many columns behind its top a P wave has come down: where its slope has become gentle."""
    if width - top < 2:
        return 0
    steepest, fastest = top, -slope_at(wave, top, top, width)
    for i in range(top + 1, min(top + _RISE, width)):
        slope = -slope_at(wave, i, top, width)
        if slope > fastest:
            steepest, fastest = i, slope
    for i in range(steepest, width):
        if -slope_at(wave, i, top, width) < rules.p_slope * fastest:
            return i - top
    return 0
