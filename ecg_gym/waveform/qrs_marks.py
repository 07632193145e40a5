"""QRS onset and end: where spatial velocity (norm over leads of the slope) leaves its floor and stays away."""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform.arrays import largest, slope_at, smoothed, sort
from ecg_gym.waveform.rules import MS, Numbers

_NEAREST = round(30 * MS)


@compiled
def qrs_marks(signal: np.ndarray, r: int, amid_waves: bool, rules: Numbers) -> tuple[int, int]:
    """First and last column of the QRS around R of a median beat ``(8, W)``; onset -1 where it is not found.

    Where velocity never stays below its floor (a fast ventricular rhythm has no flat ST segment), the calmest moment
    within reach is taken. ``amid_waves`` takes the usual velocity of what surrounds the QRS for its floor, not that of
    its quiet parts.
    """
    leads, width = signal.shape
    smooth, velocity = np.empty_like(signal), np.zeros(width, np.float32)
    smoothed(signal, width, rules.qrs_kernel, smooth)
    for lead in range(leads):
        for i in range(width):
            step = slope_at(smooth[lead], i, 0, width)
            velocity[i] += step * step
    for i in range(width):
        velocity[i] = math.sqrt(velocity[i])
    steepest = largest(velocity, r - round(60 * MS), r + round(60 * MS))
    highest = velocity[steepest]
    usual, times = (0.7, 3.0) if amid_waves else (0.2, 1.0)
    share, most = np.float32(rules.velocity_fraction) * highest, np.float32(times * rules.largest_floor) * highest
    before = min(_floor(velocity, r - round(200 * MS), r - round(50 * MS), usual), most)
    behind = min(_floor(velocity, r + round(60 * MS), r + round(200 * MS), usual), most)
    onset = steepest - _calm(velocity, steepest, -1, share + before, rules)
    end = steepest + _calm(velocity, steepest, 1, share + behind, rules)
    return (onset if onset > round(20 * MS) else -1), end


@compiled
def _floor(x: np.ndarray, first: int, last: int, share: float) -> float:
    """The value below which ``share`` of ``x[first:last]`` lies, without interpolation."""
    part = x[first:last].copy()
    sort(part, len(part))
    return part[int(share * (len(part) - 1))]


@compiled
def _calm(velocity: np.ndarray, start: int, way: int, level: float, rules: Numbers) -> int:
    """How many columns from ``start`` on, one way, velocity needs to fall below ``level`` and to stay there."""
    there = start + 1 if way < 0 else len(velocity) - start
    reach, quiet, run = min(rules.longest_half_qrs, there), rules.quiet, 0
    for i in range(reach):
        run = run + 1 if velocity[start + way * i] < level else 0
        if run == quiet:
            return i - quiet + 1
    best, index, n = np.float32(1e30), 0, reach - _NEAREST
    for i in range(n):
        total = np.float32(0)
        for k in range(-(quiet // 2), quiet - quiet // 2):
            j = i + k
            j = -1 - j if j < 0 else 2 * n - 1 - j if j >= n else j
            total += velocity[start + way * (_NEAREST + j)]
        if total < best:
            best, index = total, i
    return _NEAREST + index
