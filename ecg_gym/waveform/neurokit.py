"""A second opinion: NeuroKit2's delineation of lead II. Slow, one lead, another lineage; never the reference."""

from __future__ import annotations

import warnings

import numpy as np

from ecg_gym.core import ECG, LEADS
from ecg_gym.waveform.beats import RATE_HZ, r_peaks_of
from ecg_gym.waveform.beats import conditioned as condition
from ecg_gym.waveform.filters import resample
from ecg_gym.waveform.intervals import corrected, is_regular

LEAD = LEADS.index("II")
NEUROKIT = ("dwt", "cwt", "peak", "prominence")
STAND_INS = {"ECG_R_Onsets": "ECG_Q_Peaks", "ECG_R_Offsets": "ECG_S_Peaks"}  # method "peak" marks no QRS boundaries
FURTHEST_S = 0.8  # two marks of one beat lie no further apart


def neurokit_row(signal: np.ndarray, rate_hz: float, method: str = "dwt") -> tuple[dict[str, float], str]:
    """Median intervals [ms] over the beats of lead II of one strip ``(12, T)`` [mV], and what is missing.

    R peaks are ours (NeuroKit's miss beats at the slow and fast ends), resampled to 500 Hz; every fiducial is
    NeuroKit's by its ``method``, one of ``NEUROKIT``. ``global`` and this one share nothing but the R peaks.
    """
    try:
        import neurokit2
    except ImportError as error:
        remedy = "method='neurokit' needs it; run: pip install 'ecg-gym[neurokit]'"
        raise ImportError(f"neurokit2 is not here; {remedy}") from error
    if method not in NEUROKIT:
        raise ValueError(f"NeuroKit2's method is {method!r}; expected one of {NEUROKIT}; choose one of them")
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
            _, waves = neurokit2.ecg_delineate(clean, peaks, sampling_rate=int(RATE_HZ), method=method)
    except Exception as error:
        return row, f"NeuroKit2 gave up ({type(error).__name__})"
    at = {name: np.asarray(columns, dtype=float) for name, columns in waves.items()}
    at |= {name: at[other] for name, other in STAND_INS.items() if name not in at and other in at}
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
    """Median distance [ms] of each ``last`` mark from the ``first`` mark before it; NaN for fewer than two pairs.

    By time and not by place in the list: some methods leave beats out of one list and not of the other.
    """
    if first not in at or last not in at:
        return float("nan")
    begin, end = (np.sort(at[name][np.isfinite(at[name])]) for name in (first, last))
    before = np.searchsorted(begin, end) - 1
    distance = (end - begin[before])[before >= 0] if len(begin) else np.empty(0)
    distance = distance[distance <= FURTHEST_S * RATE_HZ] * (1000 / RATE_HZ)
    return float(np.median(distance)) if len(distance) >= 2 else float("nan")
