"""measure: intervals of every strip in a batch, from the 12-lead median beat."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG
from ecg_gym.waveform.amplitude import too_large
from ecg_gym.waveform.beats import CHUNK, RATE_HZ, conditioned, r_peaks_of, typical_beat
from ecg_gym.waveform.delineation import RULES, Rules, fiducials
from ecg_gym.waveform.intervals import Intervals, corrected, is_regular, median

TOO_LARGE = "larger than any ECG: check gain and unit"
METHODS = ("global", "neurokit")


def measure(ecg: ECG, method: str = "global", rules: Rules = RULES) -> Intervals:
    """Intervals of each strip of a batch ``(B, 12, T)`` (one strip is a batch of one), at any rate from 100 Hz.

    ``"global"`` measures all leads together on the typical beat by ``rules`` (``fiducials.RULES``, or ``MANUAL`` for
    the later T end of a human reader); ``"neurokit"`` is NeuroKit2's ``dwt`` on lead II, a
    second opinion (slow, and the package must be installed). What cannot be measured is NaN with a reason, never a
    number: a strip without beats has ``reason == "no beats found"``. Non-finite samples count as no strip at all.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {METHODS}; 'global' is the reference of this package")
    batch = ecg.signal if ecg.signal.ndim == 3 else ecg.signal[None]
    if method == "neurokit":
        from ecg_gym.waveform.neurokit import neurokit_row

        measured = [neurokit_row(row, ecg.rate_hz) for row in batch]
    else:
        measured = [
            row
            for i in range(0, len(batch), CHUNK)
            for row in _measure_chunk(ECG(batch[i : i + CHUNK], ecg.rate_hz), rules)
        ]
    measured = [({}, TOO_LARGE) if too_large(x, ecg.rate_hz) else row for x, row in zip(batch, measured)]
    return Intervals.from_rows([row for row, _ in measured], [reason for _, reason in measured])


def _measure_chunk(ecg: ECG, rules: Rules) -> list[tuple[dict[str, float], str]]:
    """One (row, reason) per strip."""
    finite = np.isfinite(ecg.signal).all(axis=(1, 2))
    leads = conditioned(ECG(np.where(finite[:, None, None], ecg.signal, 0), ecg.rate_hz))
    rows = [measure_row(row, peaks, rules) for row, peaks in zip(leads, r_peaks_of(leads))]
    return [row if ok else ({}, "samples that are not finite") for ok, row in zip(finite, rows)]


def measure_row(leads: np.ndarray, peaks: np.ndarray, rules: Rules = RULES) -> tuple[dict[str, float], str]:
    """The intervals of conditioned leads ``(8, T)`` [mV] with R peaks ``(N,)`` [samples], and what is missing."""
    if len(peaks) < 2:
        return {"n_beats": len(peaks)}, "no beats found" if len(peaks) == 0 else "only one beat found"
    rr = np.diff(peaks) * (1000 / RATE_HZ)
    row: dict[str, float] = {
        "n_beats": len(peaks),
        "rr_ms": rr.mean(),
        "rr_sd_ms": rr.std(),
        "hr_bpm": 60000 / rr.mean(),
    }
    row["regular"] = is_regular(rr)
    beat = typical_beat(leads, peaks)
    if beat is None:
        return row, "too few beats look alike"
    result = fiducials(beat, median(rr), rules)
    per_ms = 1000 / RATE_HZ
    row |= {
        "pr_ms": (result.qrs_onset - result.p_onset) * per_ms,
        "qrs_ms": (result.qrs_end - result.qrs_onset) * per_ms,
        "qt_ms": (result.t_end - result.qrs_onset) * per_ms,
        "jtpeak_ms": (result.t_peak - result.qrs_end) * per_ms,
        "tpeak_tend_ms": (result.t_end - result.t_peak) * per_ms,
        "r_amplitude_mv": result.r_amplitude_mv,
        "t_amplitude_mv": result.t_amplitude_mv,
        "p_present": bool(np.isfinite(result.p_onset)),
    }
    return row | corrected(row["qt_ms"], row["jtpeak_ms"], row["rr_ms"]), result.reason
