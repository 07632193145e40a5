"""``show``: the intervals that each heart shows in this minute, without drawing a strip.

The usual beat of a strip (its path, its rate, its PR) follows from the rhythm, the modulation and the minute's own
numbers; what it shows comes from the table of noise-free beats. Hazards ask for these, and readings are these and the
error of a measurement.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: SIM109 - long argument lists and plain conditions of compiled loops

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from ecg_gym.compiled import compiled_exact
from ecg_gym.pharmacology.kernel import (
    ATRIAL_CONDUCTION,
    AV_BLOCK,
    AV_RATE,
    CONDUCTION,
    CONTRACTILITY,
    ECTOPY,
    ESCAPE_RATE,
    JTPEAK_MS,
    PACING,
    PR_MS,
    RESISTANCE,
    T_AMPLITUDE,
    TPEAK_TEND_MS,
)
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import columns
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.atrial_beats import p_wave_marks, p_wave_onset, p_wave_tables
from ecg_gym.virtual_patient.beat_intervals import (
    AXES,
    CORNERS,
    FUSION_STEP_MS,
    LAST_FUSION,
    PATHS,
    Axes,
    coarsely,
    knots,
    learn,
)
from ecg_gym.virtual_patient.beat_spectra import KINDS, PREEXCITED, TERRITORIES
from ecg_gym.virtual_patient.beat_targets import GAINS_PER_UNIT, MOST_GAIN, Knobs, beat_targets, knobs, turned
from ecg_gym.virtual_patient.circulation import PressureLaw, mean_pressure, outputs, pressure_law
from ecg_gym.virtual_patient.columns import FIRST_MINUTE, FIRST_SHOWN, PR, RATE, RHYTHM
from ecg_gym.virtual_patient.heart import draw_heart
from ecg_gym.virtual_patient.heart_arrays import HeartArrays, stacked
from ecg_gym.virtual_patient.kernel import LEADERS, paced_by
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.rhythm_table import rhythms, timing
from ecg_gym.virtual_patient.strip_plan import plan_strips, true_intervals

(_SINUS, _ATRIAL, _PATHWAY, _REENTRY, _VENTRICULAR, _TORSADE, _PACED, _NOTHING) = range(len(LEADERS))
_NORMAL = 0
_LAST_GAIN = int(MOST_GAIN * GAINS_PER_UNIT)
_DRIFT = 0.2  # share of the way from the median RR to the mean one that a memory of 30 beats goes within a strip
_PACED_RHYTHM = list(rhythms()).index("paced")
_PACED_KIND, _ESCAPE_KIND = KINDS.index("paced"), KINDS.index("escape")
# columns of ``usual``: what the usual beat of a strip is
(KIND, FUSION_MS, HR, PREVIOUS_S, AVERAGE_S, PR_S, P_WAVES, COMPLETE, ECTOPIC, N_USUAL) = range(10)


class Trains(NamedTuple):
    """What rhythms.yaml says of each rhythm ``(R,)``; NaN where a rhythm has none of it."""

    leader: np.ndarray
    infranodal: np.ndarray  # bool
    passes_bpm: np.ndarray
    conduct_of: np.ndarray
    growth_ms: np.ndarray
    escape_bpm: np.ndarray
    junctional: np.ndarray  # bool: the escape comes down the usual path
    ectopic_share: np.ndarray
    every: np.ndarray
    coupling: np.ndarray
    run: np.ndarray  # (R, 2) shortest and longest
    run_bpm: np.ndarray
    focus: np.ndarray  # the path of ectopic beats
    flutter_bpm: np.ndarray  # (R, 2) mean and SD of the atria
    fusion_ms: np.ndarray  # of the usual beat through a pathway
    degree: np.ndarray  # of AV block
    block_exponent: float
    longest_wenckebach: float
    pathway_pr_ms: float
    whole_fusion_ms: float
    fusion_step_ms: float
    largest_share: float
    regular_from: float
    after_ectopic: float
    rate_sd: float
    pr_sd_ms: float
    torsade_bpm: float  # beats and waves of a strip with a bout of torsade, on average


@cache
def trains() -> Trains:
    """The table of rhythms as arrays."""
    rows, nan = list(rhythms().values()), float("nan")

    def number(name: str, otherwise: float = nan) -> np.ndarray:
        return np.array([row.get(name, otherwise) for row in rows], float)

    flutter = [row["atrial_bpm"] if row.get("waves") == "flutter" else (nan, nan) for row in rows]
    strip = population()["strip"]
    return Trains(
        leader=np.array([LEADERS.index(row["leader"]) for row in rows], np.int64),
        infranodal=np.array([bool(row.get("infranodal")) for row in rows]),
        passes_bpm=number("passes_bpm"), conduct_of=number("conduct_of"), growth_ms=number("growth_ms", 0.0),
        escape_bpm=number("escape_bpm", timing("escape_bpm")),
        junctional=np.array([row.get("escape") == "junctional" for row in rows]),
        ectopic_share=number("ectopic_share", 0.0), every=number("every", 1.0), coupling=number("coupling"),
        run=np.array([row.get("run", (1, 1)) for row in rows], float), run_bpm=number("run_bpm"),
        focus=np.array([KINDS.index(row["focus"]) if "focus" in row else -1 for row in rows], np.int64),
        flutter_bpm=np.array(flutter, float),
        fusion_ms=np.array([np.mean(row["fusion_ms"]) if "fusion_ms" in row else nan for row in rows], float),
        degree=number("av_block", 1.0), block_exponent=timing("block_exponent"),
        longest_wenckebach=timing("longest_wenckebach"), pathway_pr_ms=timing("pathway_pr_ms"),
        whole_fusion_ms=timing("whole_fusion_ms"), fusion_step_ms=timing("fusion_step_ms"),
        largest_share=timing("largest_ectopic_share"), regular_from=timing("regular_ectopy_from"),
        after_ectopic=timing("after_ectopic"), rate_sd=strip["rate"]["sd"], pr_sd_ms=strip["pr_ms"]["sd"],
        torsade_bpm=_torsade_bpm(),
    )  # fmt: skip


def _torsade_bpm() -> float:
    """The rate over a strip that a bout of torsade runs through, on average, in an average heart."""
    heart, n = draw_heart(np.random.default_rng(0), rhythm="torsade"), 64
    plan = plan_strips(HeartArrays.of([heart] * n), stacked([REST] * n), np.arange(n, dtype=np.uint64), 10.0)
    return float(np.mean(true_intervals(plan).hr_bpm))


class Beat(NamedTuple):
    """What the usual beat of a heart shows is made with: figures, and tables that fill as they are asked."""

    knobs: Knobs
    axes: Axes
    marks: np.ndarray  # of P waves; see ``atrial_beats``
    marks_known: np.ndarray
    slow_stops: np.ndarray
    apd_sd_ms: float
    previous: float  # weight of the beat before in the rate law
    exponent: float
    shortest_ms: float
    pressure: PressureLaw
    output: np.ndarray  # (R,) of each rhythm; see ``circulation``
    paced: int  # the code of the paced rhythm


@cache
def _beat() -> Beat:
    law, shortest = heart_table()["rate_law"], heart_table()["action_potential"]["shortest_ms"]
    return Beat(knobs(), AXES, *p_wave_tables(), float(population()["strip"]["apd_ms"]["sd"]), float(law["previous"]),
                float(law["exponent"]), float(shortest), pressure_law(), outputs(), _PACED_RHYTHM)  # fmt: skip


def show(hearts: np.ndarray, now: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Write what is shown into ``now[rows]``; returns what the usual beats are, ``(len(rows), N_USUAL)``."""
    usual, missing = np.empty((len(rows), N_USUAL)), np.empty(3 * CORNERS * len(rows), np.int64)
    waiting = np.zeros(len(rows), bool)
    while True:
        lacking = _show(trains(), _beat(), *knots(), hearts, now, rows, usual, waiting, missing)
        if lacking:
            learn(missing[:lacking])
        if waiting.any():
            _learn_knobs(hearts[rows[waiting]], now[rows[waiting]])
        if not lacking and not waiting.any():
            return usual


def _learn_knobs(hearts: np.ndarray, now: np.ndarray) -> None:
    """Measure the knobs and the P waves of hearts of which they are not known yet."""
    pose, scar = (hearts[:, i].astype(np.int64) for i in (columns.POSE, columns.SCAR))
    qrs, qtcf, tpeak_tend, gain = (
        hearts[:, i] for i in (columns.QRS, columns.QTCF, columns.TPEAK_TEND, columns.T_GAIN)
    )
    beat_targets(pose, scar, qrs, qtcf, tpeak_tend, gain, replaced(T_AMPLITUDE=now[:, T_AMPLITUDE]))
    p_wave_marks(pose, np.ones(len(pose)))


def replaced(**fields: np.ndarray) -> Modulation:
    """A modulation that holds arrays in some of its fields."""
    return Modulation(**{**vars(REST), **{name.lower(): value for name, value in fields.items()}})


@compiled_exact
def _show(t, beat, keys, values, hearts, now, rows, usual, waiting, missing):
    """Fill ``now[rows]`` and ``usual``, but for rows ``waiting`` for knobs; ``missing`` are knots to be measured."""
    n, at, coarse, room, k = 0, np.empty(4), np.empty(6), np.empty((3, 6)), beat.knobs
    for j in range(len(rows)):
        heart, hour, u = hearts[rows[j]], now[rows[j]], usual[j]
        u[:] = math.nan
        usual_beat(t, heart, hour, u)
        rhythm, hour[columns.PACED] = int(heart[RHYTHM]), 0.0
        if hour[PACING] > u[HR]:  # a pacemaker on demand takes over where the heart is slower
            rhythm, hour[columns.PACED] = beat.paced, 1.0
            _paced_beat(t, hour, u)
        own = heart[columns.OWN_CONTRACTILITY]
        hour[columns.MAP] = mean_pressure(beat.pressure, heart[columns.OWN_MAP], own, beat.output[rhythm],
                                          hour[CONTRACTILITY], hour[RESISTANCE], u[HR])  # fmt: skip
        hour[columns.CONTRACTILITY] = own * hour[CONTRACTILITY]
        pose, scar, injury = int(heart[columns.POSE]), int(heart[columns.SCAR]), int(heart[columns.INJURY])
        gain = int(min(max(np.rint(heart[columns.T_GAIN] * hour[T_AMPLITUDE] * GAINS_PER_UNIT), 1), _LAST_GAIN))
        atria = pose % len(beat.marks)
        waiting[j] = not (k.poses[pose] and k.is_filled[pose, scar, gain] and beat.marks_known[atria])
        if waiting[j]:
            continue
        intervals = hour[FIRST_SHOWN : columns.FIRST_USUAL]
        intervals[:] = math.nan
        intervals[0] = u[HR]
        hour[columns.FIRST_USUAL], hour[columns.FIRST_USUAL + 1] = u[KIND], u[ECTOPIC]
        hour[columns.FIRST_USUAL + 2] = u[COMPLETE]
        if math.isnan(u[KIND]):
            continue
        slow, x, mean_ms = turned(
            heart[columns.QRS], heart[columns.QTCF], heart[columns.TPEAK_TEND], hour[CONDUCTION], hour[JTPEAK_MS],
            hour[TPEAK_TEND_MS], k.stops, k.widths[pose], k.jts[pose], k.x_stops, k.tpte[pose, scar, gain],
            k.jt_by_x[pose, scar, gain], k.reference_ms,
        )  # fmt: skip
        apd = mean_ms + beat.apd_sd_ms * hour[FIRST_MINUTE + 2]
        paced = beat.previous * u[PREVIOUS_S] + (1 - beat.previous) * u[AVERAGE_S]
        at[0], at[1], at[2] = slow, x, gain / GAINS_PER_UNIT
        at[3] = max(apd * paced**beat.exponent, beat.shortest_ms)
        kind = int(u[KIND])
        if kind == PREEXCITED:
            fusion = np.rint((0.0 if math.isnan(u[FUSION_MS]) else u[FUSION_MS]) / slow)
            kind = len(KINDS) + int(min(max(np.rint(fusion / FUSION_STEP_MS), 0), LAST_FUSION))
        combination = ((pose * len(TERRITORIES) + scar) * len(TERRITORIES) + injury) * PATHS + kind
        n = coarsely(combination, at, beat.axes, keys, values, coarse, room, missing, n)
        visible = p_wave_onset(beat.marks[atria], beat.slow_stops, hour[ATRIAL_CONDUCTION])
        onset, qrs, jtpeak, qt, t_mv = coarse[0], coarse[1], coarse[3], coarse[4], coarse[5]
        intervals[1], intervals[2], intervals[3], intervals[4] = 1000 * u[PR_S] + onset - visible, qrs, qt, jtpeak
        intervals[5], intervals[6] = qt - qrs - jtpeak, qt * np.cbrt(u[HR] / 60)
        intervals[7] = t_mv * heart[columns.R_GAIN]
    return n


@compiled_exact
def _paced_beat(t, m, usual):
    """The usual beat where a temporary pacemaker has taken over; its P waves, if any, go their own way."""
    usual[HR] = m[PACING] * (1 + t.rate_sd * m[FIRST_MINUTE])
    usual[PREVIOUS_S] = usual[AVERAGE_S] = 60 / usual[HR]
    usual[KIND], usual[PR_S], usual[P_WAVES] = _PACED_KIND, math.nan, 1.0
    usual[FUSION_MS], usual[COMPLETE], usual[ECTOPIC] = 0.0, 0.0, 0.0


@compiled_exact
def _rounded_fusion(t, fusion_ms):
    return min(max(np.rint(fusion_ms / t.fusion_step_ms) * t.fusion_step_ms, 0.0), t.whole_fusion_ms)


@compiled_exact
def _ectopics(t, rhythm, rr, share, path, usual):
    """What premature beats do to the mean rate and to the beat before the usual one."""
    if share <= 0:
        return
    usual[ECTOPIC] = share
    shortest, longest = t.run[rhythm, 0], t.run[rhythm, 1]
    within = 60 / t.run_bpm[rhythm] if not math.isnan(t.run_bpm[rhythm]) else t.coupling[rhythm] * rr
    if t.every[rhythm] > 1 and share >= t.regular_from:  # bigeminy: every second beat, after a long pause
        usual[PREVIOUS_S] = rr * (t.every[rhythm] - t.coupling[rhythm])
        return
    added = lost = 0.0
    for k in range(int(shortest), int(longest) + 1):
        chance = 1 / (longest - shortest + 1)
        until = t.coupling[rhythm] * rr + (k - 1) * within + t.after_ectopic * rr
        added += chance * k
        lost += chance * max(math.ceil(until / rr - 1e-9) - 1, 0)
    # a beat starts a run with chance `share` unless it is pre-empted: of n sinus beats s = n / (1 + share x lost) stay
    share_left = 1 / (1 + share * lost)
    total = share_left * (1 + share * added)
    usual[HR] *= total
    usual[AVERAGE_S] = rr * (1 - _DRIFT + _DRIFT / total)


@compiled_exact
def usual_beat(t, heart, m, usual):
    """The usual beat ``usual (N_USUAL,)`` of a strip; see ``rhythm.py``, which makes the trains."""
    minute = m[FIRST_MINUTE:FIRST_SHOWN]
    rhythm = int(heart[RHYTHM])
    leader, conduction = t.leader[rhythm], int(heart[RHYTHM + 1])
    path = _NORMAL if conduction == PREEXCITED else conduction
    pace = paced_by(leader)
    rate = heart[RATE] * (1 + t.rate_sd * minute[0]) * (m[pace] if pace >= 0 else 1.0)
    pr_s = (heart[PR] + t.pr_sd_ms * minute[1] + m[PR_MS]) / 1000
    complete = m[AV_BLOCK] > minute[3] and (leader == _SINUS or leader == _ATRIAL)
    usual[FUSION_MS], usual[P_WAVES], usual[COMPLETE], usual[ECTOPIC] = 0.0, 0.0, 1.0 if complete else 0.0, 0.0
    if leader == _NOTHING or rate <= 0:
        usual[HR], usual[KIND] = math.nan, math.nan
        return
    usual[HR], usual[KIND], usual[PR_S] = rate, path, math.nan
    usual[PREVIOUS_S] = usual[AVERAGE_S] = 60 / rate
    escape = t.escape_bpm[rhythm] * m[ESCAPE_RATE]
    if leader == _SINUS:
        usual[P_WAVES] = 1.0
        through = t.pathway_pr_ms / 1000
        if conduction == PREEXCITED:
            fusion = t.whole_fusion_ms if complete else 1000 * (pr_s - through)
            usual[COMPLETE] = 0.0
            usual[PR_S] = through if fusion > 0 else pr_s
            usual[KIND] = PREEXCITED if fusion > 0 else _NORMAL
            usual[FUSION_MS] = _rounded_fusion(t, fusion)
        else:
            cycle = math.inf
            if t.infranodal[rhythm]:
                cycle = 0.0 if math.isnan(t.passes_bpm[rhythm]) else math.ceil(rate / t.passes_bpm[rhythm])
            elif not math.isnan(t.conduct_of[rhythm]):
                cycle = np.rint(t.conduct_of[rhythm] * m[AV_RATE] ** t.block_exponent)
                cycle = math.inf if cycle > t.longest_wenckebach else cycle
            if complete or cycle < 2:
                usual[HR], usual[COMPLETE] = escape, 1.0
                usual[KIND] = path if t.junctional[rhythm] else _ESCAPE_KIND
                usual[PREVIOUS_S] = usual[AVERAGE_S] = 60 / escape
                return
            usual[PR_S] = pr_s
            if cycle < math.inf:
                passed = 1.0 / cycle if t.infranodal[rhythm] else (cycle - 1) / cycle
                usual[HR] = rate * passed
                usual[PREVIOUS_S] = usual[AVERAGE_S] = 60 / usual[HR]
                if not t.infranodal[rhythm]:
                    grown = t.growth_ms[rhythm] / 1000
                    usual[PR_S] = pr_s + grown * (cycle - 2) / 2
                    if cycle > 3:  # most beats follow one that was conducted
                        usual[PREVIOUS_S] = usual[AVERAGE_S] = 60 / rate + grown
        share = min(t.ectopic_share[rhythm] * m[ECTOPY], t.largest_share)
        _ectopics(t, rhythm, 60 / usual[HR], share, path, usual)
    elif leader == _ATRIAL:
        if not math.isnan(t.flutter_bpm[rhythm, 0]):
            atrial = t.flutter_bpm[rhythm, 0] + t.flutter_bpm[rhythm, 1] * minute[4]
            usual[HR] = atrial / max(1.0, np.rint(atrial / rate))
        if complete:
            usual[HR], usual[KIND] = escape, path if t.junctional[rhythm] else _ESCAPE_KIND
        usual[PREVIOUS_S] = usual[AVERAGE_S] = 60 / usual[HR]
    elif leader == _PATHWAY:
        usual[KIND], usual[FUSION_MS] = PREEXCITED, _rounded_fusion(t, t.fusion_ms[rhythm])
    elif leader == _VENTRICULAR:
        usual[KIND] = t.focus[rhythm]
    elif leader == _PACED:
        usual[KIND], usual[P_WAVES] = _PACED_KIND, 1.0
    elif leader == _TORSADE:  # the usual beat is a wave of the run
        usual[HR], usual[KIND] = t.torsade_bpm, math.nan
