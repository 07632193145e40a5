"""``plan_strips``: everything that decides what strips show, before a sample of them is drawn; and their truth.

A plan is cheap (some ten microseconds a row) and complete: beats, paths, durations, where the strip begins, and the
intervals and findings that are true of it. ``draw_strips`` makes samples of it when somebody looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.core import R_PEAK_OFFSET_S
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.atrial_beats import p_wave_marks
from ecg_gym.virtual_patient.beat_intervals import ShownIntervals, shown_intervals
from ecg_gym.virtual_patient.beat_targets import BeatTargets, beat_targets
from ecg_gym.virtual_patient.beat_trains import TORSADE, Trains, beat_trains, with_durations
from ecg_gym.virtual_patient.heart_arrays import HeartArrays
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT

LEAD_IN_S = 1.2  # of every train before the strip, so that its first T wave has a beat to belong to
SPARE_S = 3.0  # planned on top where the strip begins at an R peak, so that one can be found
_ROOM_S = R_PEAK_OFFSET_S + 0.05  # before the first R peak that a strip may begin at
_LAST_START_S = 0.6  # and so long before the spare is over


@dataclass(frozen=True)
class StripPlan:
    """B strips that could be drawn; ``draw_strips`` draws them."""

    hearts: HeartArrays
    atrial_conduction: np.ndarray  # (B,) factor on the velocity of conduction in the atria
    keys: np.ndarray  # (B,) uint64: a strip's randomness
    targets: BeatTargets
    trains: Trains
    start_s: np.ndarray  # (B,) where the strip begins on the train's clock
    seconds: float

    def __len__(self) -> int:
        return len(self.hearts)


@dataclass(frozen=True)
class TrueIntervals:
    """What is true of B strips ``(B,)``, by the names of ``waveform.Intervals``; NaN where there is no such thing."""

    hr_bpm: np.ndarray
    rr_ms: np.ndarray
    pr_ms: np.ndarray
    qrs_ms: np.ndarray
    qt_ms: np.ndarray
    jtpeak_ms: np.ndarray
    usual: np.ndarray  # code of the beat that intervals are read from; see ``usual_beats``
    usual_fusion_ms: np.ndarray
    beats: np.ndarray  # how many begin within the strip

    @property
    def tpeak_tend_ms(self) -> np.ndarray:
        """``(B,)`` [ms]."""
        return self.qt_ms - self.qrs_ms - self.jtpeak_ms

    @property
    def qtcf_ms(self) -> np.ndarray:
        """``(B,)`` [ms], Fridericia."""
        return self.qt_ms / np.cbrt(self.rr_ms / 1000)

    def by_name(self) -> dict[str, np.ndarray]:
        """Each interval by its name, corrected ones included."""
        rr_s = self.rr_ms / 1000
        return {
            "hr_bpm": self.hr_bpm, "rr_ms": self.rr_ms, "pr_ms": self.pr_ms, "qrs_ms": self.qrs_ms,
            "qt_ms": self.qt_ms, "qtcf_ms": self.qtcf_ms, "qtcb_ms": self.qt_ms / np.sqrt(rr_s),
            "jtpeak_ms": self.jtpeak_ms, "jtpeakc_ms": self.jtpeak_ms / rr_s**JTPEAK_EXPONENT,
            "tpeak_tend_ms": self.tpeak_tend_ms,
        }  # fmt: skip


def plan_strips(
    hearts: HeartArrays, change: Modulation, keys: np.ndarray, seconds: float, at_r_peak: bool = True
) -> StripPlan:
    """Strips of B hearts under ``change`` (numbers or arrays ``(B,)``), each by its key ``(B,)`` uint64.

    With ``at_r_peak`` a strip begins ``R_PEAK_OFFSET_S`` before an R peak, otherwise behind ``LEAD_IN_S`` of its train.
    """
    b = len(hearts)
    targets = beat_targets(
        hearts.pose, hearts.scar, hearts.qrs_ms, hearts.qtcf_ms, hearts.tpeak_tend_ms, hearts.t_gain, change
    )
    whole = LEAD_IN_S + seconds + (SPARE_S if at_r_peak else 0.0)
    trains = with_durations(beat_trains(hearts, change, keys, whole), hearts, targets.mean_ms)
    conduction = np.broadcast_to(np.asarray(change.atrial_conduction, float), (b,))
    start_s = np.full(b, LEAD_IN_S)
    if at_r_peak:
        start_s += _ROOM_S + 0.1 - R_PEAK_OFFSET_S  # without beats, a fixed place
        _begin_at_r(hearts, targets, trains, start_s)
    return StripPlan(hearts, conduction, np.asarray(keys, np.uint64), targets, trains, start_s, seconds)


def _begin_at_r(hearts: HeartArrays, targets: BeatTargets, trains: Trains, start_s: np.ndarray) -> None:
    """Moves each start to before the R peak of the first beat that leaves room before it."""
    first = np.empty(len(start_s), np.int64)
    _first_beats(trains.qrs_s, trains.beats, LEAD_IN_S + _ROOM_S, LEAD_IN_S + _ROOM_S + SPARE_S - _LAST_START_S, first)
    rows = np.flatnonzero(first >= 0)
    if not len(rows):
        return
    at = (rows, first[rows])
    kind = trains.kind[at]
    regular = kind != TORSADE
    beats = _beats_of(hearts[rows], targets, rows, np.where(regular, kind, 0), trains.fusion_ms[at], trains.mean_ms[at])
    r_s = np.where(regular, beats.onset_ms + beats.r_peak_ms, 50.0) / 1000
    start_s[rows] = trains.qrs_s[at] + r_s - R_PEAK_OFFSET_S


@compiled
def _first_beats(qrs: np.ndarray, beats: np.ndarray, low: float, high: float, out: np.ndarray) -> None:
    for b in range(len(beats)):
        out[b] = -1
        for i in range(beats[b]):
            if low < qrs[b, i] < high:
                out[b] = i
                break


def _beats_of(
    hearts: HeartArrays, targets: BeatTargets, rows: np.ndarray, kind: np.ndarray, fusion_ms: np.ndarray,
    mean_ms: np.ndarray,
) -> ShownIntervals:  # fmt: skip
    """What beats of ``hearts``, which are the ``rows`` of ``targets``, show."""
    return shown_intervals(
        hearts.pose, hearts.scar, hearts.injury, kind, fusion_ms, targets.slowness[rows], targets.x[rows],
        targets.t_gain[rows], mean_ms,
    )  # fmt: skip


def true_intervals(plan: StripPlan) -> TrueIntervals:
    """The intervals that are true of the planned strips: rates of their beats, the rest of their usual beat."""
    b, trains = len(plan), plan.trains
    numbers, codes = np.full((5, b), np.nan), np.zeros((2, b), np.int64)
    _usual(
        trains.qrs_s, trains.kind, trains.pr_s, trains.fusion_ms, trains.mean_ms, trains.beats, plan.start_s,
        plan.seconds, numbers, codes,
    )  # fmt: skip
    rr_s, pr_s, mean_ms, fusion_ms, _ = numbers
    beats, usual = codes
    rows = np.flatnonzero((beats > 1) & (usual != TORSADE))
    parts = np.full((4, b), np.nan)
    if len(rows):
        shape = _beats_of(plan.hearts[rows], plan.targets, rows, usual[rows], fusion_ms[rows], mean_ms[rows])
        visible = p_wave_marks(plan.hearts.pose[rows], plan.atrial_conduction[rows])[:, 0]
        parts[:, rows] = (
            shape.qrs_ms,
            shape.qt_ms,
            shape.jtpeak_ms,
            1000 * pr_s[rows] + shape.onset_ms - visible,
        )
    qrs, qt, jtpeak, pr = parts
    return TrueIntervals(60 / rr_s, 1000 * rr_s, pr, qrs, qt, jtpeak, usual, fusion_ms, beats)


@compiled
def _usual(
    qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray, fusion: np.ndarray, mean: np.ndarray, beats: np.ndarray,
    start: np.ndarray, seconds: float, numbers: np.ndarray, codes: np.ndarray,
) -> None:  # fmt: skip
    """Per row: mean RR, median PR, median duration and fusion of the usual beat; how many beats, and its kind.

    The usual beat is the most frequent, of equals the first to come. Beats that a P wave conducted to count before
    others as soon as they are a third: a reader measures those.
    """
    for b in range(len(beats)):
        low = 0
        while low < beats[b] and qrs[b, low] < start[b]:
            low += 1
        high = low
        while high < beats[b] and qrs[b, high] < start[b] + seconds:
            high += 1
        n = high - low
        codes[0, b] = n
        if n < 2:
            continue
        numbers[0, b] = (qrs[b, high - 1] - qrs[b, low]) / (n - 1)
        conducted = 0
        delays = np.empty(n)
        for i in range(low, high):
            if not math.isnan(pr[b, i]):
                delays[conducted] = pr[b, i]
                conducted += 1
        if conducted:
            numbers[1, b] = np.median(delays[:conducted])
        only = 3 * conducted >= n and conducted > 0
        best, most = low, 0
        for i in range(low, high):
            if only and math.isnan(pr[b, i]):
                continue
            count = 0
            for j in range(low, high):
                if kind[b, j] == kind[b, i] and fusion[b, j] == fusion[b, i]:
                    count += not (only and math.isnan(pr[b, j]))
            if count > most:
                best, most = i, count
        own, k = np.empty(n), 0
        for j in range(low, high):
            if kind[b, j] == kind[b, best] and fusion[b, j] == fusion[b, best]:
                own[k] = mean[b, j]
                k += 1
        numbers[2, b], numbers[3, b] = np.median(own[:k]), fusion[b, best]
        codes[1, b] = kind[b, best]


def inside(plan: StripPlan, row: int) -> tuple[slice, np.ndarray]:
    """Of one row: which beats, and which P waves ``(P,)`` bool, begin within the strip."""
    trains, start = plan.trains, plan.start_s[row]
    qrs = trains.qrs_s[row, : trains.beats[row]]
    low, high = np.searchsorted(qrs, [start, start + plan.seconds])
    p = trains.p_s[row, : trains.p_waves[row]]
    return slice(int(low), int(high)), (p >= start) & (p < start + plan.seconds)


def row_of(plan: StripPlan, rows: Any) -> StripPlan:
    """The plan of some of the rows."""
    rows = np.atleast_1d(rows)

    def pick(of: Any) -> Any:
        return type(of)(*(np.asarray(value)[rows] for value in vars(of).values()))

    return StripPlan(
        plan.hearts[rows], plan.atrial_conduction[rows], plan.keys[rows], pick(plan.targets), pick(plan.trains),
        plan.start_s[rows], plan.seconds,
    )  # fmt: skip
