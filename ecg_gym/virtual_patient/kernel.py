"""What becomes of B hearts in a step: doses, hazards, conversions and deaths, as one Numba loop over rows.

``survival.py`` says the same in more words, row by row; tests compare the two. Every row draws its own numbers from its
stream, always equally many.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: E501, SIM109 - long argument lists and plain conditions of compiled loops

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ecg_gym.compiled import compiled_exact
from ecg_gym.pharmacology.hazards import _COARSE
from ecg_gym.pharmacology.kernel import (
    AF_ENDS,
    AV_BLOCK,
    AV_RATE,
    CONDUCTION,
    CONTRACTILITY,
    ECTOPY,
    ICAL_BLOCK,
    IKR_BLOCK,
    INA_BLOCK,
    INAL_BLOCK,
    JTPEAK_MS,
    PACING,
    PATHWAY_RATE,
    REENTRY_ENDS,
    RESISTANCE,
    SHOCK,
    SINUS_RATE,
    TORSADE_ENDS,
    TPEAK_TEND_MS,
    VT_ENDS,
    course,
    looks_of,
    scratch,
)
from ecg_gym.philox import block, unit
from ecg_gym.virtual_patient import columns
from ecg_gym.virtual_patient.circulation import mean_pressure, outputs, pressure_law
from ecg_gym.virtual_patient.columns import (
    ARRHYTHMIA,
    BASE,
    FIRST_MINUTE,
    FIRST_OFFSET,
    FIRST_SENSITIVITY,
    FIRST_SERUM,
    FIRST_SHOWN,
    INJURY,
    OWN_CONTRACTILITY,
    OWN_MAP,
    QRS,
    QTCF,
    RATE,
    RETURNS,
    RHYTHM,
    SCAR,
    SINCE,
    SINUS,
)
from ecg_gym.virtual_patient.draws import normal as standard
from ecg_gym.virtual_patient.draws import stream, uniform
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.transitions import MOST_CHANGES, transitions
from ecg_gym.virtual_patient.truth import hazard_values

LEADERS = ("sinus", "atrial", "pathway", "reentry", "ventricular", "torsade", "paced", "none")
_SINUS, _ATRIAL, _PATHWAY, _REENTRY, _VENTRICULAR, _TORSADE = range(6)
_MINUTE, _DELAY, _ATRIA = 0, 2, 5  # purposes of a strip's streams; see ``beat_trains``
SHOWN_HR, SHOWN_QTCF = FIRST_SHOWN, FIRST_SHOWN + columns.SHOWN.index("qtcf_ms")

Hazards = NamedTuple("Hazards", [(name, float) for name in hazard_values()])  # type: ignore[misc]


class Doses(NamedTuple):
    """What was given, and what every dose that was ever named is."""

    hours: np.ndarray  # (B, Q) [h]
    code: np.ndarray  # (B, Q) int32 row of the catalogue, -1 where there is none
    drug: np.ndarray  # (D,) of the catalogue: which drug
    route: np.ndarray  # (D,) by which route
    mg: np.ndarray  # (D,) [mg], or [mg/kg]
    per_kg: np.ndarray  # (D,) bool
    duration: np.ndarray  # (D,) [h]


class People(NamedTuple):
    """What the kernel needs to know of the people beside their hearts."""

    weight: np.ndarray  # (B,) [kg]
    creatinine_clearance: np.ndarray  # (B,) [mL/min], NaN where unknown
    serum: np.ndarray  # (B, 4) own potassium, magnesium, calcium [mmol/L], trend of potassium [mmol/L/h]
    medication: np.ndarray  # (G, M) bool: other drugs taken, of each group of people
    group: np.ndarray  # (B,) int32


class Rhythms(NamedTuple):
    """What the kernel needs to know of each rhythm."""

    leader: np.ndarray  # (R,) place in LEADERS
    sinus: int  # the plain sinus rhythm
    vt: int
    vf: int
    asystole: int
    torsade: int
    paced: int
    output: np.ndarray  # (R,) see ``circulation``
    law: Any  # PressureLaw
    become: Any  # Transitions


@cache
def hazard_figures() -> Any:
    """The hazards' figures of the heart's table."""
    return Hazards(**hazard_values())


@cache
def rhythm_table() -> Rhythms:
    """The rhythms by their place in ``columns.words``."""
    names = columns.words()["rhythm"]
    leader = np.array([LEADERS.index(rhythms()[name]["leader"]) for name in names], np.int64)
    sinus, vt, vf, asystole, torsade, paced = map(names.index, ("sinus", "vt", "vf", "asystole", "torsade", "paced"))
    return Rhythms(leader, sinus, vt, vf, asystole, torsade, paced, outputs(), pressure_law(), transitions())


@njit(inline="always")
def ischaemia(h, heart, rhythm, vt, torsade):
    """What scar, injury and a running ventricular tachycardia add to the hazard of VT/VF [1/h]."""
    added = (h.scar if heart[SCAR] > 0 else 0.0) + (h.injury if heart[INJURY] > 0 else 0.0)
    if rhythm == vt:
        return added + h.running_vt
    return added + (h.running_torsade if rhythm == torsade else 0.0)


@njit(inline="always")
def lethal(h, m, ischaemic, qtcf, hr, potassium, mmhg, fails, out):
    """Hazards ``out (3,)`` [1/h] of torsade, VT/VF and asystole; see ``truth.hazards_of``."""
    if math.isnan(qtcf):
        qtcf = h.typical_qtcf_ms
    if math.isnan(hr):
        hr = h.typical_hr_bpm
    low_k, high_k = max(0.0, h.low_potassium - potassium), max(0.0, potassium - h.high_potassium)
    unopposed = max(0.0, m[IKR_BLOCK] - m[ICAL_BLOCK] - m[INAL_BLOCK])
    torsade = h.torsade
    if qtcf > h.torsade_from_ms:
        torsade *= math.exp(h.torsade_per_10_ms * (qtcf - h.torsade_from_ms) / 10)
    torsade *= 1 + h.torsade_above_500 / (1 + math.exp(-(qtcf - h.torsade_level_ms) / h.torsade_level_width_ms))
    slow = max(0.0, h.torsade_slow_from_bpm - hr) / h.torsade_slow_scale_bpm
    out[0] = torsade * (1 + h.torsade_unopposed * unopposed) * (1 + low_k) * (1 + slow)
    vt = (h.vt_vf + ischaemic * m[ECTOPY]) * (1 + h.vt_ina_block * m[INA_BLOCK])
    vt = vt * (1 + h.vt_high_potassium * high_k + low_k)
    vt += h.fast * max(0.0, hr - h.fast_from_bpm) / h.fast_scale_bpm
    out[1] = vt + h.high_potassium_wide * max(0.0, 1 / m[CONDUCTION] - 1) * max(0.0, potassium - h.wide_from_potassium)
    out[1] += h.shock_vf * m[SHOCK] * m[ECTOPY]
    slower = max(0.0, h.asystole_below_bpm - hr) / h.asystole_scale_bpm
    sooner = math.exp(slower) if slower > 0 else 1.0
    out[2] = h.asystole * (1 + h.asystole_block * m[AV_BLOCK]) * sooner * (1 + high_k)
    low = max(0.0, h.hypotension_from_mmhg - mmhg) / h.hypotension_scale_mmhg
    out[2] += fails + h.hypotension * low * low


@compiled_exact
def _ended_by(leader):
    """The column of the hazard that ends a rhythm, or -1."""
    if leader == _REENTRY:
        return REENTRY_ENDS
    if leader == _VENTRICULAR:
        return VT_ENDS
    if leader == _TORSADE:
        return TORSADE_ENDS
    return AF_ENDS if leader == _ATRIAL or leader == _PATHWAY else -1


@njit(inline="always")
def paced_by(leader):
    """The column of the modulation that a rhythm's rate follows, or -1."""
    if leader == _SINUS or leader == _TORSADE:
        return SINUS_RATE
    if leader == _ATRIAL:
        return AV_RATE
    return PATHWAY_RATE if leader == _PATHWAY else -1


@njit(inline="always")
def danger(h, r, heart, then, early, m, potassium, rate):
    """Lethal hazards ``rate (3,)`` [1/h] of a heart under ``m``; ``early``: still in the rhythm of its strip, under ``then``.

    A heart in the rhythm of its strip is in danger by the intervals shown, moved by what has changed since; one that has
    changed its rhythm by its own at rest. See ``survival.lethal_rates``.
    """
    rhythm = int(heart[RHYTHM])
    was = then[CONDUCTION] if early else 1.0
    longer = m[JTPEAK_MS] + m[TPEAK_TEND_MS] + heart[QRS] * (1 / m[CONDUCTION] - 1 / was)
    if early:
        longer -= then[JTPEAK_MS] + then[TPEAK_TEND_MS]
    pace, faster = paced_by(r.leader[rhythm]), 1.0
    if pace >= 0:
        faster = m[pace] / (then[pace] if early else 1.0)
    qtcf = (then[SHOWN_QTCF] if early else heart[QTCF]) + longer
    hr = (then[SHOWN_HR] if early else heart[RATE]) * faster
    output, fails = r.output[rhythm], r.become.fails[rhythm]
    if m[PACING] > hr:
        output, fails, hr = r.output[r.paced], 0.0, m[PACING]
    mmhg = mean_pressure(r.law, heart[OWN_MAP], heart[OWN_CONTRACTILITY], output, m[CONTRACTILITY], m[RESISTANCE], hr)
    lethal(h, m, ischaemia(h, heart, rhythm, r.vt, r.torsade), qtcf, hr, potassium, mmhg, fails, rate)


@njit(inline="always")
def departures(h, r, heart, m, torsade, hour, out):
    """Hazards ``out (4,)`` [1/h] that the rhythm ends, that torsade begins, that an arrhythmia returns, and that another comes.

    ``torsade`` is its lethal hazard [1/h]. See ``survival.departures``.
    """
    t, rhythm, since = r.become, int(heart[RHYTHM]), hour - heart[SINCE]
    leader, returns = r.leader[rhythm], int(heart[RETURNS])
    ended = _ended_by(leader)
    out[0] = t.ends[rhythm] + (m[ended] if ended >= 0 else 0.0)
    if rhythm == r.torsade and m[PACING] > 0:
        out[0] += h.torsade_paced
    if t.recent[rhythm] != 0 and since > 24:
        out[0] *= (since / 24.0) ** t.recent[rhythm]
    out[1] = out[2] = 0.0
    if leader == _SINUS:
        out[1] = torsade * h.torsade_bouts * (h.torsade_again if returns == r.torsade else 1.0)
        if returns >= 0 and returns != r.torsade:
            by = _ended_by(r.leader[returns])
            out[2] = t.early[returns] * math.exp(-since / t.settles[returns]) + t.late[returns]
            out[2] *= m[ECTOPY] ** t.returns_ectopy[returns]
            if by >= 0:
                out[2] /= 1 + m[by] / t.hold[returns]
    out[3] = 0.0
    if t.becomes_per_hour[rhythm] > 0:
        out[3] = t.becomes_per_hour[rhythm] * m[ECTOPY] ** t.becomes_ectopy[rhythm]


@compiled_exact
def depart(r, heart, which, hour):
    """Change the rhythm of a heart, in place; ``which`` is the place among ``departures``."""
    t, rhythm = r.become, int(heart[RHYTHM])
    heart[SINCE] = hour
    if which == 0:
        if t.returns[rhythm]:
            heart[RETURNS], heart[ARRHYTHMIA] = rhythm, heart[RATE]
        heart[RHYTHM], heart[RATE] = heart[BASE], heart[SINUS]
        return
    if r.leader[rhythm] == _SINUS:
        heart[BASE], heart[SINUS] = rhythm, heart[RATE]
    if which == 2:
        heart[RHYTHM], heart[RATE] = heart[RETURNS], heart[ARRHYTHMIA]
        return
    to = r.torsade if which == 1 else t.becomes[rhythm]
    heart[RHYTHM] = to
    heart[RATE] = heart[ARRHYTHMIA] = t.rate_bpm[to, 0] + t.rate_bpm[to, 1] * heart[FIRST_OFFSET]


@compiled_exact
def live(h, r, heart, then, change, serum, looks, n, chance, which, expected, work):
    """What becomes of a heart in a span, in place: up to ``MOST_CHANGES`` changes of its rhythm, and the integrated lethal
    hazards ``expected (3,)``. ``chance`` and ``which`` ``(MOST_CHANGES,)`` are uniform in [0, 1); returns how many changes.
    """
    rate, before, out, last = work[0, :3], work[1, :3], work[2], work[3]
    expected[:] = 0.0
    changes, passed, limit, early = 0, 0.0, -math.log1p(-chance[0]), True
    for i in range(n):
        m = change[i]
        danger(h, r, heart, then, early, m, serum[i, 0], rate)
        departures(h, r, heart, m, rate[0], looks[i], out)
        if i:
            begin, whole = looks[i - 1], looks[i] - looks[i - 1]
            while changes < MOST_CHANGES:
                length, total = looks[i] - begin, 0.0
                for k in range(4):
                    last[k] = (last[k] + out[k]) / 2 * length
                    total += last[k]
                if not passed + total > limit:
                    passed += total
                    break
                at = begin + length * (limit - passed) / total
                aim, way = which[changes] * total, 0
                while way < 3 and aim >= last[way]:
                    aim -= last[way]
                    way += 1
                depart(r, heart, way, at)
                changes += 1
                early, passed, begin = False, 0.0, at
                if changes < MOST_CHANGES:
                    limit = -math.log1p(-chance[changes])
                danger(h, r, heart, then, early, m, serum[i, 0], rate)
                departures(h, r, heart, m, rate[0], looks[i], out)
                for k in range(4):
                    last[k] = out[k]
            for k in range(3):
                expected[k] += whole * (rate[k] + before[k]) / 2
        for k in range(3):
            before[k] = rate[k]
        for k in range(4):
            last[k] = out[k]
    return changes


@compiled_exact
def doses_of(doses, b, weight, hours, drug, route, mg, duration):
    """A row's doses, one after another; returns how many."""
    n = 0
    for q in range(doses.code.shape[1]):
        code = doses.code[b, q]
        if code < 0:
            break
        hours[n], drug[n], route[n] = doses.hours[b, q], doses.drug[code], doses.route[code]
        mg[n] = doses.mg[code] * (weight if doses.per_kg[code] else 1.0)
        duration[n] = doses.duration[code]
        n += 1
    return n


@compiled_exact
def draw_step(key, counter, chance, which):
    """Two uniform numbers for a step, whether and how it kills, and the key of the strip that is recorded at its end.

    ``chance`` and ``which`` ``(MOST_CHANGES,)`` are filled with those that its rhythms change by.
    """
    w0, w1, w2, w3 = block(key[0], key[1], np.uint64(1), counter[0], counter[1], counter[2])
    v0, v1, v2, v3 = block(key[0], key[1], np.uint64(2), counter[0], counter[1], counter[2])
    x0, x1, x2, _ = block(key[0], key[1], np.uint64(3), counter[0], counter[1], counter[2])
    chance[0], chance[1], chance[2], chance[3] = unit(w0), unit(v0), unit(v1), unit(v2)
    which[0], which[1], which[2], which[3] = unit(v3), unit(x0), unit(x1), unit(x2)
    return unit(w1), unit(w2), w3


@compiled_exact
def minute_of(strip, atrial, out):
    """How the minute of a strip differs from the heart's average ``out (5,)``: rate, PR, APD, block and atrial rate.

    They are what the strip itself draws first from the streams of its key; ``atrial``: whether atria lead.
    """
    first = stream(strip, _MINUTE)
    out[0], out[1], out[2] = standard(first), standard(first), standard(first)
    then = stream(strip, _ATRIA if atrial else _DELAY)
    out[3], out[4] = uniform(then), standard(then)


@compiled_exact
def settle(tables, r, people, hearts, doses, hours, key, counter, rows, now, strip):
    """Fill this hour's matrix ``now`` and the ``strip`` keys of ``rows``: what acts at ``hours``, and a fresh minute."""
    q = max(doses.code.shape[1], 1)
    at, drug, route = np.empty(q), np.empty(q, np.int64), np.empty(q, np.int64)
    mg, duration, room = np.empty(q), np.empty(q), scratch(tables.drugs, q, 1)
    serum, change = room.serum, room.change
    for b in rows:
        n = doses_of(doses, b, people.weight[b], at, drug, route, mg, duration)
        room.looks[0] = hours[b]
        course(tables, at, drug, route, mg, duration, n, people.weight[b], people.creatinine_clearance[b],
               people.medication[people.group[b]], people.serum[b], hearts[b, FIRST_SENSITIVITY:], 1, True, room)  # fmt: skip
        now[b, :FIRST_SERUM] = change[0]
        now[b, FIRST_SERUM:FIRST_MINUTE] = serum[0]
        _, _, _, strip[b] = block(key[b, 0], key[b, 1], np.uint64(1), counter[b, 0], counter[b, 1], counter[b, 2])
        atrial = r.leader[int(hearts[b, RHYTHM])] == _ATRIAL
        minute_of(strip[b], atrial, now[b, FIRST_MINUTE:FIRST_SHOWN])


@compiled_exact
def step(tables, h, r, people, hearts, doses, hours, dt, alive, key, counter, now, strip):
    """One step of every living row, in place: ``hearts (B, N_HEART)``, ``alive (B,)``, ``now (B, N_NOW)``, ``strip``.

    ``hours (B,)`` is when the step begins, ``dt (B,)`` how long it takes [h]; ``doses`` hold what is given in it.
    """
    q = max(doses.code.shape[1], 1)
    at, drug, route = np.empty(q), np.empty(q, np.int64), np.empty(q, np.int64)
    most = math.ceil(dt.max() / _COARSE) + 4 + q * len(tables.drugs.after_dose)
    mg, duration, room = np.empty(q), np.empty(q), scratch(tables.drugs, q, most)
    looks, serum, change, expected = room.looks, room.serum, room.change, np.empty(3)
    chance, which, work = np.empty(MOST_CHANGES), np.empty(MOST_CHANGES), np.empty((4, 4))
    for b in range(len(hours)):
        if not alive[b]:
            continue
        heart, then = hearts[b], now[b]
        n = doses_of(doses, b, people.weight[b], at, drug, route, mg, duration)
        count = looks_of(hours[b], hours[b] + dt[b], at, route, n, tables.drugs.after_dose, _COARSE, looks)
        course(tables, at, drug, route, mg, duration, n, people.weight[b], people.creatinine_clearance[b],
               people.medication[people.group[b]], people.serum[b], heart[FIRST_SENSITIVITY:], count, True, room)  # fmt: skip
        struck, how, strip[b] = draw_step(key[b], counter[b], chance, which)
        live(h, r, heart, then, change, serum, looks, count, chance, which, expected, work)
        total = expected[0] + expected[1] + expected[2]
        if struck < -math.expm1(-total):
            alive[b] = False
            heart[RHYTHM] = r.asystole if how * total < expected[2] else r.vf
        for k in range(FIRST_SERUM):
            then[k] = change[count - 1, k]
        for k in range(FIRST_MINUTE - FIRST_SERUM):
            then[FIRST_SERUM + k] = serum[count - 1, k]
        minute_of(strip[b], r.leader[int(heart[RHYTHM])] == _ATRIAL, then[FIRST_MINUTE:FIRST_SHOWN])
