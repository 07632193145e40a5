"""measure: intervals of every strip in a batch, from the 12-lead median beat, in one compiled pass."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.core import ECG
from ecg_gym.waveform.amplitude import largest_amplitude_mv, too_large
from ecg_gym.waveform.arrays import median_of
from ecg_gym.waveform.beats import CHUNK, MOST_BEATS, leads_and_band
from ecg_gym.waveform.delineation import (
    COLUMNS,
    P_ONSET,
    QRS_END,
    QRS_ONSET,
    R_MV,
    RULES,
    T_END,
    T_MV,
    T_PEAK,
    Rules,
    mark_beat,
    reason_of,
)
from ecg_gym.waveform.families import BEFORE, WIDTH, family_beats, middle_beat
from ecg_gym.waveform.intervals import REGULAR_WITHIN, Intervals, corrected
from ecg_gym.waveform.r_peaks import RATE_HZ, hann, r_peaks
from ecg_gym.waveform.rules import Numbers, numbers

TOO_LARGE = "larger than any ECG: check gain and unit"
TOO_SHORT = "too short for a beat"
SHORTEST_S = 0.1  # [s]; a strip below this holds no beat at any rate, and its sampling rate is a slip
METHODS = ("global", "neurokit")
_MS = 1000 / RATE_HZ  # milliseconds per sample
_BEATS, _RR, _RR_SD, _REGULAR, _STAGE = range(5)  # columns of what is read off the R peaks
_NONE, _NO_FAMILY, _MARKED = range(3)  # how far a strip got


def measure(ecg: ECG, method: str = "global", rules: Rules = RULES) -> Intervals:
    """Intervals of each strip of a batch ``(B, 12, T)`` (one strip is a batch of one), at any rate from 100 Hz.

    ``"global"`` measures all leads together on the typical beat by ``rules`` (``rules.RULES``, or ``MANUAL`` for
    the later T end of a human reader); ``"neurokit"`` is NeuroKit2's ``dwt`` on lead II, a
    second opinion (slow, and the package must be installed). What cannot be measured is NaN with a reason, never a
    number: a strip without beats has ``reason == "no beats found"``. Non-finite samples count as no strip at all.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {METHODS}; 'global' is the reference of this package")
    batch = ecg.signal if ecg.signal.ndim == 3 else ecg.signal[None]
    if method == "neurokit":
        from ecg_gym.waveform.neurokit import neurokit_row

        rows = [neurokit_row(row, ecg.rate_hz) for row in batch]
        rows = [({}, TOO_LARGE) if no else row for row, no in zip(rows, _too_large(batch, ecg.rate_hz))]
        return Intervals.from_rows([row for row, _ in rows], [reason for _, reason in rows])
    if ecg.seconds < SHORTEST_S:
        return Intervals.from_rows([{"n_beats": 0}] * len(batch), [TOO_SHORT] * len(batch))
    parts = [_measure_chunk(ECG(batch[i : i + CHUNK], ecg.rate_hz), rules) for i in range(0, len(batch), CHUNK)]
    if not parts:
        return Intervals.from_rows([], [])
    rhythm, marks, finite = (np.concatenate(part) for part in zip(*parts))
    return _intervals(rhythm, marks, finite, _too_large(batch, ecg.rate_hz), rules)


def _too_large(batch: np.ndarray, rate_hz: float) -> np.ndarray:
    """Which strips ``(B, 12, T)`` [mV] no heart makes, ``(B,)`` bool."""
    within = np.abs(batch).max(axis=(1, 2), initial=0.0) <= largest_amplitude_mv() / 2  # nearly all
    return np.array([not ok and too_large(row, rate_hz) for ok, row in zip(within, batch)], dtype=bool)


def _measure_chunk(ecg: ECG, rules: Rules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is read off the peaks ``(B, 5)``, the marks of the typical beats ``(B, 10)``, and which rows are finite."""
    finite = np.isfinite(ecg.signal).all(axis=(1, 2))
    leads, band = leads_and_band(ECG(np.where(finite[:, None, None], ecg.signal, 0), ecg.rate_hz))
    rhythm, marks = np.full((len(leads), 5), np.nan), np.full((len(leads), COLUMNS), np.nan)
    _measure_rows(leads, band, hann(), numbers(rules), rhythm, marks)
    return rhythm, marks, finite


@compiled
def _measure_rows(
    leads: np.ndarray, band: np.ndarray, window: np.ndarray, rules: Numbers, rhythm: np.ndarray, marks: np.ndarray
) -> None:
    peaks, rr = np.empty(band.shape[2] // 2 + 1, np.int64), np.empty(band.shape[2] // 2 + 1)
    members = np.empty(len(peaks), np.bool_)
    singles = np.empty((MOST_BEATS, leads.shape[1], WIDTH), np.float32)
    signal = np.empty((leads.shape[1], WIDTH), np.float32)
    for b in range(len(leads)):
        n = r_peaks(leads[b], band[b], window, peaks)
        rhythm[b, _BEATS], rhythm[b, _STAGE] = n, _NONE
        if n < 2:
            continue
        usual = _read_rhythm(peaks, n, rr, rhythm[b])
        m = family_beats(leads[b], peaks, n, MOST_BEATS, members, singles)
        rhythm[b, _STAGE] = _NO_FAMILY
        if m == 0:
            continue
        rhythm[b, _STAGE] = _MARKED
        middle_beat(singles, m, signal)
        behind, before = _beside(peaks, n, members, rr, 0), _beside(peaks, n, members, rr, 1)
        spread = rhythm[b, _RR], rhythm[b, _RR_SD]
        mark_beat(signal, singles, m, BEFORE, usual, behind, before, spread[0], spread[1], rules, marks[b])


@compiled
def _read_rhythm(peaks: np.ndarray, n: int, rr: np.ndarray, out: np.ndarray) -> float:
    """Mean and SD of RR and whether it is regular; returns the median RR [ms]."""
    count, mean, square = n - 1, (peaks[n - 1] - peaks[0]) * _MS / (n - 1), 0.0
    for i in range(count):
        rr[i] = (peaks[i + 1] - peaks[i]) * _MS
        square += (rr[i] - mean) ** 2
    out[_RR], out[_RR_SD] = mean, math.sqrt(square / count)
    usual = median_of(rr, count)
    for i in range(count):
        rr[i] = abs(rr[i] - usual)
    out[_REGULAR] = 1.0 if count >= 2 and median_of(rr, count) <= REGULAR_WITHIN * usual else 0.0
    return usual


@compiled
def _beside(peaks: np.ndarray, n: int, members: np.ndarray, rr: np.ndarray, late: int) -> float:
    """Median RR [ms] behind (``late`` 0) or before (1) the kept beats; of all where they have none."""
    count = 0
    for i in range(n - 1):
        if members[i + late]:
            rr[count] = (peaks[i + 1] - peaks[i]) * _MS
            count += 1
    if count == 0:
        for i in range(n - 1):
            rr[i] = (peaks[i + 1] - peaks[i]) * _MS
        count = n - 1
    return median_of(rr, count)


def _intervals(rhythm: np.ndarray, marks: np.ndarray, finite: np.ndarray, large: np.ndarray, rules: Rules) -> Intervals:
    lost = ~finite | large
    rhythm[lost, :_STAGE], marks[lost] = np.nan, np.nan
    reasons = tuple(map(partial(_reason, rules=rules), rhythm, marks, finite, large))
    # columns one after another in memory: NumPy rounds strided ones otherwise, and a row must not know its batch
    own, at = np.ascontiguousarray(rhythm.T), np.ascontiguousarray(marks.T)
    rr, qt = own[_RR], (at[T_END] - at[QRS_ONSET]) * _MS
    jtpeak = (at[T_PEAK] - at[QRS_END]) * _MS
    return Intervals(
        hr_bpm=60000 / rr, rr_ms=rr, rr_sd_ms=own[_RR_SD],
        pr_ms=(at[QRS_ONSET] - at[P_ONSET]) * _MS,
        qrs_ms=(at[QRS_END] - at[QRS_ONSET]) * _MS,
        qt_ms=qt, jtpeak_ms=jtpeak, tpeak_tend_ms=(at[T_END] - at[T_PEAK]) * _MS,
        r_amplitude_mv=at[R_MV], t_amplitude_mv=at[T_MV], p_present=np.isfinite(at[P_ONSET]),
        regular=own[_REGULAR] == 1, n_beats=np.nan_to_num(own[_BEATS]).astype(int), reason=reasons,
        **corrected(qt, jtpeak, rr),
    )  # fmt: skip


def _reason(rhythm: np.ndarray, marks: np.ndarray, finite: bool, large: bool, rules: Rules) -> str:
    if large:
        return TOO_LARGE
    if not finite:
        return "samples that are not finite"
    if rhythm[_STAGE] == _NONE:
        return "no beats found" if rhythm[_BEATS] == 0 else "only one beat found"
    return "too few beats look alike" if rhythm[_STAGE] == _NO_FAMILY else reason_of(marks, rules)
