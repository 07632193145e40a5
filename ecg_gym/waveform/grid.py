"""The model grid: 10 s in 1024 samples that begin 0.4 s before an R peak, whatever the strip was like before."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S
from ecg_gym.waveform.amplitude import check_amplitude
from ecg_gym.waveform.beats import find_r_peaks
from ecg_gym.waveform.filters import bandpass, remove_baseline, resample

WINDOW_S = MODEL_SAMPLES / MODEL_RATE_HZ  # 10 s
SHORTEST_S = 8.0  # a shorter strip would mostly be repetition
CROSSFADE_S = 0.1


def to_model_grid(ecg: ECG, remove_wander: bool = True) -> ECG:
    """The strip on the model grid, ``(12, 1024)`` or ``(B, 12, 1024)`` [mV] at 102.4 Hz.

    Of a long strip the best 10 s are taken (see :func:`best_start`). Where fewer than 10 s follow the chosen R peak,
    the end is continued by repeating an earlier stretch of the same strip, in phase with its R peaks and cross-faded
    over 0.1 s: whole beats, no seam, nothing invented. A strip without beats begins at its first sample and is
    continued by mirroring. Baseline wander is removed unless ``remove_wander=False``: it says nothing about the heart,
    and neither prior nor decoder should spend capacity on it. Resampling is band-limited (no aliasing); every step is
    linear and the same for all leads, so Einthoven's identities and missing (zero) leads survive.
    """
    if ecg.seconds < SHORTEST_S - 0.5 / ecg.rate_hz:
        raise ValueError(
            f"the strip lasts {ecg.seconds:.2f} s; expected at least {SHORTEST_S:g} s; "
            "record or synthesise a longer one"
        )
    batch = ecg.signal if ecg.signal.ndim == 3 else ecg.signal[None]
    if not np.isfinite(batch).all():
        raise ValueError(
            f"the strip holds {int((~np.isfinite(batch)).sum())} samples that are not finite; expected numbers in mV; "
            "set the affected leads to zero and name them in ECG.missing"
        )
    check_amplitude(batch, ecg.rate_hz)
    peaks = find_r_peaks(ecg)
    calm = remove_baseline(batch, ecg.rate_hz) if remove_wander else batch
    rate = ecg.rate_hz
    windows = [_window(row, r, rate, _best_start(raw, r, rate)) for row, raw, r in zip(calm, batch, peaks)]
    signal = resample(np.stack(windows), ecg.rate_hz, MODEL_RATE_HZ)[..., :MODEL_SAMPLES]
    return ECG(signal if ecg.signal.ndim == 3 else signal[0], MODEL_RATE_HZ, ecg.missing)


def best_start(ecg: ECG) -> float:
    """Where the best 10 s of one strip ``(12, T)`` begin [s]: 0.4 s before an R peak if there is one.

    Among the beats that are followed by enough signal, the window with the least baseline wander (below 0.5 Hz) and
    muscle noise (above 35 Hz), both as standard deviation over the leads, wins; the earliest of equals. If no beat is
    followed by 10 s, the first beat with 0.4 s before it is taken.
    """
    return _best_start(ecg.signal, find_r_peaks(ecg)[0], ecg.rate_hz) / ecg.rate_hz


def _best_start(signal: np.ndarray, peaks: np.ndarray, rate_hz: float) -> int:
    """The same in samples, for a strip whose R peaks are known."""
    starts = np.round(peaks - R_PEAK_OFFSET_S * rate_hz).astype(int)
    starts = starts[starts >= 0]
    if len(starts) == 0:
        return 0
    length = round(WINDOW_S * rate_hz)
    whole = starts[starts + length <= signal.shape[-1]]
    if len(whole) <= 1:
        return int(starts[0])
    disturbance = signal - bandpass(signal, rate_hz, (0.3, 0.6), (min(35.0, 0.3 * rate_hz), min(45.0, 0.4 * rate_hz)))
    worth = [round(float(disturbance[:, start : start + length].std(axis=-1).mean()), 3) for start in whole]
    return int(whole[np.argmin(worth)])


def _window(signal: np.ndarray, peaks: np.ndarray, rate_hz: float, start: int) -> np.ndarray:
    """Exactly 10 s ``(12, n)`` of ``(12, T)`` from ``start`` on, continued where the strip is too short."""
    length = round(WINDOW_S * rate_hz)
    need = start + length - signal.shape[-1]
    if need > 0:
        signal = _continued(signal, peaks, need, round(CROSSFADE_S * rate_hz))
    return signal[:, start : start + length]


def _continued(signal: np.ndarray, peaks: np.ndarray, need: int, fade: int) -> np.ndarray:
    """The strip and ``need`` more samples copied from one or more whole beats earlier."""
    end = signal.shape[-1]
    if len(peaks) < 2:
        return np.concatenate([signal, signal[:, : -need - 2 : -1][:, :need]], axis=-1)
    back = peaks[-1] - peaks[:-1]  # a whole number of beats, in samples
    reachable = back[peaks[:-1] + (end - peaks[-1]) - fade >= 0]
    enough = reachable[reachable >= need]
    shift = int(enough.min() if len(enough) else reachable.max() if len(reachable) else back.min())
    longer = np.concatenate([signal, np.zeros((len(signal), need), signal.dtype)], axis=-1)
    for i in range(end, end + need, shift):  # in strides, so that a stretch may repeat itself when it has to
        stop = min(i + shift, end + need)
        longer[:, i:stop] = longer[:, i - shift : stop - shift]
    weight = np.linspace(0, 1, fade, dtype=signal.dtype)
    earlier = longer[:, end - fade - shift : end - shift]
    longer[:, end - fade : end] = (1 - weight) * longer[:, end - fade : end] + weight * earlier
    return longer
