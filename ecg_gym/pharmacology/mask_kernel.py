"""``Masks``: the clinical rules and the formulary's limits of one menu, compiled once for many people.

``masks.py`` says the same row by row; tests compare the two. A rule's conditions become a list in postfix order: what
is asked first stands first, and ``all``, ``any`` and ``not`` take the answers before them.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: E501, SIM102, SIM109 - long argument lists and plain conditions of compiled loops

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ecg_gym.columns import DOSES, FEMALE, NONE, NUMBERS, WORDS, Doses, Patients, once_per_object
from ecg_gym.compiled import compiled_exact
from ecg_gym.core import Dose, Patient, Treatment
from ecg_gym.pharmacology.catalogue import UNKNOWN, dose_columns, medication_columns, weights_kg
from ecg_gym.pharmacology.conditions import known_conditions
from ecg_gym.pharmacology.doses import ASSUMED_WEIGHT_KG, milligrams, per_kg
from ecg_gym.pharmacology.drugs import RATES, Route
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.rules import _TOLERANCE, rules_of
from ecg_gym.pharmacology.tables import medication_names

INTERVAL, PATIENT, CONDITION, FINDING, WITH, DOSE_ABOVE, ALL, ANY, NOT, TRUE, UNKNOWN_NUMBER, AGAIN = range(12)
_STACK = 32  # answers that are open at once


class Program(NamedTuple):
    """The menu's rules and limits."""

    what: np.ndarray  # (N, 2) int: operation, and what it is about
    beyond: np.ndarray  # (N, 2) above, below; or hours, mg
    rule: np.ndarray  # (R, 3) where a rule's `when` begins, where it ends and `unless` begins, where that ends
    against: np.ndarray  # (N,) which rules are against the doses, one dose after another
    dose: np.ndarray  # (D, 5) int: drug, form, first and last place in `against`, whether nothing ever allows it
    limit: np.ndarray  # (D, 2, 2) mass and largest single dose: [mg], per kg or not
    within: np.ndarray  # (D, 2) largest mass in an hour [mg] and whether per kg; inf for none
    apart: np.ndarray  # (D,) [h] least time between two doses
    running: np.ndarray  # (D, 2) what a dose adds to what runs, and the most that may [mg/h] or [mg], per kg as `limit`
    rate: np.ndarray  # (D,) bool: a rate, so what runs at once counts in mg/h
    entry: np.ndarray  # (A + 1,) where the doses of a menu entry begin
    company: np.ndarray  # (S, M) bool: sets of drugs
    beside: np.ndarray  # (D, n_forms, 2) mass of the same drug named in one treatment by form [mg], per kg or not
    form_day: np.ndarray  # (F, 2) largest mass in 24 hours of a form [mg], per kg or not
    form_from: np.ndarray  # (n_drugs + 1,) where the forms of a drug begin


@dataclass(frozen=True)
class Masks:
    """Which treatments of a menu are allowed, for many people at once."""

    program: Program
    intervals: tuple[str, ...]  # the rows of readings that the rules ask for

    def __call__(
        self, readings: np.ndarray, findings: np.ndarray, patients: Patients, doses: Doses, hours: np.ndarray,
        at_hand: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """``(B, A)`` bool; watch and wait always is.

        ``readings (I, B)`` are ``intervals`` as measured (NaN where they were not), ``findings (17, B)`` bool;
        ``at_hand (B, A)`` bool are the treatments to ask about, by default all.
        """
        out = np.ones((len(hours), len(self.program.entry) - 1), bool) if at_hand is None else at_hand.copy()
        columns = dose_columns(len(DOSES))
        _ask(self.program, np.ascontiguousarray(readings), findings, patients.numbers, _condition_columns(len(WORDS)),
             medication_columns(len(WORDS)), patients.group, weights_kg(patients), doses.hours, doses.code, columns[0],
             columns[2], columns[3], _raw_durations(len(DOSES)), _form_columns(len(DOSES)), hours, out)  # fmt: skip
        return out


@once_per_object
def compile_masks(menu: tuple[Treatment, ...], intervals: tuple[str, ...], findings: tuple[str, ...]) -> Masks:
    """The rules and limits of a menu; ``findings`` are the names of rows that ``Masks`` is told."""
    ops: list[tuple[int, int, float, float]] = []
    rules: dict[Any, tuple[int, int, int]] = {}  # by what they say: doses of a drug share most of them
    places: list[int] = []
    rows: list[Any] = []
    limits: list[Any] = []
    within: list[Any] = []
    apart: list[Any] = []
    running: list[tuple[float, float]] = []
    rate: list[bool] = []
    entry = [0]
    sets: list[frozenset[str]] = []
    forms, beside = _forms(), []
    for treatment in menu:
        for dose in treatment.doses:
            drug = FORMULARY[dose.drug]
            route = drug.routes[dose.route].form(dose.unit)
            first = len(places)
            for rule in rules_of(dose.drug):
                if not rule.hard:
                    continue
                steps: list[tuple[int, int, float, float]] = []
                _compile(rule.when, dose, treatment, intervals, findings, sets, steps)
                middle = len(steps)
                if rule.unless:
                    _compile(rule.unless, dose, treatment, intervals, findings, sets, steps)
                key = (dose.drug, middle, tuple(steps))
                if key not in rules:
                    rules[key] = len(ops), len(ops) + middle, len(ops) + len(steps)
                    ops += steps
                places.append(list(rules).index(key))
            own = [d for d in treatment.doses if d.drug == dose.drug]
            rows.append(
                (FORMULARY.index[dose.drug], forms[_form_key(drug.name, route)], first, len(places), len(own) > 1)
            )
            most = _mass(Dose(drug.name, route.max_single, route.unit, route.name, dose.duration_hours))
            limits.append((_mass(dose), most))
            rate.append(route.unit.endswith(RATES))
            lasts = dose.duration_hours if rate[-1] else 1.0
            running.append((limits[-1][0][0] / lasts, most[0] / lasts))
            within.append(_mass(Dose(drug.name, route.max_1h, route.unit, route.name, 1.0)))
            apart.append(route.min_interval_hours)
            table = np.zeros((len(forms), 2))
            for each in own:
                mass, by_kg = _mass(each)
                table[forms[_form_key(drug.name, drug.routes[each.route].form(each.unit))], int(by_kg)] += mass
            beside.append(table)
        entry.append(len(rows))
    names = medication_names()
    day, drugs = _form_limits()
    return Masks(
        Program(
            what=np.array([op[:2] for op in ops], np.int64).reshape(-1, 2),
            beyond=np.array([op[2:] for op in ops], float).reshape(-1, 2),
            rule=np.array(list(rules.values()), np.int64).reshape(-1, 3),
            against=np.array(places, np.int64),
            dose=np.array(rows, np.int64).reshape(-1, 5),
            limit=np.array(limits, float).reshape(-1, 2, 2),
            within=np.array(within, float).reshape(-1, 2),
            apart=np.array(apart, float),
            running=np.array(running, float).reshape(-1, 2),
            rate=np.array(rate, bool),
            entry=np.array(entry, np.int64),
            company=np.array([[name in some for name in names] for some in sets], bool).reshape(-1, len(names)),
            beside=np.array(beside, float).reshape(-1, len(forms), 2),
            form_day=day,
            form_from=np.searchsorted(drugs, np.arange(len(FORMULARY) + 1)),
        ),
        intervals,
    )


def _compile(
    node: Mapping[str, Any], dose: Dose, treatment: Treatment, intervals: Sequence[str], findings: Sequence[str],
    sets: list[frozenset[str]], ops: list[tuple[int, int, float, float]],
) -> None:  # fmt: skip
    """Append a condition in postfix order."""
    for word, op in (("all", ALL), ("any", ANY)):
        if word in node:
            for child in node[word]:
                _compile(child, dose, treatment, intervals, findings, sets, ops)
            ops.append((op, len(node[word]), 0.0, 0.0))
            return
    beyond = float(node.get("above", np.inf)), float(node.get("below", -np.inf))
    if "not" in node:
        _compile(node["not"], dose, treatment, intervals, findings, sets, ops)
        ops.append((NOT, 0, 0.0, 0.0))
    elif "interval" in node and node["interval"] not in intervals:  # nobody measures it, so it never bites
        ops += [(TRUE, 0, 0.0, 0.0), (NOT, 0, 0.0, 0.0)]
    elif "interval" in node:
        ops.append((INTERVAL, intervals.index(node["interval"]), *beyond))
    elif "patient" in node:
        ops.append((PATIENT, NUMBERS.index(node["patient"]), *beyond))
    elif "condition" in node:
        ops.append((CONDITION, known_conditions().index(node["condition"]), 0.0, 0.0))
    elif "finding" in node:
        ops.append((FINDING, findings.index(node["finding"]), 0.0, 0.0))
    elif "unknown" in node:
        ops.append((UNKNOWN_NUMBER, FEMALE if node["unknown"] == "sex" else NUMBERS.index(node["unknown"]), 0.0, 0.0))
    elif "again" in node:
        ops.append((AGAIN, FORMULARY.index[dose.drug], float(node["again"]), 0.0))
    elif "route" in node:
        ops.append((TRUE, 0, 0.0, 0.0))
        if dose.route != node["route"]:
            ops.append((NOT, 0, 0.0, 0.0))
    elif "dose_above_mg" in node:
        mass, by_kg = _mass(dose)
        ops.append((DOSE_ABOVE, int(by_kg), mass, float(node["dose_above_mg"])))
    else:
        others = frozenset(node["with"]) - {dose.drug}
        if others & {d.drug for d in treatment.doses}:
            ops.append((TRUE, 0, 0.0, 0.0))
            return
        if others not in sets:
            sets.append(others)
        ops.append((WITH, sets.index(others), float(node.get("within", 24)), 0.0))


def _mass(dose: Dose) -> tuple[float, bool]:
    """The mass of a dose [mg] or, per kg, [mg/kg]."""
    by_kg = per_kg(dose)
    if not np.isfinite(dose.amount):
        return float("inf"), by_kg
    drug = FORMULARY[dose.drug]
    mass = milligrams(dose, drug, Patient(weight_kg=ASSUMED_WEIGHT_KG))
    return mass / ASSUMED_WEIGHT_KG if by_kg else mass, by_kg


def _form_key(drug: str, route: Route) -> tuple[str, str, str]:
    return drug, route.name, route.unit


@lru_cache(maxsize=1)
def _forms() -> dict[tuple[str, str, str], int]:
    """Every form of every route, with its number."""
    keys = [_form_key(name, f) for name, drug in FORMULARY.items() for r in drug.routes.values() for f in r.forms]
    return {key: i for i, key in enumerate(keys)}


@lru_cache(maxsize=1)
def _form_limits() -> tuple[np.ndarray, np.ndarray]:
    """The largest mass in 24 hours ``(F, 2)`` of each form, and its drug ``(F,)``."""
    day, drugs = [], []
    for name, drug in FORMULARY.items():
        for route in drug.routes.values():
            for form in route.forms:
                day.append(_mass(Dose(name, form.max_24h, form.unit, form.name, 1.0)))
                drugs.append(FORMULARY.index[name])
    return np.array(day, float), np.array(drugs, np.int64)


@lru_cache(maxsize=2)
def _form_columns(n: int) -> np.ndarray:
    """The form of each of the first ``n`` doses of the catalogue ``(n,)``; -1 where the formulary has none."""
    forms, out = _forms(), np.full(n, UNKNOWN, np.int64)
    for code, dose in enumerate(DOSES.rows[:n]):
        drug = FORMULARY.get(dose.drug)
        if drug is not None and dose.route in drug.routes:
            out[code] = forms[_form_key(drug.name, drug.routes[dose.route].form(dose.unit))]
    return out


@lru_cache(maxsize=2)
def _raw_durations(n: int) -> np.ndarray:
    """How long each of the first ``n`` doses of the catalogue runs by its own words ``(n,)`` [h]."""
    return np.array([dose.duration_hours for dose in DOSES.rows[:n]], float)


@lru_cache(maxsize=2)
def _condition_columns(n: int) -> np.ndarray:
    """Of the first ``n`` groups of people: which of ``CONDITIONS`` they have ``(n, C)`` bool."""
    names = known_conditions()
    return np.array([[name in conditions for name in names] for conditions, _ in WORDS.rows[:n]], bool)


@lru_cache(maxsize=2)
def unknown_conditions(n: int) -> np.ndarray:
    """Of the first ``n`` groups of people: whether they have a condition that is none ``(n,)`` bool."""
    return np.array([bool(conditions.difference(known_conditions())) for conditions, _ in WORDS.rows[:n]], bool)


@njit(inline="always")
def _holds(what, beyond, company, begin, end, b, readings, findings, numbers, conditions, medication, group, takes, weight,
           hours, code, n, drug_of, duration, now, own, stack):  # fmt: skip
    """Whether the condition between ``begin`` and ``end`` is true of row ``b``."""
    top = 0
    for i in range(begin, end):
        op, about = what[i, 0], what[i, 1]
        if op == INTERVAL:
            value = readings[about, b]
            answer = value > beyond[i, 0] or value < beyond[i, 1]
        elif op == CONDITION:
            answer = conditions[group, about]
        elif op == FINDING:
            answer = findings[about, b]
        elif op == PATIENT:
            value = numbers[b, about]
            answer = value > beyond[i, 0] or value < beyond[i, 1]
        elif op == UNKNOWN_NUMBER:
            answer = np.isnan(numbers[b, about])
        elif op == ALL or op == ANY:
            answer = op == ALL
            for _ in range(about):
                top -= 1
                answer = answer and stack[top] if op == ALL else answer or stack[top]
        elif op == NOT:
            top -= 1
            answer = not stack[top]
        elif op == AGAIN:
            answer = False
            for q in range(n):
                if (
                    drug_of[code[b, q]] == about
                    and hours[b, q] <= now <= hours[b, q] + duration[code[b, q]] + beyond[i, 0]
                ):
                    answer = True
        elif op == DOSE_ABOVE:
            answer = beyond[i, 0] * (weight if about else 1.0) > beyond[i, 1]
        elif op == WITH:
            answer = False
            if takes:
                for k in range(medication.shape[1]):
                    if medication[group, k] and company[about, k] and k != own:
                        answer = True
            for q in range(n):
                drug = drug_of[code[b, q]]
                if drug >= 0 and drug != own and company[about, drug]:
                    if hours[b, q] <= now <= hours[b, q] + duration[code[b, q]] + beyond[i, 0]:
                        answer = True
        else:
            answer = True
        stack[top] = answer
        top += 1
    return stack[0]


@compiled_exact
def _ask(p, readings, findings, numbers, conditions, medication, group, weight, hours, code, drug_of, mg, by_kg,
         duration, form_of, now, out):  # fmt: skip
    stack, bites = np.zeros(_STACK, np.bool_), np.empty(len(p.rule), np.int8)
    what, beyond, company, rules = p.what, p.beyond, p.company, p.rule
    doses, limit, within, apart, entry = p.dose, p.limit, p.within, p.apart, p.entry
    beside, day, form_from = p.beside, p.form_day, p.form_from
    for b in range(len(now)):
        w, n, g, takes = weight[b], 0, group[b], False
        bites[:] = -1  # not asked yet
        while n < code.shape[1] and code[b, n] != NONE:
            n += 1
        for k in range(medication.shape[1]):
            takes = takes or medication[g, k]
        for a in range(out.shape[1]):
            for d in range(entry[a], entry[a + 1]):
                if not out[b, a]:
                    break
                drug, form = doses[d, 0], doses[d, 1]
                forbidden = doses[d, 4] != 0
                most = limit[d, 1, 0] * (w if limit[d, 1, 1] else 1.0) * (1 + _TOLERANCE)
                if limit[d, 0, 0] * (w if limit[d, 0, 1] else 1.0) > most:
                    forbidden = True
                today = hour = widest = beside_it = 0.0
                last = -np.inf
                for f in range(form_from[drug], form_from[drug + 1]):
                    mass = beside[d, f, 0] + beside[d, f, 1] * w
                    today += mass
                    if f == form:
                        hour += mass
                    if mass > 0 or f == form:
                        widest = max(widest, day[f, 0] * (w if day[f, 1] else 1.0))
                for q in range(n):
                    c = code[b, q]
                    if drug_of[c] != drug or hours[b, q] > now[b]:
                        continue
                    mass, since = mg[c] * (w if by_kg[c] else 1.0), now[b] - hours[b, q]
                    if since < 24:
                        today += mass
                        f = form_of[c]
                        widest = max(widest, day[f, 0] * (w if day[f, 1] else 1.0))
                    if form_of[c] == form:
                        last = max(last, hours[b, q])
                        if now[b] < hours[b, q] + duration[c] - _TOLERANCE:
                            beside_it += mass / (duration[c] if p.rate[d] else 1.0)
                        if since < 1 - _TOLERANCE:
                            hour += mass
                if today > widest * (1 + _TOLERANCE):
                    forbidden = True
                if hour > within[d, 0] * (w if within[d, 1] else 1.0) * (1 + _TOLERANCE):
                    forbidden = True
                if beside_it > 0:
                    scale = w if limit[d, 1, 1] else 1.0
                    if beside_it + p.running[d, 0] * scale > p.running[d, 1] * scale * (1 + _TOLERANCE):
                        forbidden = True
                if now[b] - last < apart[d] - _TOLERANCE:
                    forbidden = True
                for place in range(doses[d, 2], doses[d, 3]):
                    if forbidden:
                        break
                    r = p.against[place]
                    if bites[r] < 0:
                        middle, end = rules[r, 1], rules[r, 2]
                        holds = _holds(what, beyond, company, rules[r, 0], middle, b, readings, findings, numbers,
                                       conditions, medication, g, takes, w, hours, code, n, drug_of, duration, now[b],
                                       drug, stack)  # fmt: skip
                        if holds and middle < end:
                            holds = not _holds(what, beyond, company, middle, end, b, readings, findings, numbers,
                                               conditions, medication, g, takes, w, hours, code, n, drug_of, duration,
                                               now[b], drug, stack)  # fmt: skip
                        bites[r] = 1 if holds else 0
                    forbidden = bites[r] == 1
                if forbidden:
                    out[b, a] = False
