"""McSharry's model of this patient in all eight independent leads, moved to the intervals that are asked for.

The typical beat of a reference strip is written as waves shared by the leads, with gains of each lead's own, plus what
the waves leave over. To move it, the beat's clock is stretched between its landmarks (P onset, QRS onset, R, QRS end, T
peak, T end) until they stand where the asked intervals put them; waves and remainder go along. The model then runs
around its circle at the beats that are asked for: one unit wave after another, solved exactly, mixed by the gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.ndimage import uniform_filter1d

from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    R_PEAK_OFFSET_S,
    as_twelve_leads,
    independent_from_leads,
)
from ecg_gym.physiology import mcsharry, parameters, wave_modulation
from ecg_gym.physiology.rr_series import STRIP_S, beats_of, first_of, refined
from ecg_gym.physiology.shared_waves import SharedFit, fit_shared, roles
from ecg_gym.waveform.beats import RATE_HZ, Beat, conditioned_beats, typical_beat
from ecg_gym.waveform.delineation import fiducials
from ecg_gym.waveform.intervals import Intervals

TARGET_INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "jtpeak_ms", "tpeak_tend_ms", "t_amplitude_mv", "r_amplitude_mv")
LANDMARKS = ("p_onset", "p_end", "qrs_onset", "r", "qrs_end", "t_onset", "t_peak", "t_end")
EVERY = 2  # of the samples of the typical beat (500 Hz) are kept
FIRST_S, LAST_S = -0.5, 0.78  # the typical beat around its R
TIME_S = np.arange(round(FIRST_S * RATE_HZ), round(LAST_S * RATE_HZ), EVERY) / RATE_HZ
BEFORE_QRS_S = 0.02  # [s] in which what is left over of a beat sets in, where there is no P wave
CHUNK = 64  # strips at a time: larger ones fall out of the cache
_USUAL_S = (-0.19, -0.04, 0.0, 0.05, 0.27, 0.35)  # landmarks that were not found; only a place to stand for a stretch


@dataclass(frozen=True)
class LeadFit:
    """B patients' beats. ``fit[rows]`` is the fit of some of them."""

    centre_s: np.ndarray  # (B, W) [s after R]
    width_s: np.ndarray  # (B, W) [s]
    gain_mv: np.ndarray  # (B, 8, W) [mV]
    residual_mv: np.ndarray  # (B, 8, n) float32 [mV] at TIME_S, what the waves leave over of the typical beat
    baseline_mv: np.ndarray  # (B, 8) [mV] isoelectric level of the strip
    noise_mv: np.ndarray  # (B, 8, 1024) float32 [mV] what its beats leave over of the strip where they fit it
    landmarks_s: np.ndarray  # (B, 8) [s after R] columns LANDMARKS
    intervals: np.ndarray  # (B, 7) columns TARGET_INTERVALS, of the reference; NaN where not measured
    rr_s: np.ndarray  # (B,) [s] mean of the reference
    rr_sd_ms: np.ndarray  # (B,) [ms] SD of its RR; NaN below three intervals
    first_s: np.ndarray  # (B,) [s] where its grid puts the first R peak, within milliseconds of R_PEAK_OFFSET_S
    quality: np.ndarray  # (B,) R^2 over all leads of the typical beat, 0 where there was none
    abstained: np.ndarray  # (B,) bool
    drawable: np.ndarray  # (B,) bool: a typical beat that the waves fit, whatever the rhythm
    reason: np.ndarray  # (B,) str, "" or why it abstains
    role: np.ndarray  # (B, W) str, the part of the beat each wave belongs to: P, Q, R, S, T

    def __len__(self) -> int:
        return len(self.quality)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> LeadFit:
        """The chosen rows, always still a batch."""
        indices = np.atleast_1d(np.arange(len(self))[rows])
        return LeadFit(*(getattr(self, f.name)[indices] for f in fields(self)))


def fit_leads(
    ecg: np.ndarray,  # (B, 12 or 8, 1024) [mV] on the model grid
    intervals: Intervals | Sequence[Mapping[str, float]],  # measured on it, one row per strip
    waves: str = "nine",  # or "five": the sets of theta.yaml
    steps: int = 30,
    lead: str | None = None,  # "II": the waves stand where this lead alone would have them, as in the paper
) -> LeadFit:
    """The waves of each strip's typical beat; some 10 ms per strip. Never raises for what a strip looks like."""
    if lead is not None and lead not in INDEPENDENT_LEADS:
        raise ValueError(f"lead is {lead!r}; expected one of {INDEPENDENT_LEADS} or None; the others follow from them")
    strips = as_twelve_leads(ecg)
    value = [intervals.row(i) for i in range(len(intervals))] if isinstance(intervals, Intervals) else intervals
    rows = list(value)
    if len(rows) != len(strips):
        raise ValueError(
            f"{len(rows)} rows of intervals for {len(strips)} strips; expected one each; measure the same strips"
        )
    parts = [
        _fit_chunk(strips[i : i + CHUNK], rows[i : i + CHUNK], waves, steps, lead) for i in range(0, len(rows), CHUNK)
    ]
    return join(parts)


def join(fits: Sequence[LeadFit]) -> LeadFit:
    """One batch out of several."""
    return LeadFit(*(np.concatenate([getattr(fit, f.name) for fit in fits]) for f in fields(LeadFit)))


def anchor_traces(
    fit: LeadFit,
    target_intervals: np.ndarray | Mapping[str, np.ndarray],  # (B, 7), or some of them by name (B,)
    beats_s: np.ndarray | None = None,  # (B, K) [s]; even beats at the asked rate if not given
    *,
    first_s: np.ndarray | float | None = None,  # scalar or (B,) [s] of the first R peak; the reference's if not given
    p_present: np.ndarray | None = None,  # (B,) bool: False takes the P waves away
    abstain: bool = True,
    residual: bool = True,
    relaxation_per_s: float = 0.0,
) -> np.ndarray:
    """The strips ``(B, 8, 1024)`` float32 [mV] that the model expects; zero where it abstains and where
    ``beats_s`` is not finite.

    ``target_intervals`` are what the delineator should find; their difference from the reference's own is applied, NaN
    is no change. R peaks lie at ``first_s + [0, cumsum(beats_s)]``, and the beats alone make the rate. Without
    ``residual`` only the waves are drawn; without ``abstain`` every row that has a typical beat (``drawable``) is: QRS
    and T of fibrillating atria, of ventricular rhythms, and what goes before their QRS on average.
    """
    targets = _as_columns(fit, target_intervals)
    if beats_s is None:
        beats_s = np.where(targets[:, [0]] > 0, 60 / targets[:, [0]], fit.rr_s[:, None])
    beats_s = np.asarray(beats_s, dtype=float)
    if beats_s.ndim != 2 or len(beats_s) != len(fit):
        raise ValueError(
            f"beats_s has shape {beats_s.shape} for {len(fit)} fits; expected (B, K) seconds; see draw_beats"
        )
    beats_s = _to_the_end(beats_s)
    lost = fit if p_present is None else _without_p(fit, ~np.asarray(p_present, dtype=bool))
    first = np.broadcast_to(np.asarray(fit.first_s if first_s is None else first_s, dtype=float), len(fit))
    out = np.zeros((len(fit), len(INDEPENDENT_LEADS), MODEL_SAMPLES), dtype=np.float32)
    has_prior = np.flatnonzero((~fit.abstained if abstain else fit.drawable) & np.isfinite(beats_s).all(axis=1))
    for i in range(0, len(has_prior), CHUNK):
        rows = has_prior[i : i + CHUNK]
        out[rows] = _draw(lost[rows], targets[rows], beats_s[rows], first[rows], residual, relaxation_per_s)
    return out


def target_after(fit: LeadFit, before: wave_modulation.Modulations, after: wave_modulation.Modulations) -> np.ndarray:
    """What to ask ``(B, 7)``, columns TARGET_INTERVALS, once ``before`` has given way to ``after``: pharmacology alone.

    The same laws and gains as ``modulation.apply``: the reference's own intervals, moved by the difference of the two.
    """
    change = wave_modulation.Change(before, after, len(fit))
    hr, pr, qrs, jtpeak, tpeak_tend, t_mv, r_mv = fit.intervals.T
    p_ms = 1e3 * (fit.landmarks_s[:, 1] - fit.landmarks_s[:, 0])
    wider = p_ms * (1 / change.factor("atrial_conduction") - 1)
    pr = pr + 1e3 * change.seconds("pr_ms") + parameters.value("gains", "pr_per_p_width") * wider
    qrs = qrs / change.factor("conduction")
    jtpeak = jtpeak + parameters.value("gains", "t_peak_per_jtpeak") * 1e3 * change.seconds("jtpeak_ms")
    longer = 1e3 * change.seconds("tpeak_tend_ms")
    t_mv = t_mv * np.exp(parameters.value("gains", "log_t_amplitude_per_tpeak_tend") * longer)
    tpeak_tend = tpeak_tend + longer
    faster = change.factor("sinus_rate")
    by_rate = (qrs + jtpeak + tpeak_tend) * (faster ** -parameters.value("gains", "qt_rr_exponent") - 1)
    share = parameters.value("gains", "tpeak_tend_rr_share")
    columns = [
        hr * faster, pr, qrs, jtpeak + (1 - share) * by_rate, tpeak_tend + share * by_rate,
        t_mv * change.factor("t_amplitude"), r_mv,
    ]  # fmt: skip
    return np.stack(columns, axis=1)


def _fit_chunk(
    ecg: np.ndarray, rows: Sequence[Mapping[str, float]], waves: str, steps: int, lead: str | None
) -> LeadFit:
    finite = np.isfinite(ecg).all(axis=(1, 2))
    ecg = np.where(finite[:, None, None], ecg, 0)
    leads, peaks = conditioned_beats(ECG(ecg, MODEL_RATE_HZ))
    beats = [typical_beat(row, p) if ok and len(p) >= 2 else None for row, p, ok in zip(leads, peaks, finite)]
    typical = np.full((len(ecg), len(INDEPENDENT_LEADS), len(TIME_S)), np.nan)
    result = np.full((len(ecg), len(_USUAL_S)), np.nan)
    for i, beat in enumerate(beats):
        if beat is not None:
            begin = beat.r + round(FIRST_S * RATE_HZ)
            typical[i] = beat.signal[:, begin : begin + EVERY * len(TIME_S) : EVERY]
            result[i] = _landmarks_of(beat)
    intervals = np.array([[row.get(name, np.nan) for name in TARGET_INTERVALS] for row in rows], dtype=float)
    rr_s = np.array([row.get("rr_ms", np.nan) for row in rows], dtype=float) / 1000
    own = _own(result[:, 0], result[:, 5], np.where(np.isfinite(rr_s) & (rr_s > 0), rr_s, 1.0))
    if lead is None:
        shared = fit_shared(typical, TIME_S, own, waves, steps)
    else:
        alone = fit_shared(typical[:, [INDEPENDENT_LEADS.index(lead)]], TIME_S, own, waves, steps)
        shared = fit_shared(typical, TIME_S, own, waves, 0, alone)
    whole = np.nan_to_num((typical - shared.offset_mv[:, :, None]) * own[:, None])
    residual = (whole - shared.gain_mv @ _bells(shared)).astype(np.float32)
    residual[:, :, [0, -1]] = 0
    enough = [0 if beat is None else int(beat.members.sum()) for beat in beats]
    reason = [_why(shared, i, row, enough[i], bool(finite[i]), waves) for i, row in enumerate(rows)]
    seconds = [refined(row, p) / RATE_HZ for row, p in zip(leads, peaks)]
    first, near = first_of(seconds), parameters.value("beats", "grid_within")
    fit = LeadFit(
        centre_s=shared.centre_s,
        width_s=shared.width_s,
        gain_mv=shared.gain_mv,
        residual_mv=residual,
        baseline_mv=np.zeros(ecg.shape[:1] + residual.shape[1:2]),
        noise_mv=np.zeros((len(ecg), residual.shape[1], MODEL_SAMPLES), np.float32),
        landmarks_s=_landmarks(result, shared, waves),
        intervals=intervals,
        rr_s=rr_s,
        rr_sd_ms=np.array([1e3 * np.std(np.diff(r)) if len(r) > 3 else np.nan for r in seconds]),
        first_s=np.where(np.abs(first - R_PEAK_OFFSET_S) <= near, first, R_PEAK_OFFSET_S),
        quality=np.nan_to_num(np.clip(shared.r2, 0, 1)),
        abstained=np.array([bool(why) for why in reason]),
        drawable=np.isfinite(rr_s) & (np.nan_to_num(shared.r2) >= parameters.value("abstain", "lowest_r2")),
        reason=np.array(reason, dtype=object),
        role=np.tile(roles(waves), (len(ecg), 1)),
    )
    fit = _completed(fit, result)
    own_strip = anchor_traces(fit, intervals, beats_of(seconds, 1.0), first_s=first, abstain=False)
    rest = independent_from_leads(ecg) - own_strip
    level = np.where(fit.drawable[:, None], np.median(rest, axis=-1), 0.0)
    noise = np.where(fit.drawable[:, None, None], rest - level[..., None], 0.0)
    return replace(fit, baseline_mv=level, noise_mv=_as_quiet(noise).astype(np.float32))


def _as_quiet(rest: np.ndarray) -> np.ndarray:
    """What beats leave over ``(B, 8, T)`` [mV], made as quiet as its quiet stretches where it is louder: there the
    waves have missed a beat. Wander is slower than a wave and stays.
    """
    most = parameters.value("noise", "outlier") * np.median(np.abs(rest), axis=-1, keepdims=True)
    rest = np.clip(rest, -most, most)
    spectrum = np.fft.rfft(rest, axis=-1)
    spectrum[..., np.fft.rfftfreq(rest.shape[-1], 1 / MODEL_RATE_HZ) < parameters.value("noise", "wander")] = 0
    fast = np.fft.irfft(spectrum, rest.shape[-1], axis=-1)
    usual = np.maximum(np.median(np.abs(fast), axis=-1, keepdims=True), 1e-9)
    window = round(1e-3 * parameters.value("noise", "window") * MODEL_RATE_HZ)
    size = np.maximum(np.sqrt(uniform_filter1d(np.square(fast / usual).mean(axis=1), window, axis=-1)), 1e-9)
    quiet = np.quantile(size, parameters.value("noise", "quiet"), axis=-1, keepdims=True)
    return rest - fast * (1 - np.minimum(1, parameters.value("noise", "loud") * quiet / size))[:, None]


def fresh_noise(noise_mv: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise ``(8, T)`` [mV] with the spectra of another and the coherence of its leads: each frequency has a new phase,
    turned alike in all leads.
    """
    spectrum = np.fft.rfft(noise_mv, axis=-1)
    turn = np.exp(2j * np.pi * rng.random(spectrum.shape[-1]))
    turn[[0, -1]] = 1  # level and fastest have no phase
    return np.fft.irfft(spectrum * turn, noise_mv.shape[-1], axis=-1)


def _completed(fit: LeadFit, landmarks: np.ndarray) -> LeadFit:
    """Where the delineator found no T peak or end, the T waves' own stand in, so that what is asked can be reached."""
    lost = np.flatnonzero(fit.drawable & ~np.isfinite(landmarks[:, 4:]).all(axis=1))
    if not len(lost):
        return fit
    marks, intervals = fit.landmarks_s.copy(), fit.intervals.copy()
    columns = [TARGET_INTERVALS.index(name) for name in ("jtpeak_ms", "tpeak_tend_ms", "t_amplitude_mv")]
    for i in lost:
        t = fit.role[i] == "T"
        bells = np.exp(-0.5 * ((TIME_S - fit.centre_s[i, t, None]) / fit.width_s[i, t, None]) ** 2)
        magnitude = np.linalg.norm(fit.gain_mv[i][:, t] @ bells, axis=0)
        peak = int(np.argmax(np.where(marks[i, 4] < TIME_S, magnitude, 0)))
        fall = np.gradient(magnitude[peak:], TIME_S[peak:])
        steepest = int(np.argmin(fall))
        peak_s, end_s = TIME_S[peak], TIME_S[peak + steepest] - magnitude[peak + steepest] / fall[steepest]
        if not marks[i, 4] < peak_s < end_s:
            continue
        rise = min(parameters.value("leads", "t_rise") * (end_s - peak_s), 0.75 * (peak_s - marks[i, 4]))
        marks[i, 5:] = peak_s - rise, peak_s, end_s
        own = [1e3 * (peak_s - marks[i, 4]), 1e3 * (end_s - peak_s), magnitude[peak]]
        intervals[i, columns] = np.where(np.isfinite(intervals[i, columns]), intervals[i, columns], own)
    return replace(fit, landmarks_s=marks, intervals=intervals)


def _landmarks_of(beat: Beat) -> np.ndarray:
    """Landmarks ``(6,)`` [s after R] of a typical beat, P onset, QRS onset, R, QRS end, T peak, T end; NaN if none."""
    marks = fiducials(beat, beat.next_rr_ms)
    columns = [marks.p_onset, marks.qrs_onset, beat.r, marks.qrs_end, marks.t_peak, marks.t_end]
    return (np.array(columns, dtype=float) - beat.r) / RATE_HZ


def _own(p_onset_s: np.ndarray, t_end_s: np.ndarray, rr_s: np.ndarray) -> np.ndarray:
    """How much of the typical beat at TIME_S is this beat's and no neighbour's, ``(B, n)``; neighbours add up to 1.

    Where there is no P wave, a beat goes on to the end of its T wave, however close the next one is: RR intervals that
    differ would smear a T wave that counts as the next beat's.
    """
    reach = 1e-3 * parameters.value("leads", "p_reach")
    early = 1e-3 * parameters.value("leads", "p_apart") - p_onset_s
    fade = 1e-3 * parameters.value("leads", "fade")
    behind_t = np.clip(
        np.nan_to_num(rr_s - t_end_s - fade, nan=reach), 1e-3 * parameters.value("leads", "q_reach"), reach
    )
    least = np.where(np.isfinite(p_onset_s), reach, behind_t)
    begin = -np.clip(np.fmax(early, least), least, -FIRST_S - 0.05)[:, None]

    def ramp(at: np.ndarray) -> np.ndarray:
        return np.clip((TIME_S - at) / fade + 0.5, 0, 1)

    own = ramp(begin) - ramp(begin + rr_s[:, None])
    own[:, [0, -1]] = 0
    return own


def _bells(shared: SharedFit) -> np.ndarray:
    return np.exp(-0.5 * ((TIME_S - shared.centre_s[..., None]) / shared.width_s[..., None]) ** 2)


def _landmarks(landmarks: np.ndarray, shared: SharedFit, waves: str) -> np.ndarray:
    """``(B, 8)`` columns LANDMARKS [s after R], ascending; usual places for those that were not found."""
    p_onset, onset, r, end, peak, t_end = np.where(np.isfinite(landmarks), landmarks, _USUAL_S).T
    p = np.array(roles(waves)) == "P"
    p_end = (shared.centre_s + mcsharry.TANGENT_TAIL * shared.width_s)[:, p].max(axis=1)
    p_end = np.clip(p_end, p_onset + 0.25 * (onset - p_onset), onset - 0.05 * (onset - p_onset))
    rise = parameters.value("leads", "t_rise") * (t_end - peak)
    t_onset = np.maximum(peak - rise, end + 0.25 * (peak - end))
    marks = np.stack([p_onset, p_end, onset, r, end, t_onset, peak, t_end], axis=1)
    return np.maximum.accumulate(marks, axis=1) + 1e-4 * np.arange(len(LANDMARKS))  # never two in one place


def _why(shared: SharedFit, i: int, row: Mapping[str, float], beats: int, finite: bool, waves: str) -> str:
    """Why the prior abstains on one strip, or nothing."""
    if not finite:
        return "samples that are not finite"
    if beats < parameters.value("abstain", "fewest_beats") or not np.isfinite(row.get("rr_ms", np.nan)):
        return "too few beats look alike"
    p = shared.gain_mv[i][:, np.array(roles(waves)) == "P"].sum(axis=1)
    if not row.get("p_present", 0) or np.linalg.norm(p) < parameters.value("abstain", "smallest_p"):
        return "no P wave"
    if not row.get("regular", 0):
        return "irregular rhythm"
    if not shared.r2[i] >= parameters.value("abstain", "lowest_r2"):
        return "the waves do not fit"
    return ""


def _as_columns(fit: LeadFit, target_intervals: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
    """What is asked, ``(B, 7)``."""
    if isinstance(target_intervals, Mapping):
        if unknown := [name for name in target_intervals if name not in TARGET_INTERVALS]:
            raise ValueError(f"asked names {unknown}; expected names out of {TARGET_INTERVALS}; check the spelling")
        nothing = np.full(len(fit), np.nan)
        target_intervals = np.stack(
            [np.broadcast_to(target_intervals.get(name, nothing), len(fit)) for name in TARGET_INTERVALS], axis=1
        )
    target_intervals = np.asarray(target_intervals, dtype=float)
    if target_intervals.shape != (len(fit), len(TARGET_INTERVALS)):
        raise ValueError(
            f"target_intervals have shape {target_intervals.shape} for {len(fit)} fits; "
            f"expected (B, {len(TARGET_INTERVALS)}), columns {TARGET_INTERVALS}; add or drop columns"
        )
    return target_intervals


def _to_the_end(beats_s: np.ndarray) -> np.ndarray:
    """The series ``(B, K)`` [s], each continued with its last interval until all reach beyond the strip."""
    with np.errstate(invalid="ignore"):
        missing = np.nan_to_num((STRIP_S - beats_s.sum(axis=1)) / beats_s[:, -1], nan=-1.0)
    more = max(0, int(np.floor(missing.max(initial=-1.0))) + 1)
    return np.concatenate([beats_s, np.repeat(beats_s[:, -1:], more, axis=1)], axis=1)


def _without_p(fit: LeadFit, lost: np.ndarray) -> LeadFit:
    """The fit without P waves in the rows ``lost (B,)``: what the waves leave over before the QRS goes too, for it is
    the same at every beat, as a P wave is.
    """
    p_waves = lost[:, None] & (fit.role == "P")
    stays = np.clip((TIME_S - fit.landmarks_s[:, [2]]) / BEFORE_QRS_S + 1, 0, 1)
    residual = fit.residual_mv * np.where(lost[:, None], stays, 1.0)[:, None].astype(np.float32)
    return replace(fit, gain_mv=np.where(p_waves[:, None], 0.0, fit.gain_mv), residual_mv=residual)


def _move(fit: LeadFit, target_intervals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks ``(B, 8)`` [s after R] where the asked intervals put them, and ratios ``(B,)`` of QRS and T heights."""
    change = np.nan_to_num(target_intervals - fit.intervals)
    pr, qrs, jtpeak, tpeak_tend = 1e-3 * change[:, 1:5].T
    p_onset, p_end, onset, r, end, t_onset, peak, t_end = fit.landmarks_s.T
    least = parameters.value("leads", "smallest_slope")

    def longer(length: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.maximum(length + by, least * length)

    wider = longer(end - onset, qrs) / (end - onset)
    onset_2, end_2 = r + wider * (onset - r), r + wider * (end - r)
    p_onset_2 = onset_2 - longer(onset - p_onset, pr)
    # the P wave keeps its length while the segment behind it has room
    p_end_2 = np.minimum(p_onset_2 + p_end - p_onset, onset_2 - least * (onset - p_end))
    p_end_2 = np.maximum(p_end_2, p_onset_2 + least * (p_end - p_onset))
    peak_2 = end_2 + longer(peak - end, jtpeak)
    t_end_2 = peak_2 + longer(t_end - peak, tpeak_tend)
    t_onset_2 = peak_2 - (peak - t_onset) * (t_end_2 - peak_2) / (t_end - peak)
    t_onset_2 = np.maximum(t_onset_2, end_2 + least * (t_onset - end))
    t_onset_2 = np.minimum(t_onset_2, peak_2 - least * (peak - t_onset))
    marks = np.stack([p_onset_2, p_end_2, onset_2, r, end_2, t_onset_2, peak_2, t_end_2], axis=1)
    tallest = parameters.value("leads", "tallest")
    t_ratio, r_ratio = np.clip(np.nan_to_num(target_intervals[:, 5:7] / fit.intervals[:, 5:7], nan=1.0), 0, tallest).T
    return np.maximum.accumulate(marks, axis=1), r_ratio, t_ratio


def _draw(
    fit: LeadFit, target_intervals: np.ndarray, beats_s: np.ndarray, first_s: np.ndarray, residual: bool, kappa: float
) -> np.ndarray:
    marks, r_ratio, t_ratio = _move(fit, target_intervals)
    centre, width = _stretched(fit, marks)
    taller = np.where(fit.role == "P", 1.0, np.where(fit.role == "T", t_ratio[:, None], r_ratio[:, None]))
    gain = fit.gain_mv * taller[:, None]
    unit = mcsharry.unit_waves(
        centre, width, beats_s, samples=MODEL_SAMPLES, rate_hz=MODEL_RATE_HZ, first_s=first_s,
        relaxation_per_s=kappa,
    )  # fmt: skip
    trace = gain @ unit + fit.baseline_mv[:, :, None]
    return trace + _carried(_remainder(fit, marks, r_ratio, t_ratio), beats_s, first_s) if residual else trace


def _stretched(fit: LeadFit, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres and widths ``(B, W)`` [s] of the waves on the stretched clock."""
    edges = fit.centre_s[:, None] + fit.width_s[:, None] * np.array([-1, 0, 1])[:, None]
    edges_s = np.stack([np.interp(x, *_knots(a, b)) for x, a, b in zip(edges, fit.landmarks_s, marks)])
    left, centre, right = edges_s.transpose(1, 0, 2)
    return centre, (right - left) / 2


def _knots(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets of landmarks with far ends that only shift."""
    far = np.array([-10.0, 10.0])
    ends = [(x[0] + far[:1], x, x[-1] + far[1:]) for x in (source, target)]
    return np.concatenate(ends[0]), np.concatenate(ends[1])


def _remainder(fit: LeadFit, marks: np.ndarray, r_ratio: np.ndarray, t_ratio: np.ndarray) -> np.ndarray:
    """What the waves left over, on the stretched clock, ``(B, n, 8)`` [mV] at TIME_S."""
    step = EVERY / RATE_HZ
    out = np.empty((len(fit), len(TIME_S), fit.residual_mv.shape[1]), dtype=np.float32)
    for i, (source, target) in enumerate(zip(fit.landmarks_s, marks)):
        then = np.interp(TIME_S, *_knots(target, source))
        at = np.clip((then - FIRST_S) / step, 0, len(TIME_S) - 1.001)
        column = at.astype(int)
        part = (at - column).astype(np.float32)[:, None]
        own = fit.residual_mv[i].T
        height = np.interp(then, source[[1, 2, 4, 5]], [1.0, r_ratio[i], r_ratio[i], t_ratio[i]]).astype(np.float32)
        out[i] = height[:, None] * ((1 - part) * own[column] + part * own[column + 1])
    return out


def _carried(remainder: np.ndarray, beats_s: np.ndarray, first_s: np.ndarray) -> np.ndarray:
    """The remainder ``(B, n, 8)`` at every beat, ``(B, 8, 1024)`` [mV]: of each sample's beat and of the next one."""
    phase = mcsharry.turn(beats_s, -2 * np.pi * first_s / beats_s[:, 0], MODEL_SAMPLES, MODEL_RATE_HZ)
    rr = 2 * np.pi / phase.omega
    since = phase.theta / phase.omega
    since = np.where(since < 0, since + rr * np.ceil(-since / rr), since)  # beats before the first are as long as it
    out = np.zeros((len(remainder), MODEL_SAMPLES, remainder.shape[2]), dtype=np.float32)
    rows = np.arange(len(remainder))[:, None]
    for after in (since, since - rr):
        at = np.clip((after - FIRST_S) * (RATE_HZ / EVERY), 0, len(TIME_S) - 1.001)
        column = at.astype(int)
        part = (at - column).astype(np.float32)[..., None]
        out += (1 - part) * remainder[rows, column] + part * remainder[rows, column + 1]
    return out.transpose(0, 2, 1)
