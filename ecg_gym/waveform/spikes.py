"""Spikes: a pacemaker's stimulus or a recorder's glitch, a few milliseconds wide, taken out before filtering.

A filter would smear a spike over 40 ms and the QRS would seem to begin there. A spike rises and falls within 6 ms in
one piece out of a calm neighbourhood, which no QRS does: 6 ms beside the top of an R wave of 40 ms it has lost a fifth.
"""

from __future__ import annotations

import numpy as np

LOWEST_RATE_HZ = 250.0  # below it a spike is as wide as a QRS: it stays
REACH_S = 0.006  # a spike has come and gone within this time to either side
NEIGHBOURHOOD_S = 0.018  # and the time before that was calm
LEAST_SPIKE_MV = 0.15  # vector magnitude
LARGEST_DRIFT = 0.35  # of the spike's height: how much the neighbourhood may move
LEAST_CONTRAST = 12.0  # over the median of the same measure on the strip


def without_spikes(leads: np.ndarray, rate_hz: float) -> np.ndarray:
    """``(B, L, T)`` [mV] with each spike replaced by a straight line in all leads; unchanged below 250 Hz."""
    near, far = round(REACH_S * rate_hz), round((REACH_S + NEIGHBOURHOOD_S) * rate_hz)
    if rate_hz < LOWEST_RATE_HZ or leads.shape[-1] < 4 * far:
        return leads
    suspects = np.flatnonzero(_largest_jump(leads, near) > LEAST_SPIKE_MV)
    cleaned = leads
    for row in suspects:
        at = _spikes(leads[row], near, far)
        if len(at):
            cleaned = cleaned.copy() if cleaned is leads else cleaned
            cleaned[row] = _bridged(leads[row], at, max(1, near // 2))
    return cleaned


def _largest_jump(leads: np.ndarray, near: int) -> np.ndarray:
    """``(B,)`` [mV] an upper bound of what `_spikes` may find: the largest change within ``near`` samples."""
    change = np.abs(leads[..., near:] - leads[..., :-near]).max(axis=-1)
    return np.sqrt((change**2).sum(axis=-1))


def _spikes(leads: np.ndarray, near: int, far: int) -> np.ndarray:
    """Columns of ``(L, T)`` that stick out of both sides, with calm before."""
    middle, left, right = leads[:, far:-near], leads[:, far - near : -2 * near], leads[:, far + near :]
    rise, fall = middle - left, middle - right
    height = np.where(rise * fall > 0, np.minimum(np.abs(rise), np.abs(fall)), 0)
    height = np.sqrt((height**2).sum(axis=0))
    drift = np.sqrt(((left - leads[:, : -far - near]) ** 2).sum(axis=0))
    stands_out = height > max(LEAST_SPIKE_MV, LEAST_CONTRAST * float(np.median(height)))
    return far + np.flatnonzero(stands_out & (drift < LARGEST_DRIFT * height))


def _bridged(leads: np.ndarray, at: np.ndarray, aside: int) -> np.ndarray:
    """``(L, T)`` with straight lines over the columns ``at`` and ``aside`` columns around them."""
    columns = np.arange(leads.shape[-1])
    bad = np.isin(columns, (at[:, None] + np.arange(-aside, aside + 1)).ravel())
    good = columns[~bad]
    bridged = leads.copy()
    for lead in bridged:
        lead[bad] = np.interp(columns[bad], good, lead[good])
    return bridged
