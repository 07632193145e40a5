"""Families: which beats of a strip look alike, and the typical beat of the largest family."""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform.r_peaks import RATE_HZ

BEFORE_S, AFTER_S = 0.52, 0.80  # the typical beat reaches from this long before R to this long behind it
LEAST_BEFORE_S, LEAST_AFTER_S = 0.40, 0.60  # a beat that the strip cuts off nearer to its R is not used
LIKE = 0.9  # correlation of two QRS over all leads from which on they are of one family
LEAST_FAMILY = 0.33  # of the beats: fibrillating ventricles repeat less, torsade as well
SECOND_FAMILY = 0.4  # of the largest family: a family of this size may be the one to measure
NARROWER = 0.85  # if its QRS is narrower than that
BEFORE, WIDTH = round(BEFORE_S * RATE_HZ), round(BEFORE_S * RATE_HZ) + round(AFTER_S * RATE_HZ)
_FIRST, _LAST = round(LEAST_BEFORE_S * RATE_HZ), round(LEAST_AFTER_S * RATE_HZ)
_REACH, _POINTS = 12, 41  # lags to either side [samples], and points of a QRS, at every second sample
_LAGS = 2 * _REACH + 1
_SMALL_PRODUCT = 250_000  # multiplications; a matrix library starts threads for more, which cost more than they bring
_AROUND = 60  # samples to either side of R within which the width of a QRS is read


@compiled
def family_beats(
    leads: np.ndarray, peaks: np.ndarray, n: int, most: int, members: np.ndarray, singles: np.ndarray
) -> int:
    """Fills ``singles (m, 8, WIDTH)`` with the aligned beats of the largest family of look-alike ones; how many.

    Two beats look alike if their QRS correlate above 0.9 over all leads at the best lag (within 24 ms). The beat with
    the best company leads the family; the others are shifted to fit it. Where a second family is almost as large and
    its QRS clearly narrower, that one is taken: in bigeminy the conducted beat is measured, not the ectopic one.
    ``members`` says which of the ``n`` peaks are in. Zero where there is no family.
    """
    samples, whole = leads.shape[1], np.empty(n, np.int64)
    count = 0
    for i in range(n):
        members[i] = False
        if _FIRST <= peaks[i] <= samples - _LAST:
            whole[count] = i
            count += 1
    if count > most:  # a long strip does not need every beat
        for k in range(most):
            whole[k] = whole[int(np.rint(k * (count - 1) / (most - 1)))]
        count = most
    if count < 2:
        return 0
    at = np.empty(count, np.int64)
    for k in range(count):
        at[k] = peaks[whole[k]]
    alike, lag = alikeness(leads, at)
    leader, member = _family(alike, leads, at)
    m = 0
    for k in range(count):
        m += member[k]
    if m < max(2.0, LEAST_FAMILY * count):
        return 0
    m = 0
    for k in range(count):
        if not member[k]:
            continue
        members[whole[k]] = True
        begin = at[k] + lag[k, leader] - BEFORE
        for lead in range(leads.shape[0]):
            # wander that the filter left must not blur the median: every beat starts from its own level before the QRS
            row, level = singles[m, lead], np.float32(0)
            if begin >= 0 and begin + WIDTH <= samples:
                row[:] = leads[lead, begin : begin + WIDTH]
            else:
                for c in range(WIDTH):
                    row[c] = leads[lead, min(max(begin + c, 0), samples - 1)]
            for c in range(BEFORE - 60, BEFORE - 30):
                level += row[c]
            level /= np.float32(30)
            for c in range(WIDTH):
                row[c] -= level
        m += 1
    return m


@compiled
def alikeness(leads: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation ``(N, N)`` of every QRS with every other at the best lag, and that lag ``(N, N)`` [samples].

    Entry (i, j) says how far beat i must be shifted to look like beat j, and how much it then does. QRS are compared at
    every second sample.
    """
    count, samples, n = leads.shape[0], leads.shape[1], len(peaks)
    pieces, size = np.empty((n * _LAGS, count * _POINTS), np.float32), np.empty(n * _LAGS, np.float32)
    centred = np.empty((n, count * _POINTS), np.float32)
    for i in range(n):
        for k in range(_LAGS):
            row, begin, energy = i * _LAGS + k, peaks[i] - _REACH - (_POINTS - 1) + k, 0.0
            inside = begin >= 0 and begin + 2 * _POINTS < samples
            for lead in range(count):
                piece = pieces[row, lead * _POINTS : (lead + 1) * _POINTS]
                if inside:
                    for p in range(_POINTS):
                        piece[p] = leads[lead, begin + 2 * p]
                else:
                    for p in range(_POINTS):
                        piece[p] = leads[lead, min(max(begin + 2 * p, 0), samples - 1)]
                first = piece[_POINTS // 2]
                total, squares = np.float32(0), np.float32(0)
                for p in range(_POINTS):
                    value = piece[p] - first
                    total += value
                    squares += value * value
                energy += max(float(squares) - float(total) * float(total) / _POINTS, 0.0)
            size[row] = math.sqrt(energy) + 1e-9
        energy = 0.0
        for lead in range(count):
            total = np.float32(0)
            for p in range(_POINTS):
                total += pieces[i * _LAGS + _REACH, lead * _POINTS + p]
            mean = total / np.float32(_POINTS)
            for p in range(_POINTS):
                value = pieces[i * _LAGS + _REACH, lead * _POINTS + p] - mean
                centred[i, lead * _POINTS + p] = value
                energy += value * value
        scale = np.float32(1 / (math.sqrt(energy) + 1e-9))
        for p in range(count * _POINTS):
            centred[i, p] *= scale
    match, other = np.empty((n * _LAGS, n), np.float32), centred.T.copy()
    rows = max(1, _SMALL_PRODUCT // (n * count * _POINTS))
    for begin in range(0, n * _LAGS, rows):  # a centred one ignores a level
        match[begin : begin + rows] = np.dot(pieces[begin : begin + rows], other)
    alike, lag = np.empty((n, n), np.float32), np.empty((n, n), np.int64)
    for i in range(n):
        for j in range(n):
            best, shift = np.float32(-9), 0
            for k in range(_LAGS):
                value = match[i * _LAGS + k, j] / size[i * _LAGS + k]
                if value > best:
                    best, shift = value, k
            alike[i, j], lag[i, j] = best, shift - _REACH
    return alike, lag


@compiled
def _family(alike: np.ndarray, leads: np.ndarray, peaks: np.ndarray) -> tuple[int, np.ndarray]:
    """The leader of the chosen family, and who is in it ``(N,)`` bool."""
    n = len(peaks)
    company, leader = np.zeros(n, np.float32), 0
    for j in range(n):
        for i in range(n):
            if alike[i, j] > np.float32(LIKE):
                company[j] += alike[i, j]
        if company[j] > company[leader]:
            leader = j
    member, rest, others = np.zeros(n, np.bool_), np.zeros(n, np.bool_), 0
    second = -1
    for i in range(n):
        member[i] = alike[i, leader] > np.float32(LIKE)
        if not member[i]:
            others += 1
            if second < 0 or company[i] > company[second]:
                second = i
    least = max(2.0, SECOND_FAMILY * (n - others))
    if others < least:
        return leader, member
    count = 0
    for i in range(n):
        rest[i] = alike[i, second] > np.float32(LIKE) and not member[i]
        count += rest[i]
    if count < least or _width(leads, peaks, rest) >= NARROWER * _width(leads, peaks, member):
        return leader, member
    return second, rest


@compiled
def _width(leads: np.ndarray, peaks: np.ndarray, of: np.ndarray) -> float:
    """Mean width [samples] of the QRS of some peaks: area of the spatial velocity over its height."""
    samples, total, count = leads.shape[1], 0.0, 0
    velocity = np.empty(2 * _AROUND, np.float32)
    for q in range(len(peaks)):
        if not of[q]:
            continue
        velocity[:] = 0
        begin = peaks[q] - _AROUND
        inside = begin >= 0 and begin + 2 * _AROUND < samples
        for lead in range(leads.shape[0]):
            if inside:
                for k in range(2 * _AROUND):
                    step = leads[lead, begin + k + 1] - leads[lead, begin + k]
                    velocity[k] += step * step
                continue
            for k in range(2 * _AROUND):
                low, high = min(max(begin + k, 0), samples - 1), min(max(begin + k + 1, 0), samples - 1)
                velocity[k] += (leads[lead, high] - leads[lead, low]) ** 2
        area, height = 0.0, 0.0
        for k in range(2 * _AROUND):
            speed = math.sqrt(velocity[k])
            area += speed
            height = max(height, speed)
        total += area / (height + 1e-9)
        count += 1
    return total / count


@compiled
def middle_beat(singles: np.ndarray, n: int, out: np.ndarray) -> None:
    """Interquartile mean ``(8, W)`` of ``n`` beats: ignores a stray beat as the median does, averages noise better."""
    flat = singles.reshape(singles.shape[0], -1)[:n].copy()
    target = out.reshape(-1)
    _sort_columns(flat, n)
    quarter = n // 4
    first, last = (quarter, n - quarter) if quarter > 0 else ((n - 1) // 2, n // 2 + 1)
    for c in range(len(target)):
        target[c] = 0
    for i in range(first, last):
        for c in range(len(target)):
            target[c] += flat[i, c]
    share = np.float32(1 / (last - first))
    for c in range(len(target)):
        target[c] *= share


@compiled
def _sort_columns(s: np.ndarray, n: int) -> None:
    """Every column of ``s (n, W)`` sorted: Batcher's merge exchange (1968), in blocks of columns that stay in cache."""
    columns = s.shape[1]
    for begin in range(0, columns, 512):
        end = min(columns, begin + 512)
        p = 1
        while p < n:
            k = p
            while k >= 1:
                for j in range(k % p, n - k, 2 * k):
                    for i in range(min(k, n - j - k)):
                        if (i + j) // (p * 2) == (i + j + k) // (p * 2):
                            for c in range(begin, end):
                                a, b = s[i + j, c], s[i + j + k, c]
                                s[i + j, c] = a if a < b else b
                                s[i + j + k, c] = b if a < b else a
                k //= 2
            p *= 2
