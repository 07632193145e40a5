"""Small compiled operations on signals that the delineator shares: medians, slopes, smoothing, magnitudes."""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled


@compiled
def sort(x: np.ndarray, n: int) -> None:
    """Sorts the first ``n`` of ``x`` in place (Shell 1959); they are few."""
    gap = n // 2
    while gap > 0:
        for i in range(gap, n):
            value, j = x[i], i
            while j >= gap and x[j - gap] > value:
                x[j] = x[j - gap]
                j -= gap
            x[j] = value
        gap //= 2


@compiled
def median_of(x: np.ndarray, n: int) -> float:
    """The median of the first ``n`` numbers, which are sorted on the way."""
    sort(x, n)
    half = n // 2
    return float(x[half]) if n % 2 else 0.5 * (float(x[half - 1]) + float(x[half]))


@compiled
def share_of(x: np.ndarray, n: int, share: float) -> float:
    """The quantile of the first ``n`` numbers, interpolated; they are sorted on the way."""
    sort(x, n)
    place = (n - 1) * share
    low = int(place)
    high = min(low + 1, n - 1)
    return float(x[low]) + (float(x[high]) - float(x[low])) * (place - low)


@compiled
def local_maxima(x: np.ndarray, first: int, last: int, out: np.ndarray) -> int:
    """Columns of the local maxima of ``x[first:last]``, the middle of flat ones; how many."""
    n, i = 0, first + 1
    while i < last - 1:
        if x[i - 1] < x[i]:
            ahead = i + 1
            while ahead < last - 1 and x[ahead] == x[i]:
                ahead += 1
            if x[ahead] < x[i]:
                out[n] = (i + ahead - 1) // 2
                n += 1
                i = ahead
        i += 1
    return n


@compiled
def smoothed(x: np.ndarray, width: int, kernel: np.ndarray, out: np.ndarray) -> None:
    """``x[:, :width]`` convolved with a symmetric kernel, mirrored at both ends."""
    reach = len(kernel) // 2
    padded = np.empty(width + 2 * reach, x.dtype)
    for lead in range(x.shape[0]):
        for i in range(width):
            padded[reach + i] = x[lead, i]
        for i in range(reach):
            padded[reach - 1 - i] = x[lead, min(i, width - 1)]
            padded[reach + width + i] = x[lead, max(width - 1 - i, 0)]
        row = out[lead]
        for i in range(width):
            row[i] = 0
        for k in range(len(kernel)):
            weight = kernel[k]
            for i in range(width):
                row[i] += weight * padded[i + k]


@compiled
def magnitude(x: np.ndarray, width: int, out: np.ndarray) -> None:
    """Vector magnitude over leads of ``x[:, :width]``."""
    for i in range(width):
        out[i] = 0
    for lead in range(x.shape[0]):
        for i in range(width):
            out[i] += x[lead, i] * x[lead, i]
    for i in range(width):
        out[i] = math.sqrt(out[i])


@compiled
def slope_at(x: np.ndarray, i: int, first: int, last: int) -> float:
    """The slope per column of ``x[first:last]`` at ``i``: central, one-sided at the ends."""
    if i == first:
        return x[first + 1] - x[first]
    if i == last - 1:
        return x[last - 1] - x[last - 2]
    return 0.5 * (x[i + 1] - x[i - 1])


@compiled
def largest(x: np.ndarray, first: int, last: int) -> int:
    """The column of the largest of ``x[first:last]``, the first of equals."""
    best = first
    for i in range(first + 1, last):
        if x[i] > x[best]:
            best = i
    return best


@compiled
def smallest(x: np.ndarray, first: int, last: int) -> int:
    """The column of the smallest of ``x[first:last]``, the first of equals."""
    best = first
    for i in range(first + 1, last):
        if x[i] < x[best]:
            best = i
    return best
