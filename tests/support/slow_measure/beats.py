"""Beats: where the R peaks are, and what the typical beat of a strip looks like.

Both use the 8 independent leads together, so that a low-voltage lead, a ventricular extrasystole of another polarity or
a tall T wave in one lead does not decide. Beats are found on the spatial QRS envelope (norm over leads of the 7-30 Hz
band); the median beat is taken over the largest family of beats that look alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal as sp

from ecg_gym.core import ECG, independent_from_leads
from ecg_gym.waveform.filters import spectral
from ecg_gym.waveform.intervals import median
from ecg_gym.waveform.spikes import without_spikes

RATE_HZ = 500.0  # every measurement is made on this grid: 2 ms
BEFORE_S, AFTER_S = 0.52, 0.80  # the typical beat reaches from this long before R to this long behind it
LEAST_BEFORE_S, LEAST_AFTER_S = 0.40, 0.60  # a beat that the strip cuts off nearer to its R is not used
WANDER_HZ = (0.2, 0.6)  # baseline wander is taken out below these edges
NOISE_HZ = (25.0, 60.0)  # and mains, muscle and more above these; a gentle slope, or the QRS would ring
QRS_HZ = ((5.0, 9.0), (25.0, 35.0))  # the band in which QRS complexes stand out from P and T
REFRACTORY_S = 0.20  # no ventricle beats twice within this time
T_WAVE_S = 0.36  # a much smaller bump within this time of a beat is its T wave (Pan 1985 doi:10.1109/TBME.1985.325532)
EDGE_S = 0.04  # a complex that the edge of the strip cuts through cannot be told from a glitch of the recorder
LEAST_ENVELOPE_MV = 0.02  # the smallest QRS that is believed
LEAST_CONTRAST = 2.5  # QRS over the quiet quarter of the strip; white noise on 8 leads stays below 2
LIKE = 0.9  # correlation of two QRS over all leads from which on they are of one family
LEAST_FAMILY = 0.33  # of the beats: fibrillating ventricles repeat less, torsade as well
SECOND_FAMILY = 0.4  # of the largest family: a family of this size may be the one to measure
NARROWER = 0.85  # if its QRS is narrower than that
CHUNK = 64  # strips filtered at once: beyond this the intermediate arrays fall out of cache


@dataclass(frozen=True)
class Beat:
    """The typical beat of one strip, and the beats it was made of."""

    signal: np.ndarray  # (8, W) [mV] interquartile mean over beats, independent leads, RATE_HZ; R at `r`
    singles: np.ndarray  # (n, 8, W) [mV] the aligned beats it was made of
    r: int  # column of the R peak
    peaks: np.ndarray  # (N,) [samples at RATE_HZ] every R peak of the strip, whatever its kind
    kept: np.ndarray  # (N,) bool: which of them went into it

    @property
    def next_rr_ms(self) -> float:
        """Median RR [ms] behind the kept beats: in bigeminy much shorter than the one before them."""
        rr = np.diff(self.peaks)[self.kept[:-1]]
        return median(rr if len(rr) else np.diff(self.peaks)) * 1000 / RATE_HZ

    @property
    def previous_rr_ms(self) -> float:
        """Median RR [ms] before the kept beats."""
        rr = np.diff(self.peaks)[self.kept[1:]]
        return median(rr if len(rr) else np.diff(self.peaks)) * 1000 / RATE_HZ


def conditioned(ecg: ECG) -> np.ndarray:
    """The 8 independent leads at 500 Hz, 0.4 to 42 Hz (half gain), zero phase, without spikes: ``(B, 8, T)`` [mV]."""
    signal = ecg.signal if ecg.signal.ndim == 3 else ecg.signal[None]
    leads = without_spikes(independent_from_leads(signal), ecg.rate_hz)
    return spectral(leads, ecg.rate_hz, RATE_HZ, low=WANDER_HZ, high=NOISE_HZ)


def find_r_peaks(ecg: ECG) -> list[np.ndarray]:
    """Sample numbers of the R peaks on the strip's own grid, one int array per row (empty where no beat was found)."""
    leads = conditioned(ecg)
    return [np.round(peaks * (ecg.rate_hz / RATE_HZ)).astype(int) for peaks in r_peaks_of(leads)]


def median_beat(ecg: ECG) -> list[Beat | None]:
    """The typical beat of each row, or ``None`` where no two beats look alike."""
    leads = conditioned(ecg)
    return [typical_beat(row, peaks) for row, peaks in zip(leads, r_peaks_of(leads))]


def r_peaks_of(leads: np.ndarray) -> list[np.ndarray]:
    """R peaks ``(N,)`` [samples] of conditioned leads ``(B, 8, T)``: the largest vector magnitude within each QRS."""
    band = spectral(leads, RATE_HZ, RATE_HZ / 2, low=QRS_HZ[0], high=QRS_HZ[1])
    envelope = _smooth(np.sqrt(np.einsum("blt,blt->bt", band, band)), round(0.06 * RATE_HZ / 2) | 1)
    return [_to_largest(2 * _beats_on(row), strip) for row, strip in zip(envelope, leads)]


def _smooth(x: np.ndarray, width: int) -> np.ndarray:
    """``(B, T)`` convolved with a Hann window of ``width`` samples and unit area."""
    window = np.hanning(width + 2)[1:-1]
    return sp.oaconvolve(x, (window / window.sum())[None], mode="same", axes=-1)


def _beats_on(envelope: np.ndarray) -> np.ndarray:
    """Beats ``(N,)`` [samples at 250 Hz] on one QRS envelope ``(T,)`` [mV]; empty for a flat or noise-only strip."""
    rate = RATE_HZ / 2
    candidates, _ = sp.find_peaks(envelope, distance=round(REFRACTORY_S * rate))
    if len(candidates) == 0:
        return candidates
    height = envelope[candidates]
    # At 36/min a 10 s strip holds six beats: the typical QRS is the median of at least that many top candidates.
    typical = median(np.sort(height)[-max(3, round(len(envelope) / rate * 0.6)) :])
    if typical < LEAST_ENVELOPE_MV or typical < LEAST_CONTRAST * _quarter(envelope):
        return candidates[:0]
    edge = round(EDGE_S * rate)
    candidates = candidates[(height > 0.3 * typical) & (candidates >= edge) & (candidates < len(envelope) - edge)]
    candidates = _without_t_waves(candidates, envelope[candidates], T_WAVE_S * rate)
    return _without_tall_t_waves(candidates, envelope[candidates], T_WAVE_S * rate)


def _quarter(x: np.ndarray) -> float:
    """The 25th percentile of ``(N,)`` numbers, interpolated."""
    place = (len(x) - 1) / 4
    low = int(place)
    part = np.partition(x, (low, min(low + 1, len(x) - 1)))
    return float(part[low] + (part[min(low + 1, len(x) - 1)] - part[low]) * (place - low))


def _without_t_waves(peaks: np.ndarray, height: np.ndarray, reach: float) -> np.ndarray:
    """The peaks without those that follow a more than twice as tall one within ``reach`` samples."""
    keep: list[int] = []
    for i in range(len(peaks)):
        if keep and peaks[i] - peaks[keep[-1]] < reach and height[i] < 0.5 * height[keep[-1]]:
            continue
        keep.append(i)
    return peaks[keep]


def _without_tall_t_waves(peaks: np.ndarray, height: np.ndarray, reach: float) -> np.ndarray:
    """The peaks without T waves as tall as their wide QRS: every other peak, always as soon after the one before.

    A premature beat can follow as soon, but not every time within the T wave, and it is rarely the smaller one.
    """
    if len(peaks) < 5:
        return peaks
    gap = np.diff(peaks)
    follows = np.flatnonzero((gap[:-1] < reach) & (gap[:-1] < 0.75 * gap[1:])) + 1
    if len(follows) < 0.4 * len(peaks) or (np.diff(follows) == 1).any():
        return peaks
    coupling = gap[follows - 1]
    alternate = np.subtract(*np.percentile(coupling, [75, 25])) < 0.1 * np.median(coupling)
    if not alternate or np.median(height[follows]) >= np.median(height[follows - 1]):
        return peaks
    usual = np.median(coupling)
    waves = np.flatnonzero(np.abs(gap - usual) < 0.15 * usual) + 1
    return np.delete(peaks, waves)


def _to_largest(peaks: np.ndarray, leads: np.ndarray) -> np.ndarray:
    """Each peak moved to the largest vector magnitude of ``leads (8, T)`` within 50 ms.

    The magnitude is taken over the mean of the levels 80 ms before and behind, so that wander, a steep ST segment or
    the end of the strip does not choose between R and S.
    """
    if len(peaks) == 0:
        return peaks
    reach, aside, last = round(0.05 * RATE_HZ), round(0.08 * RATE_HZ), leads.shape[-1] - 1
    window = np.clip(peaks[:, None] + np.arange(-reach, reach + 1), 0, last)
    level = (leads[:, np.clip(peaks - aside, 0, last)] + leads[:, np.clip(peaks + aside, 0, last)]) / 2
    height = ((leads[:, window] - level[:, :, None]) ** 2).sum(axis=0)
    return window[np.arange(len(peaks)), np.argmax(height, axis=1)]


def typical_beat(leads: np.ndarray, peaks: np.ndarray, most: int = 64) -> Beat | None:
    """The median over the largest family of look-alike beats in ``(8, T)`` [mV], or ``None`` if there is no family.

    Two beats look alike if their QRS correlate above 0.9 over all leads at the best lag (within 24 ms). The beat with
    the best company leads the family; the others are shifted to fit it. Where a second family is almost as large and
    its QRS clearly narrower, that one is taken: in bigeminy the conducted beat is measured, not the ectopic one.
    """
    before, after = round(BEFORE_S * RATE_HZ), round(AFTER_S * RATE_HZ)
    first, last = round(LEAST_BEFORE_S * RATE_HZ), leads.shape[-1] - round(LEAST_AFTER_S * RATE_HZ)
    whole = np.flatnonzero((peaks >= first) & (peaks <= last))
    if len(whole) > most:  # a long strip does not need every beat
        whole = whole[np.linspace(0, len(whole) - 1, most).round().astype(int)]
    if len(whole) < 2:
        return None
    alike, lag = _alikeness(leads, peaks[whole])
    leader, family = _family(alike, leads, peaks[whole])
    if len(family) < max(2, LEAST_FAMILY * len(whole)):
        return None
    kept = np.zeros(len(peaks), dtype=bool)
    kept[whole[family]] = True
    at = peaks[whole[family]] + lag[family, leader]
    columns = np.clip(at[:, None] + np.arange(-before, after), 0, leads.shape[-1] - 1)
    singles = leads[:, columns].transpose(1, 0, 2)
    # wander that the filter left must not blur the median: every beat starts from its own level before the QRS
    singles = singles - singles[:, :, before - 60 : before - 30].mean(axis=-1, keepdims=True)
    return Beat(_middle(singles), singles, before, peaks, kept)


def _middle(singles: np.ndarray) -> np.ndarray:
    """Interquartile mean over beats ``(n, 8, W)``: ignores a stray beat as the median does, averages noise better."""
    n = len(singles)
    cut = n // 4
    if cut == 0:
        return np.median(singles, axis=0)
    return np.sort(singles, axis=0)[cut : n - cut].mean(axis=0)  # numpy sorts faster than it partitions


def _family(alike: np.ndarray, leads: np.ndarray, peaks: np.ndarray) -> tuple[int, np.ndarray]:
    """The leader of the chosen family, and its members, as indices into ``peaks``."""
    close = alike > LIKE
    company = np.where(close, alike, 0).sum(axis=0)
    leader = int(np.argmax(company))
    family = np.flatnonzero(close[:, leader])
    others = np.flatnonzero(~close[:, leader])
    if len(others) < max(2, SECOND_FAMILY * len(family)):
        return leader, family
    second = int(others[np.argmax(company[others])])
    rest = np.flatnonzero(close[:, second] & ~close[:, leader])
    if len(rest) < max(2, SECOND_FAMILY * len(family)):
        return leader, family
    if _width(leads, peaks[rest]) < NARROWER * _width(leads, peaks[family]):
        return second, rest
    return leader, family


def _width(leads: np.ndarray, peaks: np.ndarray) -> float:
    """Mean width [samples] of these QRS: area of the spatial velocity over its height."""
    columns = np.clip(peaks[:, None] + np.arange(-60, 61), 0, leads.shape[-1] - 1)
    velocity = np.linalg.norm(np.diff(leads[:, columns], axis=-1), axis=0)
    return float((velocity.sum(axis=-1) / (velocity.max(axis=-1) + 1e-9)).mean())


def _alikeness(leads: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation ``(N, N)`` of every QRS with every other at the best lag, and that lag ``(N, N)`` [samples].

    Entry (i, j) says how far beat i must be shifted to look like beat j, and how much it then does. QRS are compared at
    every second sample, so a lag is a place in the even or in the odd half of a beat, where windows are contiguous.
    """
    n, reach, points = len(peaks), 12, 41
    first = -reach - (points - 1)  # column of the first point at the first lag, after R
    columns = np.clip(peaks[:, None] + np.arange(first, -first + 2), 0, leads.shape[-1] - 1)
    halves = leads[:, columns].reshape(len(leads), n, -1, 2).transpose(1, 3, 0, 2)  # (N, 2, 8, points + reach)
    halves = np.ascontiguousarray(halves)
    window = sliding_window_view(halves, points, axis=-1).transpose(0, 3, 1, 2, 4)  # (N, lags / 2, 2, 8, points)
    pieces = window.reshape(n, 2 * (reach + 1), -1)[:, : 2 * reach + 1]  # (N, lags, 8 points), not centred
    energy = _energy(halves, points)
    middle = pieces[:, reach].reshape(n, len(leads), points)
    centred = (middle - middle.mean(axis=-1, keepdims=True)).reshape(n, -1)
    centred /= np.sqrt((centred**2).sum(axis=-1, keepdims=True)) + 1e-9
    match = pieces @ centred.T  # (N, lags, N); a centred one ignores a level
    match /= (np.sqrt(energy) + 1e-9).astype(match.dtype)[:, :, None]
    best = np.argmax(match, axis=1)
    return np.take_along_axis(match, best[:, None], axis=1)[:, 0], best - reach


def _energy(halves: np.ndarray, points: int) -> np.ndarray:
    """Sum of squares about each lead's mean ``(N, lags)`` in windows of ``points`` columns of ``(N, 2, 8, k)``."""
    n, _, leads, k = halves.shape
    both = np.zeros((2, n, 2, leads, k + 1))
    both[0, ..., 1:] = halves
    both[1, ..., 1:] = both[0, ..., 1:] ** 2
    total = np.cumsum(both, axis=-1)
    plain, squares = total[..., points:] - total[..., :-points]
    about = np.maximum((squares - plain**2 / points).sum(axis=2), 0.0)  # (N, 2, lags / 2)
    return about.transpose(0, 2, 1).reshape(n, -1)[:, :-1]
