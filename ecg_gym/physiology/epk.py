"""External physiological knowledge: ten seconds of lead II that McSharry's model expects after a treatment.

The patient's own five waves are fitted to the strip before, changed by the difference of two modulations, and run
around the circle from an R peak at ``R_PEAK_OFFSET_S``. Where the model does not hold (no P waves, irregular rhythm, AV
block, too few beats, a poor fit) it abstains: the trace is zero, and says so, rather than pretend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.physiology import fitting, mcsharry, parameters, wave_modulation
from ecg_gym.physiology.mcsharry import P
from ecg_gym.waveform.beats import find_r_peaks
from ecg_gym.waveform.filters import spectral

LEAD_II = LEADS.index("II")
FIT_RATE_HZ = 2 * MODEL_RATE_HZ  # beats are aligned to the nearest of these samples, 2.4 ms at most
WINDOW_S = (-0.36, 0.62)  # around the R peak
NEXT_P_S = 0.26  # the next beat's P wave may begin this long before its R peak
CHUNK = 128  # strips at a time: larger ones fall out of the cache


@dataclass(frozen=True)
class Anchor:
    """What the prior expects, per strip."""

    trace_mv: np.ndarray  # (B, 1024) [mV] lead II on the model grid; zero where abstained
    quality: np.ndarray  # (B,) R^2 of the fit, 0 where there was nothing to fit
    abstained: np.ndarray  # (B,) bool


def epk_traces(
    ecg: np.ndarray,  # (B, 12, 1024) [mV] before, on the model grid
    intervals: Sequence[Mapping[str, float]],  # measured on it: rr_ms, p_present, regular of each strip
    before: wave_modulation.Modulations,
    after: wave_modulation.Modulations,
    rr_series: Sequence[np.ndarray | None] | None = None,  # [s] beats to follow; otherwise the modulated mean RR
) -> Anchor:
    """The prior's expectation for B strips; a few milliseconds each."""
    n = len(ecg)
    if ecg.ndim != 3 or ecg.shape[1:] != (len(LEADS), MODEL_SAMPLES) or len(intervals) != n:
        raise ValueError(
            f"ecg has shape {ecg.shape} with {len(intervals)} rows of intervals; expected (B, 12, {MODEL_SAMPLES}) mV "
            f"at {MODEL_RATE_HZ} Hz with B rows; use ecg_gym.waveform.to_model_grid and measure"
        )
    old, new = wave_modulation.as_rows(before, n), wave_modulation.as_rows(after, n)
    series: list[np.ndarray | None] = [None] * n if rr_series is None else list(rr_series)
    chunks = [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]
    parts = [_chunk(ecg[c], intervals[c], old[c], new[c], series[c]) for c in chunks]
    return Anchor(*(np.concatenate(columns) for columns in zip(*parts)))


def epk_trace(
    ecg: np.ndarray,  # (12, 1024) [mV]
    intervals_row: Mapping[str, float],
    before: Modulation,
    after: Modulation,
    rr_series: np.ndarray | None = None,
) -> tuple[np.ndarray, float, bool]:
    """Trace ``(1024,)`` [mV], fit quality and whether it abstained, for one strip; see ``epk_traces``."""
    anchor = epk_traces(ecg[None], [intervals_row], before, after, [rr_series])
    return anchor.trace_mv[0], float(anchor.quality[0]), bool(anchor.abstained[0])


def _chunk(
    ecg: np.ndarray,
    intervals: Sequence[Mapping[str, float]],
    before: list[Modulation],
    after: list[Modulation],
    series: list[np.ndarray | None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rr_s = np.array([row["rr_ms"] for row in intervals], dtype=float) / 1000
    fit, n_beats = fit_strips(ecg, rr_s)
    silent = _abstains(fit, n_beats, rr_s, intervals, after)
    rr_s = np.where(np.isfinite(rr_s) & (rr_s > 0), rr_s, 1.0)
    rr_after_s = np.array([np.nan if beats is None or len(beats) == 0 else np.mean(beats) for beats in series])
    waves, new_rr_s = wave_modulation.apply(fit.waves(rr_s), rr_s, after, before, rr_after_s=rr_after_s)
    beats_s = _padded(series, new_rr_s)
    trace = mcsharry.solve_exact(
        mcsharry.at_each_beat(waves, new_rr_s, beats_s),
        beats_s,
        samples=MODEL_SAMPLES,
        rate_hz=MODEL_RATE_HZ,
        baseline_mv=mcsharry.mean_level_mv(waves),
        theta_start=-2 * np.pi * R_PEAK_OFFSET_S / beats_s[:, 0],
    )
    trace = np.where(silent[:, None], 0.0, trace)
    return trace.astype(np.float32), np.nan_to_num(np.clip(fit.r2, 0, 1)), silent


def fit_strips(ecg: np.ndarray, rr_s: np.ndarray) -> tuple[fitting.Fit, np.ndarray]:
    """The five waves of lead II's median beat in each strip ``(B, 12, 1024)`` [mV], and its count of beats ``(B,)``."""
    finite = np.isfinite(ecg).all(axis=(1, 2))
    quiet = np.where(finite[:, None, None], ecg, 0).astype(np.float32)
    lead = spectral(quiet[:, LEAD_II], MODEL_RATE_HZ, FIT_RATE_HZ, low=(0.2, 0.6))
    peaks = find_r_peaks(ECG(quiet, MODEL_RATE_HZ))
    around = np.arange(round(WINDOW_S[0] * FIT_RATE_HZ), round(WINDOW_S[1] * FIT_RATE_HZ))
    beats = np.full((len(ecg), len(around)), np.nan)
    n_beats = np.zeros(len(ecg), dtype=int)
    for row, (trace, r) in enumerate(zip(lead, peaks)):
        r = np.round(np.asarray(r) * (FIT_RATE_HZ / MODEL_RATE_HZ)).astype(int)
        r = r[(r + around[0] >= 0) & (r + around[-1] < len(trace))]
        if finite[row] and len(r):
            beats[row], n_beats[row] = np.median(trace[r[:, None] + around], axis=0), len(r)
    own = around / FIT_RATE_HZ < np.nan_to_num(rr_s, nan=1.0)[:, None] - NEXT_P_S
    return fitting.fit(beats, FIT_RATE_HZ, -around[0], valid=own), n_beats


def _abstains(
    fit: fitting.Fit,
    n_beats: np.ndarray,
    rr_s: np.ndarray,
    intervals: Sequence[Mapping[str, float]],
    after: list[Modulation],
) -> np.ndarray:
    """Rows ``(B,)`` in which five waves per beat are no description of the heart."""
    sinus = np.array([bool(row["p_present"]) and bool(row["regular"]) for row in intervals])
    blocked = np.array([m.av_block > parameters.value("abstain", "strongest_av_block") for m in after])
    sinus &= fit.amplitude_mv[:, P] >= parameters.value("abstain", "smallest_p")
    explained = np.nan_to_num(fit.r2) >= parameters.value("abstain", "lowest_r2")
    enough = n_beats >= parameters.value("abstain", "fewest_beats")
    return ~(sinus & explained & enough & np.isfinite(rr_s) & ~blocked)


def _padded(series: list[np.ndarray | None], rr_s: np.ndarray) -> np.ndarray:
    """One row of beats ``(B, K)`` [s] per strip, continued with its last; the mean RR where no series was given."""
    rows = [np.array([rr]) if beats is None or len(beats) == 0 else beats for beats, rr in zip(series, rr_s)]
    longest = max(len(row) for row in rows)
    return np.stack([np.concatenate([row, np.full(longest - len(row), row[-1])]) for row in rows])
