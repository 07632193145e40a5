"""A second opinion: NeuroKit2's dwt delineation of lead II. Slow, one lead, another lineage; never the reference."""

from __future__ import annotations

import warnings

import numpy as np

from ecg_gym.core import ECG, LEADS
from ecg_gym.waveform.beats import RATE_HZ, r_peaks_of
from ecg_gym.waveform.beats import conditioned as condition
from ecg_gym.waveform.filters import resample
from ecg_gym.waveform.intervals import corrected, is_regular

LEAD = LEADS.index("II")


def neurokit_row(signal: np.ndarray, rate_hz: float) -> tuple[dict[str, float], str]:
    """Median intervals [ms] over the beats of lead II of one strip ``(12, T)`` [mV], and what is missing.

    R peaks are ours (NeuroKit's miss beats at the slow and fast ends), resampled to 500 Hz; every fiducial is
    NeuroKit's. ``global`` and this one share nothing but the R peaks.
    """
    try:
        import neurokit2
    except ImportError as error:
        raise ImportError("neurokit2 is not here; method='neurokit' needs it; run: pip install neurokit2") from error
    peaks = r_peaks_of(condition(ECG(signal, rate_hz)))[0]
    if len(peaks) < 3:
        return {"n_beats": len(peaks)}, "no beats found" if len(peaks) == 0 else "fewer than three beats found"
    rr = np.diff(peaks) * (1000 / RATE_HZ)
    row: dict[str, float] = {"n_beats": len(peaks), "rr_ms": rr.mean(), "hr_bpm": 60000 / rr.mean()}
    row["regular"] = is_regular(rr)
    lead = resample(signal[LEAD], rate_hz, RATE_HZ).astype(float)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clean = neurokit2.ecg_clean(lead, sampling_rate=int(RATE_HZ))
            peaks = _to_extreme(clean, peaks)
            _, waves = neurokit2.ecg_delineate(clean, peaks, sampling_rate=int(RATE_HZ), method="dwt")
    except Exception as error:
        return row, f"NeuroKit2 gave up ({type(error).__name__})"
    at = {name: np.asarray(columns, dtype=float) for name, columns in waves.items() if len(columns) == len(peaks)}
    row |= {
        "pr_ms": _between(at, "ECG_P_Onsets", "ECG_R_Onsets"),
        "qrs_ms": _between(at, "ECG_R_Onsets", "ECG_R_Offsets"),
        "qt_ms": _between(at, "ECG_R_Onsets", "ECG_T_Offsets"),
        "jtpeak_ms": _between(at, "ECG_R_Offsets", "ECG_T_Peaks"),
        "tpeak_tend_ms": _between(at, "ECG_T_Peaks", "ECG_T_Offsets"),
    }
    row["p_present"] = bool(np.isfinite(row["pr_ms"]))
    missing = [name for name in ("pr_ms", "qrs_ms", "qt_ms") if not np.isfinite(row[name])]
    row |= corrected(row["qt_ms"], row["jtpeak_ms"], row["rr_ms"])
    return row, f"NeuroKit2 found no {', '.join(missing)}" if missing else ""


def _to_extreme(lead: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Our R peaks moved to where this one lead ``(T,)`` deflects most, within 50 ms: there NeuroKit2 expects them."""
    reach = round(0.05 * RATE_HZ)
    window = np.clip(peaks[:, None] + np.arange(-reach, reach + 1), 0, len(lead) - 1)
    return window[np.arange(len(peaks)), np.argmax(np.abs(lead[window]), axis=1)]


def _between(at: dict[str, np.ndarray], first: str, last: str) -> float:
    """Median distance [ms] over the beats that have both marks; NaN for fewer than two."""
    if first not in at or last not in at:
        return float("nan")
    distance = (at[last] - at[first]) * (1000 / RATE_HZ)
    distance = distance[np.isfinite(distance)]
    return float(np.median(distance)) if len(distance) >= 2 else float("nan")
