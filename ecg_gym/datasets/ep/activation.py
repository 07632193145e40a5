"""Activation and repolarisation times of recorded signals.

Voltage: the upward and downward crossing of a threshold, linear between samples. Unipolar electrograms: activation is
the steepest fall of the QRS, repolarisation the steepest rise of the T wave (Wyatt method: Wyatt RF et al. 1981, Am J
Cardiol 47:470; Coronel R et al. 2006, Heart Rhythm 3:1043).
"""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter

from ecg_gym.datasets.ep.recording import EPRecording

THRESHOLD = 0.3  # of the normalised voltage
SMOOTH_MS = 5.0  # [ms] of the filter before slopes of electrograms are taken
T_WAVE_MS = (100.0, 450.0)  # [ms] after activation within which an electrogram repolarises
LEAST_SLOPE = 0.25  # of the median site's steepest fall; a site below it is not activated


def activation_times(recording: EPRecording, beats: int | None = None) -> np.ndarray:
    """``(P, M, beats, 2)`` [ms]: activation and repolarisation of each site and beat, NaN where there is none.

    ``beats`` defaults to the number of stimuli, or to one. Beats begin at the stimuli, or else are the whole recording.
    ``ValueError`` for potentials at a distance, which have no activation time of their own.
    """
    if recording.times is not None:
        return recording.times
    if recording.signal is None or recording.kind == "electrodes":
        raise ValueError(
            f"the recording is of kind {recording.kind!r}; expected signals on the tissue; fit potentials at a "
            "distance directly"
        )
    count = beats or max((len(row.onset_ms) for row in recording.pacing), default=1)
    out = np.full((*recording.signal.shape[:2], count, 2), np.nan)
    read = _voltage if recording.kind == "voltage" else _electrogram
    for protocol, signals in enumerate(recording.signal):
        for beat, (begin, end) in enumerate(_windows(recording, protocol, count)):
            out[protocol, :, beat] = read(signals, begin, end, recording.rate_hz)
    return out


def _windows(recording: EPRecording, protocol: int, count: int) -> list[tuple[int, int]]:
    """The samples of each beat: from its stimulus to the next."""
    assert recording.signal is not None
    samples = recording.signal.shape[2]
    onsets = recording.pacing[protocol].onset_ms[:count] if recording.pacing else (0.0,)
    begins = [min(round(onset * recording.rate_hz / 1000), samples) for onset in sorted(onsets)]
    return list(zip(begins, [*begins[1:], samples]))


def _voltage(signals: np.ndarray, begin: int, end: int, rate_hz: float) -> np.ndarray:
    """``(M, 2)`` [ms] of the longest stay above the threshold among the samples ``begin`` to ``end``."""
    out = np.full((len(signals), 2), np.nan)
    for site, u in enumerate(signals[:, begin:end]):
        change = np.diff(np.r_[False, u > THRESHOLD, False].astype(int))
        ups, downs = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
        if not len(ups) or not np.isfinite(u).all():
            continue
        longest = int(np.argmax(downs - ups))
        up, down = ups[longest], downs[longest]
        out[site, 0] = _crossing(u, up) if up else 0.0
        out[site, 1] = _crossing(u, down) if down < len(u) else np.nan
    return (begin + out) * 1000 / rate_hz


def _crossing(u: np.ndarray, k: int) -> float:
    """Where between samples k - 1 and k the threshold lies, in samples."""
    return k - 1 + float((THRESHOLD - u[k - 1]) / (u[k] - u[k - 1]))


def _electrogram(signals: np.ndarray, begin: int, end: int, rate_hz: float) -> np.ndarray:
    """``(M, 2)`` [ms]: steepest fall among the samples ``begin`` to ``end``, then steepest rise within the T wave."""
    out = np.full((len(signals), 2), np.nan)
    good = np.isfinite(signals).all(axis=1)
    length = max(3, round(SMOOTH_MS * rate_hz / 1000) | 1)
    if min(signals.shape[1], end - begin) <= length or not good.any():
        return out
    slope = savgol_filter(signals[good], length, min(2, length - 1), deriv=1, axis=1)[:, :end]
    fall = begin + np.argmin(slope[:, begin:], axis=1)
    steepest = -slope[np.arange(len(slope)), fall]
    active = steepest > LEAST_SLOPE * np.median(steepest)
    for site, at, on, values in zip(np.flatnonzero(good), fall, active, slope):
        if not on:
            continue
        first, last = (at + round(ms * rate_hz / 1000) for ms in T_WAVE_MS)
        window = values[first:last]
        out[site, 0] = at
        if len(window) and (steepest_rise := int(np.argmax(window))) < len(window) - 1:  # else the recording ends first
            out[site, 1] = first + steepest_rise
    return out * 1000 / rate_hz
