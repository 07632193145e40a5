"""The pharmacology of one person in one pass: doses -> concentrations -> serum -> ``Modulation``, as Numba functions.

``kinetics.py``, ``exposure.py`` and ``effects.py`` say the same slowly and in more words; tests compare the two.
A drug by one route is a linear system with known modes, so amounts are carried from event to event (a dose enters, an
infusion ends, an interaction comes or goes) and read at every look, exactly. Amounts in mg, volumes in L, time in h.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: E501 - long argument lists and plain conditions of compiled loops

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from ecg_gym.compiled import compiled_exact

N_MODES = 6  # depot, three of the core, effect site, metabolite
N_MODULATION = 24
(SINUS_RATE, AV_RATE, PR_MS, AV_BLOCK, CONDUCTION, ATRIAL_CONDUCTION, JTPEAK_MS, TPEAK_TEND_MS, T_AMPLITUDE, ECTOPY,
 REENTRY_ENDS, AF_ENDS, VT_ENDS, IKR_BLOCK, ICAL_BLOCK, INAL_BLOCK, INA_BLOCK, ESCAPE_RATE, PATHWAY_RATE,
 TORSADE_ENDS, CONTRACTILITY, RESISTANCE, PACING, SHOCK) = range(N_MODULATION)  # the fields of Modulation, in its order  # fmt: skip
(L_SINUS, L_AV, L_PR, L_BLOCK, L_CONDUCTION, L_ATRIAL, L_JTPEAK, L_TPEAK, L_T, L_ECTOPY, L_REENTRY, L_AF, L_VT,
 L_ESCAPE, L_PATHWAY, L_TORSADE, L_CONTRACTILITY, L_RESISTANCE, L_PACING, L_SHOCK) = range(20)  # tables.TARGETS  # fmt: skip
(S_CYP3A, S_CYP2D6, S_RENAL, S_OTHER, S_VOLUME, S_ABSORPTION, S_FRACTION, S_POOR, S_IKR, S_ICAL, S_INAL, S_INA, S_AV,
 S_SINUS, S_NOTCH, S_ELECTROLYTE, S_EQUILIBRATION, S_DAY, S_IKS, S_DISPERSION) = range(20)  # sensitivity.NAMES  # fmt: skip
(CL, V, Q2, V2, Q3, V3, KA, LAG, F, KE0, FM, CLM, VM, FIRST_PASS) = range(14)  # the fields of Compartments
ORAL = 0  # of tables.ROUTES
_GAP = 1e-5  # relative distance below which two rates would spoil the modes
_REFERENCE_WEIGHT, _REFERENCE_CLEARANCE = 70.0, 100.0  # [kg], [mL/min] of the formulary's figures
_RENAL_LOW, _RENAL_HIGH = 0.05, 1.5  # of the reference clearance


class Scratch(NamedTuple):
    """Room to work in, for up to Q doses and T looks; made once for many people, because making it takes longer."""

    on_board: np.ndarray  # (Q,) which drugs there are
    level: np.ndarray  # (Q, T, 4) plasma, effect, metabolite [ng/mL] and body [mg] of each
    serum: np.ndarray  # (T, 3) [mmol/L]
    change: np.ndarray  # (T, 24) Modulation
    looks: np.ndarray  # (T,) [h]
    own: np.ndarray  # (14,) parameters of a drug in a person
    system: np.ndarray  # (14,) and with an interaction
    rates: np.ndarray  # (6,)
    entry: np.ndarray  # (6,)
    content: np.ndarray  # (6,)
    amounts: np.ndarray  # (6,)
    read: np.ndarray  # (4, 6)
    centre: np.ndarray  # (6, 6)
    left: np.ndarray  # (3, 3)
    poles: np.ndarray  # (12,)
    events: np.ndarray  # (E,) [h]
    figures: np.ndarray  # (N, 4) effects on board
    kinds: np.ndarray  # (N, 4)
    value: np.ndarray  # (20,) laws by target
    channels: np.ndarray  # (5,) channel block
    five: np.ndarray  # (5,) drift of the day
    three: np.ndarray  # (3,) serum of one look


@compiled_exact
def scratch(drugs, q, looks):
    """Room for up to ``q`` doses and so many looks."""
    most = q * drugs.most_effects
    return Scratch(
        np.zeros(q, np.int64), np.empty((q, looks, 4)), np.empty((looks, 3)), np.empty((looks, N_MODULATION)), np.empty(looks),
        np.empty(14), np.empty(14), np.empty(6), np.empty(6), np.empty(6), np.empty(6), np.empty((4, 6)),
        np.empty((6, 6)), np.empty((3, 3)), np.empty(12), np.empty(4 * q + 3 * q * len(drugs.change) + len(drugs.change) + 1),
        np.empty((most, 4)), np.empty((most, 4), np.int64), np.empty(len(drugs.start)), np.empty(5), np.zeros(5),
        np.empty(3),
    )  # fmt: skip


@compiled_exact
def personal(usual, spread, renal, poor, pathway, weight, creatinine_clearance, sens, out):
    """The parameters ``out (14,)`` of a drug by a route in one person; see ``exposure.personal``."""
    size = weight / _REFERENCE_WEIGHT
    kidney = 1.0 if math.isnan(creatinine_clearance) else creatinine_clearance / _REFERENCE_CLEARANCE
    kidney = min(max(kidney, _RENAL_LOW), _RENAL_HIGH) * math.exp(spread[0] * sens[S_RENAL])
    liver = math.exp(spread[0] * sens[pathway])
    formed = 1.0
    if sens[S_POOR] != 0:
        liver *= poor[0]
        formed = poor[1]
    clearance = (1 - renal) * liver + renal * kidney
    volume, flow = size * math.exp(spread[1] * sens[S_VOLUME]), size**0.75
    out[CL] = usual[CL] * flow * clearance
    out[V], out[V2], out[V3] = usual[V] * volume, usual[V2] * volume, usual[V3] * volume
    out[Q2], out[Q3] = usual[Q2] * flow, usual[Q3] * flow
    out[KA] = usual[KA] * math.exp(spread[2] * sens[S_ABSORPTION])
    out[LAG] = usual[LAG]
    out[F] = usual[F] * math.exp(spread[3] * sens[S_FRACTION])
    out[KE0] = usual[KE0] * sens[S_EQUILIBRATION]
    out[FM] = usual[FM] * formed
    out[CLM] = usual[CLM] * flow * (kidney if renal > 0 else liver)
    out[VM] = usual[VM] * volume
    out[FIRST_PASS] = usual[FIRST_PASS] * formed


@compiled_exact
def _core_rates(k10, k12, k21, k13, k31, rates):
    """The rates ``(3,)`` [1/h] of one to three compartments; 0 where there is none."""
    rates[0], rates[1], rates[2] = k10 + k12 + k13, 0.0, 0.0
    if k12 == 0 and k13 == 0:
        return
    if k12 == 0 or k13 == 0:
        a, b = (k12, k21) if k13 == 0 else (k13, k31)
        total = k10 + a + b
        root = math.sqrt(max(total * total - 4 * k10 * b, 0.0))
        rates[0] = (total + root) / 2
        rates[1 if k13 == 0 else 2] = k10 * b / rates[0]
        return
    # x^3 - p x^2 + q x - r = 0 has three positive roots: Viete, and Newton against the loss of digits
    p = k10 + k12 + k13 + k21 + k31
    q = k10 * k21 + k10 * k31 + k12 * k31 + k13 * k21 + k21 * k31
    r = k10 * k21 * k31
    shift, depressed = p / 3, max(p * p / 9 - q / 3, 0.0)
    half = p * p * p / 27 - p * q / 6 + r / 2
    size = math.sqrt(depressed)
    ratio = half / (size * size * size) if size > 0 else 0.0
    angle = math.acos(min(max(ratio, -1.0), 1.0)) / 3
    for i in range(3):
        x = shift + 2 * size * math.cos(angle - 2 * math.pi * i / 3)
        for _ in range(3):
            slope = (3 * x - 2 * p) * x + q
            if slope != 0:
                x -= (((x - p) * x + q) * x - r) / slope
        rates[i] = x


@compiled_exact
def _clear(rate, poles, n):
    """The rate, moved by 0.01 % until it lies clear of ``poles[:n]``."""
    again = True
    while again:
        again = False
        for i in range(n):
            if abs(rate - poles[i]) < _GAP * rate:
                again = True
        if again:
            rate *= 1 + 10 * _GAP
    return rate


@compiled_exact
def modes_of(s, rates, read, centre, left, entry, poles):
    """What a system ``s (14,)`` does with amounts.

    ``rates (6,)`` [1/h] are those of its modes (0: there is none), ``read (4, 6)`` plasma, effect, metabolite [ng/mL]
    and body [mg] of each, ``centre (6, 6)`` the amounts of a mode, ``left (3, 3)`` how amounts of the core become modes,
    ``entry (6,)`` the modes of one mg at the entrance; ``poles (12,)`` is room to work in. The rates of absorption, effect site and metabolite are kept apart from others.
    """
    k10, k12, k13 = s[CL] / s[V], s[Q2] / s[V] if s[Q2] > 0 else 0.0, s[Q3] / s[V] if s[Q3] > 0 else 0.0
    k21, k31 = s[Q2] / s[V2] if s[Q2] > 0 else 0.0, s[Q3] / s[V3] if s[Q3] > 0 else 0.0
    core = poles[6:9]
    _core_rates(k10, k12, k21, k13, k31, core)
    n = 0
    for i in range(3):
        if core[i] > 0:
            poles[n] = core[i]
            n += 1
    ka = ke0 = km = 0.0
    if s[KA] > 0:
        ka = _clear(s[KA], poles, n)
        poles[n] = ka
        n += 1
    if s[KE0] > 0:
        ke0 = _clear(s[KE0], poles, n)
        poles[n] = ke0
        n += 1
    if s[FM] > 0 or s[FIRST_PASS] > 0:
        km = _clear(s[CLM] / s[VM], poles, n)
    km_volume = s[VM]
    formed = s[FM] * s[CL] / s[V]
    rates[:], read[:], centre[:], left[:], entry[:] = 0.0, 0.0, 0.0, 0.0, 0.0
    rates[0], rates[4], rates[5] = ka, ke0, km
    for m in range(4):  # the depot's mode and those of the core
        rate = ka if m == 0 else core[m - 1]
        if rate == 0:
            continue
        rates[m] = rate
        second = k12 / (k21 - rate) if k12 > 0 else 0.0
        third = k13 / (k31 - rate) if k13 > 0 else 0.0
        amount = 1.0
        if m == 0:
            amount = -ka / (ka - k10 - k12 - k13 + k21 * second + k31 * third)
            centre[0, 0] = 1.0
        else:
            size = (
                1.0
                + (k21 / (k21 - rate) * second if k12 > 0 else 0.0)
                + (k31 / (k31 - rate) * third if k13 > 0 else 0.0)
            )
            left[m - 1, 0] = 1 / size
            left[m - 1, 1] = k21 / (k21 - rate) / size if k12 > 0 else 0.0
            left[m - 1, 2] = k31 / (k31 - rate) / size if k13 > 0 else 0.0
        centre[1, m], centre[2, m], centre[3, m] = amount, second * amount, third * amount
        centre[4, m] = ke0 / (ke0 - rate) * amount if ke0 > 0 else 0.0
        if km > 0:
            centre[5, m] = (formed * amount + (s[FIRST_PASS] * ka if m == 0 else 0.0)) / (km - rate)
    centre[4, 4] = 1.0 if ke0 > 0 else 0.0
    centre[5, 5] = 1.0 if km > 0 else 0.0
    for m in range(N_MODES):
        read[0, m] = 1000 / s[V] * centre[1, m]
        read[1, m] = 1000 / s[V] * (centre[4, m] if ke0 > 0 else centre[1, m])
        read[2, m] = 1000 / km_volume * centre[5, m]
        read[3, m] = centre[1, m] + centre[2, m] + centre[3, m]
    amounts = poles[:6]
    amounts[:] = 0.0
    amounts[0 if ka > 0 else 1] = s[F]
    to_modes(amounts, centre, left, entry)


@compiled_exact
def to_modes(amounts, centre, left, content):
    """The modes ``content (6,)`` of the amounts ``(6,)`` in depot, centre, second, third, effect site, metabolite."""
    content[0] = amounts[0]
    x1 = amounts[1] - centre[1, 0] * amounts[0]
    x2 = amounts[2] - centre[2, 0] * amounts[0]
    x3 = amounts[3] - centre[3, 0] * amounts[0]
    for m in range(3):
        content[m + 1] = left[m, 0] * x1 + left[m, 1] * x2 + left[m, 2] * x3
    content[4], content[5] = amounts[4], amounts[5]
    for m in range(4):
        content[4] -= centre[4, m] * content[m]
        content[5] -= centre[5, m] * content[m]
    if centre[4, 4] == 0:
        content[4] = 0.0
    if centre[5, 5] == 0:
        content[5] = 0.0


@compiled_exact
def take(drugs, hours, dose_drug, route, mg, duration, n):
    """Keep what is taken of ``n`` doses in the order of their orders, in place and by their hour; returns how many.

    See ``stopping.doses_taken``.
    """
    for s in range(n):
        if dose_drug[s] < 0 or not drugs.stops[dose_drug[s]]:
            continue
        for q in range(s):
            if dose_drug[q] < 0 or drugs.procedure[dose_drug[q]]:
                continue
            if hours[q] > hours[s] or (duration[q] > 0 and hours[q] == hours[s]):
                dose_drug[q] = -1  # it is not taken
            elif duration[q] > 0 and hours[q] + duration[q] > hours[s]:
                mg[q] *= (hours[s] - hours[q]) / duration[q]
                duration[q] = hours[s] - hours[q]
    n_doses = 0
    for q in range(n):
        if dose_drug[q] < 0:
            continue
        at, drug, by, much, over = hours[q], dose_drug[q], route[q], mg[q], duration[q]
        p = n_doses
        while p > 0 and hours[p - 1] > at:
            hours[p], dose_drug[p], route[p], mg[p], duration[p] = (
                hours[p - 1], dose_drug[p - 1], route[p - 1], mg[p - 1], duration[p - 1],
            )  # fmt: skip
            p -= 1
        hours[p], dose_drug[p], route[p], mg[p], duration[p] = at, drug, by, much, over
        n_doses += 1
    return n_doses


@compiled_exact
def _factors(change, change_by, first, last, at, hours, dose_drug, n, medication, stopped):
    """Factors on clearance and absorption of a drug at an hour: those of every culprit on board, and for long enough."""
    clearance = absorption = 1.0
    for j in range(first, last):
        is_on = medication[change_by[j, 1]]
        active = is_on and at < stopped + change[j, 2]
        if not is_on and not active and change_by[j, 0] >= 0:
            begin, end = math.inf, -math.inf
            for q in range(n):  # doses rise in time
                if dose_drug[q] == change_by[j, 0] and hours[q] <= at:
                    if hours[q] > end:
                        begin = hours[q]
                    end = hours[q] + change[j, 2]
            active = begin + change[j, 3] <= at < end
        if active:
            clearance *= change[j, 0]
            absorption *= change[j, 1]
    return clearance, absorption


@compiled_exact
def concentrations(drugs, hours, dose_drug, route, mg, duration, n, weight, creatinine_clearance, medication, sens,
                   n_looks, room):  # fmt: skip
    """Concentrations ``room.level`` of the drugs among the first ``n`` doses, at the first ``n_looks`` of the rising
    ``room.looks``. Returns how many drugs there are; ``room.on_board`` names them.
    """
    count, stopped = 0, math.inf
    for q in range(n):
        if drugs.stops[dose_drug[q]]:
            stopped = min(stopped, hours[q])
    on_board, level, looks, events = room.on_board, room.level, room.looks, room.events
    own, system, content, amounts = room.own, room.system, room.content, room.amounts
    rates, entry, read, centre, left = room.rates, room.entry, room.read, room.centre, room.left
    for q in range(n):
        drug, first_of_slot = dose_drug[q], True
        place = -1
        for z in range(count):
            if on_board[z] == drug:
                place = z
        if place < 0:
            place = count
            on_board[count] = drug
            count += 1
            for i in range(n_looks):
                for o in range(4):
                    level[place, i, o] = 0.0
        for p in range(q):
            if dose_drug[p] == drug and route[p] == route[q]:
                first_of_slot = False
        if not first_of_slot:
            continue
        usual = drugs.kinetics[drug, route[q]]
        personal(usual, drugs.spread[drug], drugs.renal[drug], drugs.poor[drug], drugs.pathway[drug], weight,
                 creatinine_clearance, sens, own)  # fmt: skip
        lag = own[LAG] if own[KA] > 0 else 0.0
        n_events, last = 0, looks[n_looks - 1]
        earliest = math.inf
        for p in range(q, n):
            if dose_drug[p] == drug and route[p] == route[q] and mg[p] != 0:
                opens = hours[p] + lag
                if opens > last:
                    continue
                earliest = min(earliest, opens)
                events[n_events] = opens
                n_events += 1
                if duration[p] > 0:
                    events[n_events] = opens + duration[p]
                    n_events += 1
        if n_events == 0:
            continue
        begin, end = drugs.change_from[drug], drugs.change_from[drug + 1]
        for j in range(begin, end):
            by = drugs.change_by[j, 0]
            if medication[drugs.change_by[j, 1]]:
                if earliest < stopped + drugs.change[j, 2] <= last:
                    events[n_events] = stopped + drugs.change[j, 2]
                    n_events += 1
                continue
            if by < 0:
                continue
            for p in range(n):
                if dose_drug[p] == by:
                    if earliest < hours[p] <= last:
                        events[n_events] = hours[p]
                        n_events += 1
                    if earliest < hours[p] + drugs.change[j, 2] <= last:
                        events[n_events] = hours[p] + drugs.change[j, 2]
                        n_events += 1
                    if drugs.change[j, 3] > 0 and earliest < hours[p] + drugs.change[j, 3] <= last:
                        events[n_events] = hours[p] + drugs.change[j, 3]
                        n_events += 1
        events[:n_events].sort()
        content[:] = 0.0
        clearance, absorption = -1.0, -1.0
        look = 0
        while look < n_looks and looks[look] < events[0]:
            look += 1
        for k in range(n_events):
            at = events[k]
            if k + 1 < n_events and events[k + 1] == at:
                continue
            c = a = 1.0
            if begin < end:
                c, a = _factors(drugs.change, drugs.change_by, begin, end, at, hours, dose_drug, n, medication, stopped)
            if c != clearance or a != absorption:
                if clearance > 0:
                    for i in range(6):
                        amounts[i] = 0.0
                        for m in range(6):
                            amounts[i] += centre[i, m] * content[m]
                system[:] = own
                system[CL] = own[CL] * c
                system[KA] = own[KA] * a
                modes_of(system, rates, read, centre, left, entry, room.poles)
                if clearance > 0:
                    to_modes(amounts, centre, left, content)
                clearance, absorption = c, a
            inflow = 0.0  # [mg/h]
            for p in range(q, n):
                if dose_drug[p] == drug and route[p] == route[q]:
                    opens = hours[p] + lag
                    if duration[p] == 0:
                        if opens == at:
                            for m in range(6):
                                content[m] += entry[m] * mg[p]
                    elif opens <= at < opens + duration[p]:
                        inflow += mg[p] / duration[p]
            until = events[k + 1] if k + 1 < n_events else math.inf
            while look < n_looks and looks[look] < until:
                since = looks[look] - at
                o0 = o1 = o2 = o3 = 0.0
                for m in range(6):
                    if rates[m] == 0:
                        continue
                    x = content[m] * math.exp(-rates[m] * since)
                    if inflow > 0:
                        x += entry[m] * inflow * (-math.expm1(-rates[m] * since) / rates[m])
                    o0 += read[0, m] * x
                    o1 += read[1, m] * x
                    o2 += read[2, m] * x
                    o3 += read[3, m] * x
                level[place, look, 0] += max(o0, 0.0)
                level[place, look, 1] += max(o1, 0.0)
                level[place, look, 2] += max(o2, 0.0)
                level[place, look, 3] += max(o3, 0.0)
                look += 1
            if look >= n_looks:
                break
            since = until - at
            for m in range(6):
                if rates[m] == 0:
                    continue
                content[m] *= math.exp(-rates[m] * since)
                if inflow > 0:
                    content[m] += entry[m] * inflow * (-math.expm1(-rates[m] * since) / rates[m])
    for z in range(count):  # what an antidote binds is gone
        target = drugs.antidote_of[on_board[z]]
        if target < 0:
            continue
        for y in range(count):
            if on_board[y] != target:
                continue
            for i in range(n_looks):
                if level[y, i, 3] > 0:
                    arrived = min(level[z, i, 1] / max(level[z, i, 0], 1e-12), 1.0)
                    bound = level[z, i, 3] * arrived * drugs.antidote_mg[on_board[z]]
                    free = min(max(1 - bound / max(level[y, i, 3], 1e-12), 0.0), 1.0)
                    for o in range(4):
                        level[y, i, o] *= free
    return count


@njit(inline="always")
def saturation(level, log_level, half, log_half, exponent):
    """The Hill curve of a positive level; what lies far below its half is none."""
    if exponent == 1.0:
        return level / (level + half)
    power = exponent * (log_level - log_half)
    if power > 0:
        return 1 / (1 + math.exp(-power))
    if power < -40:
        return 0.0
    ratio = math.exp(power)
    return ratio / (1 + ratio)


@njit(inline="always")
def repolarise(c, reserve, reference, block, serum, sens):
    """IKr block after potassium, and the changes of J-Tpeak and Tpeak-Tend [ms]; see ``effects._repolarise``."""
    potassium = min(max(serum[0], c.potassium_low), c.potassium_high)
    ikr = 1 - (1 - block[0]) * (potassium / reference[0]) ** c.potassium_exponent
    acting = ikr
    if ikr > 0:  # magnesium shortens only what is long
        acting *= max(1 + c.magnesium_share * (serum[1] - reference[1]), 0.0)
    acting = min(max(acting, reserve.low[0]), reserve.high[0])
    inal = min(max(block[2], reserve.low[1]), reserve.high[1])
    ical = min(max(block[1], reserve.low[2]), reserve.high[2])
    log_apd, log_dispersion = _logarithms(reserve, acting, inal, ical, min(max(block[4], 0.0), 1.0))
    apd, dispersion = math.exp(log_apd), math.exp(log_dispersion)
    longer, apart = c.apd * (apd - 1), sens[S_DISPERSION] * c.dispersion * (dispersion - 1)
    notched = max(sens[S_NOTCH] * max(longer, 0.0), -c.least_notch * max(apart, 0.0))
    tpeak_tend = apart + notched + c.ical_peak * block[1]
    return ikr, longer - tpeak_tend + c.calcium_jtpeak * (serum[2] - reference[2]), tpeak_tend


@compiled_exact
def _logarithms(reserve, ikr, inal, ical, iks):
    """The polynomials of ``repolarisation`` in four blocks: ln of the factors on apd and dispersion."""
    figures, with_iks = reserve.coefficients, reserve.iks_coefficients
    apd, dispersion, power = 0.0, 0.0, 1.0
    n_inal = figures.shape[2] if inal != 0 else 1  # powers of 0 add nothing
    n_ical = figures.shape[3] if ical != 0 else 1
    for i in range(figures.shape[1]):  # rows do not wait for each other, as they would by Horner's rule
        one, two, beside = with_iks[0, i] * iks, with_iks[1, i] * iks, 1.0
        for j in range(n_inal):
            both = beside
            for k in range(n_ical):
                one += figures[0, i, j, k] * both
                two += figures[1, i, j, k] * both
                both *= ical
            beside *= inal
        apd += one * power
        dispersion += two * power
        power *= ikr
    return apd, dispersion


@njit(inline="always")
def _asleep(hour, begin, end, time):
    inside = begin <= hour < end
    since = hour - begin if inside else (hour - end) % 24.0
    rest = math.exp(-since / time)
    return 1 - rest if inside else (1 - math.exp(-(end - begin) / time)) * rest


@njit(inline="always")
def drift_of(day, clock, drift):
    """What the hour of the day does ``drift (5,)``: sinus rate, conduction, PR, J-Tpeak, Tpeak-Tend."""
    hour, meals = clock % 24.0, 0.0
    for i in range(len(day.meals)):
        if hour > day.meals[i]:
            since = (hour - day.meals[i]) / day.meal_time
            meals += since * math.exp(1 - since)
    angle = 2 * math.pi * hour / 24.0
    turn, lean = (1 - math.cos(angle)) / 2, math.sin(angle)
    asleep = _asleep(hour, day.sleep[0], day.sleep[1], day.sleep[2]) - day.asleep_at_zero
    for i in range(5):
        drift[i] = day.weight[i, 0] * meals + day.weight[i, 1] * turn + day.weight[i, 2] * lean
        drift[i] += day.weight[i, 3] * asleep


@njit(inline="always")
def modulation_of(c, reserve, reference, value, block, serum, sens, drift, out):
    """The ``Modulation`` ``out (24,)`` out of laws, channel block, serum and the drift of the day."""
    ikr, jtpeak, tpeak_tend = repolarise(c, reserve, reference, block, serum, sens)
    day = sens[S_DAY]
    excess = max(serum[0] - c.potassium_onset - c.calcium_protection * max(serum[2] - reference[2], 0.0), 0.0)
    slowed = 1 + c.ina * block[3]
    out[SINUS_RATE] = min(max(value[L_SINUS] * (1 + day * drift[0]), c.sinus_rate_low), c.sinus_rate_high)
    out[AV_RATE] = min(max(value[L_AV], c.av_rate_low), c.av_rate_high)
    out[PR_MS] = max(value[L_PR] + c.potassium_pr * excess + day * drift[2], c.pr_low)
    out[AV_BLOCK] = value[L_BLOCK]
    out[CONDUCTION] = value[L_CONDUCTION] / slowed / (1 + (excess / c.potassium_scale) ** 2) * (1 + day * drift[1])
    out[ATRIAL_CONDUCTION] = value[L_ATRIAL] / slowed / (1 + (excess / c.potassium_scale_atrial) ** 2)
    out[JTPEAK_MS] = jtpeak + value[L_JTPEAK] + day * drift[3]
    out[TPEAK_TEND_MS] = tpeak_tend + value[L_TPEAK] + day * drift[4]
    taller = math.exp(c.t_amplitude_potassium * (serum[0] - reference[0]))
    out[T_AMPLITUDE] = value[L_T] * min(max(taller, c.t_amplitude_low), c.t_amplitude_high)
    lack = min(serum[0] - reference[0], 0.0)
    out[ECTOPY] = value[L_ECTOPY] * math.exp(c.ectopy_potassium * lack + c.ectopy_magnesium * (serum[1] - reference[1]))
    out[REENTRY_ENDS], out[AF_ENDS], out[VT_ENDS] = value[L_REENTRY], value[L_AF], value[L_VT]
    out[IKR_BLOCK] = min(max(ikr, 0.0), 1.0)
    out[ICAL_BLOCK], out[INAL_BLOCK], out[INA_BLOCK] = block[1], block[2], block[3]
    out[ESCAPE_RATE] = min(max(value[L_ESCAPE], c.escape_rate_low), c.escape_rate_high)
    out[PATHWAY_RATE] = min(max(value[L_PATHWAY], c.pathway_rate_low), c.pathway_rate_high)
    out[TORSADE_ENDS] = value[L_TORSADE]
    out[CONTRACTILITY] = min(max(value[L_CONTRACTILITY], c.contractility_low), c.contractility_high)
    out[RESISTANCE] = min(max(value[L_RESISTANCE], c.resistance_low), c.resistance_high)
    out[PACING], out[SHOCK] = value[L_PACING], value[L_SHOCK]


@compiled_exact
def looks_of(start, end, hours, route, n, after_dose, coarse, looks):
    """When to look ``looks`` [h]: every ``coarse`` hours, and densely for an hour after each dose that is not swallowed.

    Returns how many.
    """
    count = 0
    steps = math.ceil((end - start) / coarse)
    for i in range(steps):
        if i == 0 or start + i * coarse < end:
            looks[count] = start + i * coarse
            count += 1
    looks[count] = end
    count += 1
    longest = after_dose[len(after_dose) - 1]
    for q in range(n):
        if route[q] == ORAL or not start - longest < hours[q] <= end:
            continue
        again = False
        for p in range(q):
            if hours[p] == hours[q] and route[p] != ORAL:
                again = True
        if again:
            continue
        for i in range(len(after_dose)):
            at = hours[q] + after_dose[i]
            if start < at < end:
                place = count
                while looks[place - 1] > at:
                    looks[place] = looks[place - 1]
                    place -= 1
                looks[place] = at
                count += 1
    size = 1
    for i in range(1, count):
        if looks[i] > looks[size - 1]:
            looks[size] = looks[i]
            size += 1
    return size


@compiled_exact
def _effects_on_board(drugs, on_board, count, sens, figures, kinds):
    """The effects of the drugs on board in one list, and how many: ``kinds (N, 4)`` are what it is (ion, factor, sum,
    share, binding, supply), what it acts on, the column of ``level`` and the place of the drug.

    ``figures (N, 4)`` are size, half, hill and the logarithm of half. The person's sensitivity is in the size of a law
    and an ion, and in the half of a binding, which is told in ng/mL.
    """
    n = 0
    for z in range(count):
        drug = on_board[z]
        for j in range(drugs.ion_from[drug], drugs.ion_from[drug + 1]):
            figures[n, :3] = drugs.ion[j]
            figures[n, 0] *= sens[S_ELECTROLYTE]
            kinds[n, 0], kinds[n, 1], kinds[n, 2], kinds[n, 3] = (
                0,
                drugs.ion_kind[j, 0],
                min(drugs.ion_kind[j, 1], 1),
                z,
            )
            n += 1
        for j in range(drugs.law_from[drug], drugs.law_from[drug + 1]):
            figures[n, :3] = drugs.law[j]
            if drugs.law_kind[j, 2] >= 0:
                figures[n, 0] *= sens[drugs.law_kind[j, 2]]
            kinds[n, 0], kinds[n, 1] = 1 + drugs.law_kind[j, 3], drugs.law_kind[j, 0]
            kinds[n, 2], kinds[n, 3] = drugs.law_kind[j, 1], z
            n += 1
        for j in range(drugs.bind_from[drug], drugs.bind_from[drug + 1]):
            figures[n, 1], figures[n, 2] = drugs.bind[j, 1], drugs.bind[j, 2]
            figures[n, 1] /= drugs.bind[j, 0] * sens[drugs.bind_kind[j, 2]]
            kinds[n, 0], kinds[n, 1] = 4, drugs.bind_kind[j, 1]
            kinds[n, 2], kinds[n, 3] = drugs.bind_kind[j, 0], z
            n += 1
        if drugs.supply[drug] > 0:
            figures[n, 0], figures[n, 1], figures[n, 2] = drugs.supply[drug], 1.0, 1.0
            kinds[n, 0], kinds[n, 1], kinds[n, 2], kinds[n, 3] = 5, drugs.supply_of[drug], 0, z
            n += 1
    for j in range(n):
        figures[j, 3] = math.log(figures[j, 1])
    return n


@compiled_exact
def course(tables, hours, dose_drug, route, mg, duration, n, weight, creatinine_clearance, medication, own, sens,
           n_looks, drifting, room):  # fmt: skip
    """One person at each of ``room.looks``: ``room.level``, ``room.serum`` and ``room.change``."""
    drugs, c, reference, day = tables.drugs, tables.figures, tables.reference, tables.day
    count = 0
    effects = 0
    if n > 0:
        n = take(drugs, hours, dose_drug, route, mg, duration, n)
        count = concentrations(drugs, hours, dose_drug, route, mg, duration, n, weight, creatinine_clearance, medication,
                               sens, n_looks, room)  # fmt: skip
        effects = _effects_on_board(drugs, room.on_board, count, sens, room.figures, room.kinds)
    level, serum, looks, figures, kinds = room.level, room.serum, room.looks, room.figures, room.kinds
    value, block, drift, ions, start = room.value, room.channels, room.five, room.three, drugs.start
    if not drifting:
        drift[:] = 0.0
    last, log_last = 0.0, 0.0
    for i in range(n_looks):
        for k in range(3):
            ions[k] = own[k]
        ions[0] += own[3] * min(max(looks[i], 0.0), tables.trend_hours)
        for k in range(len(start)):
            value[k] = start[k]
        for k in range(5):
            block[k] = 1.0
        for j in range(effects):
            at, kind, target = level[kinds[j, 3], i, kinds[j, 2]], kinds[j, 0], kinds[j, 1]
            if at <= 0:
                continue
            if figures[j, 2] != 1.0 and at != last:
                last, log_last = at, math.log(at)
            if kind == 4:
                block[target] *= 1 - saturation(at, log_last, figures[j, 1], figures[j, 3], figures[j, 2])
            elif kind == 5:
                ions[target] += at * figures[j, 0]
            else:
                effect = figures[j, 0] * saturation(at, log_last, figures[j, 1], figures[j, 3], figures[j, 2])
                if kind == 0:
                    ions[target] += effect
                elif kind == 1:  # a factor
                    value[target] *= max(1 + effect, 0.05)
                elif kind == 2:  # a sum
                    value[target] += effect
                else:  # a share that is blocked
                    value[target] = 1 - (1 - value[target]) * (1 - min(effect, 1.0))
        for k in range(3):
            ions[k] = max(ions[k], 0.1)
            serum[i, k] = ions[k]
        for k in range(5):
            block[k] = 1 - block[k]
        if drifting:
            drift_of(day, looks[i], drift)
        out = room.change[i]
        modulation_of(c, tables.reserve, reference, value, block, ions, sens, drift, out)
    return count
