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
    ECTOPY,
    ICAL_BLOCK,
    IKR_BLOCK,
    INA_BLOCK,
    INAL_BLOCK,
    JTPEAK_MS,
    PATHWAY_RATE,
    REENTRY_ENDS,
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
from ecg_gym.virtual_patient.columns import (
    FIRST_MINUTE,
    FIRST_SENSITIVITY,
    FIRST_SERUM,
    FIRST_SHOWN,
    INJURY,
    QRS,
    QTCF,
    RATE,
    RHYTHM,
    SCAR,
    SINUS,
)
from ecg_gym.virtual_patient.draws import normal as standard
from ecg_gym.virtual_patient.draws import stream, uniform
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.truth import table_values as _values

LEADERS = ("sinus", "atrial", "pathway", "reentry", "ventricular", "torsade", "paced", "none")
_SINUS, _ATRIAL, _PATHWAY, _REENTRY, _VENTRICULAR, _TORSADE = range(6)
_MINUTE, _DELAY, _ATRIA = 0, 2, 5  # purposes of a strip's streams; see ``beat_trains``
SHOWN_HR, SHOWN_QTCF = FIRST_SHOWN, FIRST_SHOWN + columns.SHOWN.index("qtcf_ms")

Hazards = NamedTuple("Hazards", [(name, float) for name in _values("hazards")])  # type: ignore[misc]


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
    serum: np.ndarray  # (B, 3) own potassium, magnesium, calcium [mmol/L]
    medication: np.ndarray  # (G, M) bool: other drugs taken, of each group of people
    group: np.ndarray  # (B,) int32


class Rhythms(NamedTuple):
    """What the kernel needs to know of each rhythm."""

    leader: np.ndarray  # (R,) place in LEADERS
    sinus: int  # the plain sinus rhythm
    vt: int
    vf: int
    asystole: int


@cache
def hazard_figures() -> Any:
    """The hazards' figures of the heart's table."""
    return Hazards(**_values("hazards"))


@cache
def rhythm_table() -> Rhythms:
    """The rhythms by their place in ``columns.words``."""
    names = columns.words()["rhythm"]
    leader = np.array([LEADERS.index(rhythms()[name]["leader"]) for name in names], np.int64)
    return Rhythms(leader, *(names.index(name) for name in ("sinus", "vt", "vf", "asystole")))


@njit(inline="always")
def ischaemia(h, heart, rhythm, vt):
    """What scar, injury and running VT add to the hazard of VT/VF [1/h]."""
    added = (h.scar if heart[SCAR] > 0 else 0.0) + (h.injury if heart[INJURY] > 0 else 0.0)
    return added + (h.running_vt if rhythm == vt else 0.0)


@njit(inline="always")
def lethal(h, m, ischaemic, qtcf, hr, potassium, out):
    """Hazards ``out (3,)`` [1/h] of torsade, VT/VF and asystole; see ``truth.hazards_of``."""
    if math.isnan(qtcf):
        qtcf = h.typical_qtcf_ms
    if math.isnan(hr):
        hr = h.typical_hr_bpm
    low_k, high_k = max(0.0, h.low_potassium - potassium), max(0.0, potassium - h.high_potassium)
    unopposed = max(0.0, m[IKR_BLOCK] - m[ICAL_BLOCK] - m[INAL_BLOCK])
    torsade = h.torsade * math.exp(h.torsade_per_10_ms * max(0.0, qtcf - h.torsade_from_ms) / 10)
    torsade *= 1 + h.torsade_above_500 / (1 + math.exp(-(qtcf - h.torsade_level_ms) / h.torsade_level_width_ms))
    slow = max(0.0, h.torsade_slow_from_bpm - hr) / h.torsade_slow_scale_bpm
    out[0] = torsade * (1 + h.torsade_unopposed * unopposed) * (1 + low_k) * (1 + slow)
    vt = (h.vt_vf + ischaemic * m[ECTOPY]) * (1 + h.vt_ina_block * m[INA_BLOCK])
    vt = vt * (1 + h.vt_high_potassium * high_k + low_k)
    vt += h.fast * max(0.0, hr - h.fast_from_bpm) / h.fast_scale_bpm
    out[1] = vt + h.high_potassium_wide * max(0.0, 1 / m[CONDUCTION] - 1) * max(0.0, potassium - h.wide_from_potassium)
    slower = max(0.0, h.asystole_below_bpm - hr) / h.asystole_scale_bpm
    out[2] = h.asystole * (1 + h.asystole_block * m[AV_BLOCK]) * math.exp(slower) * (1 + high_k)


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


@compiled_exact
def rhythm_end(change, looks, n, hazard, chance):
    """The hour at which a rhythm ends that a hazard ends, inf if it does not; ``chance`` is uniform in [0, 1)."""
    if hazard < 0:
        return math.inf
    limit, passed = -math.log1p(-chance), 0.0
    for i in range(1, n):
        more = (looks[i] - looks[i - 1]) * (change[i, hazard] + change[i - 1, hazard]) / 2
        if passed + more > limit:
            return looks[i - 1] + (looks[i] - looks[i - 1]) * (limit - passed) / more
        passed += more
    return math.inf


@compiled_exact
def expected_deaths(h, r, heart, then, change, serum, looks, n, ends, expected):
    """Integrated hazards in the first three of ``expected (9,)`` over a span whose rhythm ends at ``ends`` [h]; see ``survival.lethal_rates``."""
    rhythm = int(heart[RHYTHM])
    leader = r.leader[rhythm]
    rate, before = expected[3:6], expected[6:9]
    expected[:3] = 0.0
    for i in range(n):
        m, early = change[i], looks[i] < ends
        was = then[CONDUCTION] if early else 1.0
        longer = m[JTPEAK_MS] + m[TPEAK_TEND_MS] + heart[QRS] * (1 / m[CONDUCTION] - 1 / was)
        if early:
            longer -= then[JTPEAK_MS] + then[TPEAK_TEND_MS]
        pace, faster = paced_by(leader if early else _SINUS), 1.0
        if pace >= 0:
            faster = m[pace] / (then[pace] if early else 1.0)
        qtcf = (then[SHOWN_QTCF] if early else heart[QTCF]) + longer
        hr = (then[SHOWN_HR] if early else heart[SINUS]) * faster
        lethal(h, m, ischaemia(h, heart, rhythm if early else r.sinus, r.vt), qtcf, hr, serum[i, 0], rate)
        if i:
            for k in range(3):
                expected[k] += (looks[i] - looks[i - 1]) * (rate[k] + before[k]) / 2
        before[:] = rate


@compiled_exact
def _doses_of(doses, b, weight, hours, drug, route, mg, duration):
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
def draw_step(key, counter):
    """Three uniform numbers for a step, and the key of the strip that is recorded at its end."""
    w0, w1, w2, w3 = block(key[0], key[1], np.uint64(1), counter[0], counter[1], counter[2])
    return unit(w0), unit(w1), unit(w2), w3


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
        n = _doses_of(doses, b, people.weight[b], at, drug, route, mg, duration)
        room.looks[0] = hours[b]
        course(tables, at, drug, route, mg, duration, n, people.weight[b], people.creatinine_clearance[b],
               people.medication[people.group[b]], people.serum[b], hearts[b, FIRST_SENSITIVITY:], 1, True, room)  # fmt: skip
        now[b, :FIRST_SERUM] = change[0]
        now[b, FIRST_SERUM:FIRST_MINUTE] = serum[0]
        _, _, _, strip[b] = draw_step(key[b], counter[b])
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
    looks, serum, change, expected = room.looks, room.serum, room.change, np.empty(9)
    for b in range(len(hours)):
        if not alive[b]:
            continue
        heart, then = hearts[b], now[b]
        n = _doses_of(doses, b, people.weight[b], at, drug, route, mg, duration)
        count = looks_of(hours[b], hours[b] + dt[b], at, n, tables.drugs.after_dose, _COARSE, looks)
        course(tables, at, drug, route, mg, duration, n, people.weight[b], people.creatinine_clearance[b],
               people.medication[people.group[b]], people.serum[b], heart[FIRST_SENSITIVITY:], count, True, room)  # fmt: skip
        chance, struck, which, strip[b] = draw_step(key[b], counter[b])
        ends = rhythm_end(change, looks, count, _ended_by(r.leader[int(heart[RHYTHM])]), chance)
        expected_deaths(h, r, heart, then, change, serum, looks, count, ends, expected)
        if ends < math.inf:
            heart[RHYTHM], heart[RATE] = r.sinus, heart[SINUS]
        total = expected[0] + expected[1] + expected[2]
        if struck < -math.expm1(-total):
            alive[b] = False
            heart[RHYTHM] = r.asystole if which * total < expected[2] else r.vf
        then[:FIRST_SERUM] = change[count - 1]
        then[FIRST_SERUM:FIRST_MINUTE] = serum[count - 1]
        minute_of(strip[b], r.leader[int(heart[RHYTHM])] == _ATRIAL, then[FIRST_MINUTE:FIRST_SHOWN])
