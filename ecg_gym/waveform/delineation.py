"""Fiducials: where P, QRS and T begin, peak and end on a median beat, all leads together.

QRS: spatial velocity (``qrs_marks``). T: vector magnitude and its steepest tangent (``t_marks``). P: a bump that every
beat repeats, or none (``p_marks``). The loops are compiled; the numbers they hang on are ``Rules``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform import p_marks, t_marks
from ecg_gym.waveform.arrays import magnitude, smoothed
from ecg_gym.waveform.atrial_waves import recurrence, restlessness
from ecg_gym.waveform.beats import Beat
from ecg_gym.waveform.p_marks import p_onset
from ecg_gym.waveform.qrs_marks import qrs_marks
from ecg_gym.waveform.rules import MANUAL, MS, RULES, Numbers, Rules, numbers
from ecg_gym.waveform.t_marks import t_marks as t_wave

__all__ = ["MANUAL", "MS", "RULES", "Fiducials", "Rules", "fiducials", "mark_beat", "reason_of"]

# columns of what `mark_beat` fills in
P_ONSET, QRS_ONSET, QRS_END, T_PEAK, T_END, R_MV, T_MV, PRESENT, P_CODE, T_CODE = range(10)
COLUMNS = 10
_NO_QRS, _NO_END = -1, -2
_T_AND_P, _T_AMID_WAVES = 4, 5  # codes of a T wave that cannot be told from the P wave, or from waves of the atria
_NEVER_REST = 6  # code of a P wave
_P_REASONS = {
    p_marks.FOUND: "",
    p_marks.NO_ROOM: "no room for a P wave before the QRS",
    p_marks.NO_WAVE: "no P wave",
    p_marks.NOT_REPEATED: "no P wave that every beat repeats",
    p_marks.FLUTTER: "no P wave but a wave that keeps coming",
    p_marks.NO_END: "no P wave that ends before the QRS",
    _NEVER_REST: "no P wave but waves that never rest",
}
_T_REASONS = {
    t_marks.FOUND: "",
    t_marks.NO_PEAK: "no T peak before the next beat",
    t_marks.STAYS_UP: "T wave does not come down before the next beat",
    _T_AND_P: "the P wave begins before the T wave has peaked: they cannot be told apart",
    _T_AMID_WAVES: "flutter waves hide the end of T",
}
_NAN = math.nan


@dataclass(frozen=True)
class Fiducials:
    """Columns of a median beat (float, NaN where there is none)."""

    p_onset: float
    qrs_onset: float
    qrs_end: float
    t_peak: float
    t_end: float
    r_amplitude_mv: float
    t_amplitude_mv: float
    reason: str  # "" or what is missing and why


def fiducials(beat: Beat, rr_ms: float, rules: Rules = RULES) -> Fiducials:
    """The fiducials of one median beat whose typical RR is ``rr_ms`` [ms]."""
    rr = np.diff(beat.peaks) / MS
    marks, singles = np.empty(COLUMNS), np.ascontiguousarray(beat.singles, np.float32)
    mark_beat(
        np.ascontiguousarray(beat.signal, np.float32), singles, len(singles), beat.r, float(rr_ms),
        float(beat.next_rr_ms), float(beat.previous_rr_ms), float(rr.mean()), float(rr.std()), numbers(rules), marks,
    )  # fmt: skip
    p, onset, end, t_peak, t_end, r_mv, t_mv = map(float, marks[:PRESENT])
    return Fiducials(p, onset, end, t_peak, t_end, r_mv, t_mv, reason_of(marks, rules))


def reason_of(marks: np.ndarray, rules: Rules = RULES) -> str:
    """What is missing in ``marks (10,)`` and why."""
    if marks[T_CODE] == _NO_QRS:
        return "QRS boundaries not found"
    if marks[T_CODE] == _NO_END:
        return "a wide QRS that fills the cycle has no end that can be told"
    small = f"T wave below {1000 * rules.least_t_mv * marks[PRESENT]:.0f} uV"
    reasons = _P_REASONS[int(marks[P_CODE])], _T_REASONS.get(int(marks[T_CODE]), small)
    return "; ".join(reason for reason in reasons if reason)


@compiled
def mark_beat(
    signal: np.ndarray, singles: np.ndarray, n: int, r: int, rr_ms: float, next_rr_ms: float, previous_rr_ms: float,
    rr_mean_ms: float, rr_sd_ms: float, rules: Numbers, out: np.ndarray,
) -> None:  # fmt: skip
    """Fills ``out (10,)`` for a median beat ``(8, W)`` made of ``singles (n or more, 8, W)``."""
    out[:] = _NAN
    onset, end = qrs_marks(signal, r, False, rules)
    if onset < 0:
        out[T_CODE] = _NO_QRS
        return
    restless, again = restlessness(signal, r, onset, rr_mean_ms, rr_sd_ms, rules), 0.0
    if restless > rules.restless_if_again:
        again = recurrence(signal, onset, end, rr_ms, rules)
    waves = again > rules.again or (restless > rules.restless and rr_ms < rules.always_below_ms)
    if waves:
        narrow_onset, narrow_end = qrs_marks(signal, r, True, rules)
        if narrow_onset >= 0 and narrow_end - narrow_onset >= rules.least_narrower * (end - onset):
            onset, end = narrow_onset, narrow_end
    if end - onset >= rules.wide and end - onset >= rules.widest_share * rr_ms * MS:
        out[T_CODE] = _NO_END
        return
    count, width = signal.shape
    leads, smooth, size = np.empty_like(signal), np.empty_like(signal), np.empty(width, np.float32)
    there = 0
    for lead in range(count):
        level, low, high = np.float32(0), signal[lead, 0], signal[lead, 0]
        for i in range(onset - round(12 * MS), onset - round(2 * MS)):
            level += signal[lead, i]
        level /= np.float32(round(12 * MS) - round(2 * MS))
        for i in range(width):
            leads[lead, i] = signal[lead, i] - level
            low, high = min(low, signal[lead, i]), max(high, signal[lead, i])
        there += high > low
    # the least sizes are meant for all leads; a magnitude over fewer ones is smaller
    present = math.sqrt(there / count)
    least_p, least_t = present * rules.least_p_mv, present * rules.least_t_mv
    smoothed(leads, width, rules.t_kernel, smooth)
    magnitude(smooth, width, size)
    # T first without knowing where the next P begins, P behind that T, and T again up to that P
    behind, previous = next_rr_ms * MS, previous_rr_ms * MS
    last = int(onset - round(20 * MS) + behind)
    if waves and rr_ms > rules.fastest_flutter_ms:
        last = int(onset - rules.wave_before + behind)
    guess_peak, guess_end, _, _ = t_wave(size, r, rr_ms, end, last, -1, 1.0, least_t, rules)
    p, p_code = p_onset(singles, n, leads, r, onset, guess_peak - previous, guess_end - previous, rr_ms, least_p, rules)
    # a premature beat behind has no P wave that could bound this T
    next_p = int(p + behind) if math.isfinite(p) and behind > 0.9 * rr_ms * MS else -1
    t_peak, t_end, t_mv, t_code = t_wave(size, r, rr_ms, end, last, next_p, rules.t_tail, least_t, rules)
    if math.isfinite(p) and p <= guess_peak - previous:
        p, t_peak, t_end, t_code = _NAN, _NAN, _NAN, _T_AND_P
    if waves:
        p, p_code = _NAN, _NEVER_REST
    if again > rules.again_hides_t:
        t_peak, t_end, t_mv, t_code = _NAN, _NAN, _NAN, _T_AMID_WAVES
    magnitude(leads, width, size)
    highest = np.float32(0)
    for i in range(onset, end):
        highest = max(highest, size[i])
    out[P_ONSET], out[QRS_ONSET], out[QRS_END], out[T_PEAK], out[T_END] = p, onset, end, t_peak, t_end
    out[R_MV], out[T_MV], out[PRESENT], out[P_CODE], out[T_CODE] = highest, t_mv, present, p_code, t_code
