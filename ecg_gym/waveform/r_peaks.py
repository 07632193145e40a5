"""R peaks: beats on the QRS envelope of a strip (norm over leads of the 7 to 30 Hz band), at the largest magnitude."""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform.arrays import largest, local_maxima, median_of, share_of, sort

RATE_HZ = 500.0  # every measurement is made on this grid: 2 ms
ENVELOPE_HZ = RATE_HZ / 2
REFRACTORY_S = 0.20  # no ventricle beats twice within this time
T_WAVE_S = 0.36  # a much smaller bump within this time of a beat is its T wave (Pan 1985 doi:10.1109/TBME.1985.325532)
EDGE_S = 0.04  # a complex that the edge of the strip cuts through cannot be told from a glitch of the recorder
LEAST_ENVELOPE_MV = 0.02  # the smallest QRS that is believed
LEAST_CONTRAST = 2.5  # QRS over the quiet quarter of the strip; white noise on 8 leads stays below 2
_WINDOW_S = 0.06  # Hann window that smooths the envelope
_DISTANCE, _EDGE = round(REFRACTORY_S * ENVELOPE_HZ), round(EDGE_S * ENVELOPE_HZ)
_REACH, _ASIDE = round(0.05 * RATE_HZ), round(0.08 * RATE_HZ)


def hann() -> np.ndarray:
    """The window that smooths the envelope, of unit area, float32."""
    window = np.hanning((round(_WINDOW_S * ENVELOPE_HZ) | 1) + 2)[1:-1]
    return (window / window.sum()).astype(np.float32)


@compiled
def r_peaks(leads: np.ndarray, band: np.ndarray, window: np.ndarray, out: np.ndarray) -> int:
    """R peaks [samples at RATE_HZ] of conditioned leads ``(8, T)`` whose QRS band is ``band (8, T/2)``; how many."""
    envelope = _envelope(band, window)
    n = _beats_on(envelope, out)
    for i in range(n):
        out[i] = _at_largest(2 * out[i], leads)
    return n


@compiled
def _envelope(band: np.ndarray, window: np.ndarray) -> np.ndarray:
    n, reach = band.shape[1], len(window) // 2
    size, out = np.zeros(n + 2 * reach, np.float32), np.zeros(n, np.float32)
    for lead in range(band.shape[0]):
        for i in range(n):
            size[reach + i] += band[lead, i] * band[lead, i]
    for i in range(n):
        size[reach + i] = math.sqrt(size[reach + i])
    for k in range(len(window)):
        for i in range(n):
            out[i] += window[k] * size[i + k]
    return out


@compiled
def _beats_on(envelope: np.ndarray, beats: np.ndarray) -> int:
    """Beats [samples at 250 Hz] on one QRS envelope [mV]; none on a flat or noise-only strip."""
    n = _apart(envelope, beats)
    if n == 0:
        return 0
    # At 36/min a 10 s strip holds six beats: the typical QRS is the median of at least that many top candidates.
    height = np.empty(n, np.float32)
    for i in range(n):
        height[i] = -envelope[beats[i]]
    most = min(n, max(3, int(np.rint(len(envelope) / ENVELOPE_HZ * 0.6))))
    sort(height, n)  # the tallest first
    typical = -median_of(height, most)
    if typical < LEAST_ENVELOPE_MV or typical < LEAST_CONTRAST * _quarter(envelope):
        return 0
    count = 0
    for i in range(n):
        at = beats[i]
        if envelope[at] > 0.3 * typical and _EDGE <= at < len(envelope) - _EDGE:
            beats[count] = at
            count += 1
    count = _without_t_waves(beats, count, envelope)
    return _without_tall_t_waves(beats, count, envelope)


@compiled
def _apart(envelope: np.ndarray, out: np.ndarray) -> int:
    """Local maxima at least the refractory period apart, taller ones first."""
    tops = np.empty(len(envelope) // 2 + 1, np.int64)
    n = local_maxima(envelope, 0, len(envelope), tops)
    height = np.empty(n, np.float32)
    for i in range(n):
        height[i] = envelope[tops[i]]
    order, keep = np.argsort(height), np.ones(n, np.bool_)
    for place in range(n - 1, -1, -1):
        i = order[place]
        if not keep[i]:
            continue
        j = i - 1
        while j >= 0 and tops[i] - tops[j] < _DISTANCE:
            keep[j] = False
            j -= 1
        j = i + 1
        while j < n and tops[j] - tops[i] < _DISTANCE:
            keep[j] = False
            j += 1
    count = 0
    for i in range(n):
        if keep[i]:
            out[count] = tops[i]
            count += 1
    return count


@compiled
def _quarter(x: np.ndarray) -> float:
    """The 25th percentile, interpolated."""
    n = len(x)
    place = (n - 1) / 4
    low = int(place)
    part = np.partition(x, low)
    high = part[low]
    if low + 1 < n:
        high = part[low + 1 :].min()
    return part[low] + (high - part[low]) * (place - low)


@compiled
def _without_t_waves(peaks: np.ndarray, n: int, envelope: np.ndarray) -> int:
    """Drops the peaks that follow a more than twice as tall one within ``T_WAVE_S``."""
    count = 0
    for i in range(n):
        if count > 0:
            near = peaks[i] - peaks[count - 1] < T_WAVE_S * ENVELOPE_HZ
            if near and envelope[peaks[i]] < 0.5 * envelope[peaks[count - 1]]:
                continue
        peaks[count] = peaks[i]
        count += 1
    return count


@compiled
def _without_tall_t_waves(peaks: np.ndarray, n: int, envelope: np.ndarray) -> int:
    """Drops T waves as tall as their wide QRS: every other peak, always as soon after the one before.

    A premature beat can follow as soon, but not every time within the T wave, and it is rarely the smaller one.
    """
    if n < 5:
        return n
    coupling, tall, short, count, last = np.empty(n), np.empty(n), np.empty(n), 0, -2
    for i in range(1, n - 1):
        gap, after = peaks[i] - peaks[i - 1], peaks[i + 1] - peaks[i]
        if gap < T_WAVE_S * ENVELOPE_HZ and gap < 0.75 * after:
            if last == i - 1:
                return n
            coupling[count], short[count], tall[count] = gap, envelope[peaks[i]], envelope[peaks[i - 1]]
            count, last = count + 1, i
    if count < 0.4 * n:
        return n
    spread = share_of(coupling, count, 0.75) - share_of(coupling, count, 0.25)
    usual = median_of(coupling, count)
    if not spread < 0.1 * usual or median_of(short, count) >= median_of(tall, count):
        return n
    size, before = 1, peaks[0]
    for i in range(1, n):
        gap, before = peaks[i] - before, peaks[i]
        if not abs(gap - usual) < 0.15 * usual:
            peaks[size] = before
            size += 1
    return size


@compiled
def _at_largest(peak: int, leads: np.ndarray) -> int:
    """The peak moved to the largest vector magnitude of ``leads (8, T)`` within 50 ms.

    The magnitude is taken over the mean of the levels 80 ms before and behind, so that wander, a steep ST segment or
    the end of the strip does not choose between R and S.
    """
    last = leads.shape[1] - 1
    before, behind = min(max(peak - _ASIDE, 0), last), min(max(peak + _ASIDE, 0), last)
    height = np.zeros(2 * _REACH + 1, np.float32)
    for lead in range(leads.shape[0]):
        level = (leads[lead, before] + leads[lead, behind]) * np.float32(0.5)
        for k in range(2 * _REACH + 1):
            over = leads[lead, min(max(peak - _REACH + k, 0), last)] - level
            height[k] += over * over
    return min(max(peak - _REACH + largest(height, 0, len(height)), 0), last)
