"""The clinical mask: what speaks against a treatment for this person now, and which treatments remain.

``violations`` says it in words, ``masks.action_mask`` in booleans. Watch and wait is always allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Administration, Dose, Patient, Treatment
from ecg_gym.pharmacology.conditions import CONDITIONS, check_conditions, expanded, names_of
from ecg_gym.pharmacology.constants import read_table, sources
from ecg_gym.pharmacology.doses import milligrams, per_kg
from ecg_gym.pharmacology.drugs import RATES, Route
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.medication import ingredients

__all__ = ["CONDITIONS", "Case", "Rule", "Violation", "holds", "limits", "rules", "rules_of", "violations"]

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Violation:
    """Why a treatment is not allowed (hard), or what to mind (not hard)."""

    rule: str
    sentence: str
    source: str  # citation in full
    hard: bool


@dataclass(frozen=True)
class Case:
    """Everything a condition may ask about."""

    dose: Dose
    treatment: Treatment
    patient: Patient
    intervals: Mapping[str, float]
    doses: tuple[Administration, ...]
    hours: float
    findings: frozenset[str]


def violations(
    treatment: Treatment,
    patient: Patient,
    intervals_row: Mapping[str, float],
    doses: Sequence[Administration],
    hours: float,
    findings: frozenset[str] = frozenset(),
) -> tuple[Violation, ...]:
    """All that speaks against ``treatment`` at ``hours``, hard ones first. Watch and wait has none.

    ``intervals_row`` holds the measured intervals by their names in ``Intervals`` (NaN where unmeasurable: such a rule
    stays silent); ``findings`` the names of the findings present, spelled as the risk model spells them. Raises
    ValueError for a condition or a medication that nobody knows and for a dose that ``FORMULARY.check`` has not seen.
    """
    check_conditions(patient.conditions)
    ingredients(patient.medication)  # a misspelt name must not lift a rule
    result: dict[str, Violation] = {}
    for dose in treatment.doses:
        case = Case(dose, treatment, patient, intervals_row, tuple(doses), hours, frozenset(findings))
        for violation in (*limits(case), *_clinical(case)):
            result.setdefault(violation.rule, violation)
    return tuple(sorted(result.values(), key=lambda v: not v.hard))


def _clinical(case: Case) -> list[Violation]:
    return [
        Violation(rule.id, f"{case.dose.drug}: {rule.says}", sources()[rule.source], rule.hard)
        for rule in rules_of(case.dose.drug)
        if holds(rule.when, case) and not (rule.unless and holds(rule.unless, case))
    ]


def limits(case: Case) -> list[Violation]:
    """The formulary's own limits: single dose, 1 h, 24 h, interval; and the remark that a weight was assumed."""
    if case.dose.drug not in FORMULARY or case.dose.route not in FORMULARY[case.dose.drug].routes:
        raise ValueError(
            f"dose is {case.dose}; expected a drug and a route as the formulary spells them; "
            "pass FORMULARY.check(dose, patient), which fills in what is left out"
        )
    drug = FORMULARY[case.dose.drug]
    route = drug.routes[case.dose.route].form(case.dose.unit)
    citation = sources()[route.source]
    name, result = drug.name, []

    def say(rule: str, sentence: str, hard: bool = True) -> None:
        result.append(Violation(rule, f"{name}: {sentence}", citation, hard))

    def mass(dose: Dose) -> float:
        return milligrams(dose, drug, case.patient)

    def limit(value: float, rate_hours: float) -> float:
        return mass(Dose(name, value, route.unit, route.name, rate_hours))

    def strength(dose: Dose) -> float:
        """What counts against what may run at once: the rate of an infusion, the mass of anything else."""
        return mass(dose) / (dose.duration_hours if route.unit.endswith(RATES) else 1.0)

    most = replace(case.dose, amount=route.max_single, unit=route.unit, route=route.name)
    before = [a for a in case.doses if a.dose.drug == name and a.hours <= case.hours]
    same_form = [a for a in before if drug.routes[a.dose.route].form(a.dose.unit) is route]
    beside = [d for d in case.treatment.doses if d.drug == name]
    if mass(case.dose) > limit(route.max_single, case.dose.duration_hours) * (1 + _TOLERANCE):
        say("max-single", f"more than {route.max_single:g} {route.unit} at once")
    today = [a.dose for a in before if case.hours - a.hours < 24] + beside

    def mass_in_24h(form: Route) -> float:
        return mass(Dose(name, form.max_24h, form.unit, form.name, 1.0))

    widest = max((drug.routes[d.route].form(d.unit) for d in today), key=mass_in_24h)
    if sum(map(mass, today)) > mass_in_24h(widest) * (1 + _TOLERANCE):
        of_day = f"{widest.unit} x h" if widest.unit.endswith(RATES) else widest.unit
        say("max-24h", f"more than {widest.max_24h:g} {of_day} in 24 hours")
    hour = [a.dose for a in same_form if case.hours - a.hours < 1 - _TOLERANCE]
    hour += [d for d in beside if drug.routes[d.route].form(d.unit) is route]
    if np.isfinite(route.max_1h) and sum(map(mass, hour)) > limit(route.max_1h, 1.0) * (1 + _TOLERANCE):
        say("max-1h", f"more than {route.max_1h:g} {route.unit} within an hour")
    if same_form:
        since = case.hours - max(a.hours for a in same_form)
        if since < route.min_interval_hours - _TOLERANCE:
            say("min-interval", f"the last dose was {since:.2g} h ago, the least is {route.min_interval_hours:.2g} h")
    running = [a.dose for a in same_form if case.hours < a.hours + a.dose.duration_hours - _TOLERANCE]
    if running and sum(map(strength, [*running, case.dose])) > strength(most) * (1 + _TOLERANCE):
        say("max-running", f"more than {route.max_single:g} {route.unit} would run at the same time")
    if len(beside) > 1:
        say("twice", "named twice in one treatment")
    if per_kg(case.dose) and case.patient.weight_kg is None:
        say("weight-assumed", "the dose depends on a weight that is unknown; 70 kg were assumed", hard=False)
    return result


@dataclass(frozen=True)
class Rule:
    """One row of ``rules.yaml``."""

    id: str
    drugs: tuple[str, ...]
    when: Mapping[str, Any]
    unless: Mapping[str, Any] | None
    hard: bool
    says: str
    source: str


@cache
def rules() -> tuple[Rule, ...]:
    """All clinical rules, checked: known drugs, conditions, sources and forms of condition."""
    table = read_table("rules.yaml")
    groups = table["groups"]
    return tuple(_parse(row, groups) for row in table["rules"])


@cache
def named_in_rules() -> frozenset[str]:
    """Every drug whose company a rule asks about."""

    def names(node: Any) -> set[str]:
        if isinstance(node, list | tuple):
            return {name for child in node for name in names(child)}
        if not isinstance(node, Mapping):
            return set()
        inner = {name for key in ("all", "any", "not") if key in node for name in names(node[key])}
        return inner | set(node.get("with", ()))

    return frozenset(name for rule in rules() for tree in (rule.when, rule.unless) for name in names(tree))


@cache
def rules_of(drug: str) -> tuple[Rule, ...]:
    """The clinical rules that name a drug."""
    return tuple(rule for rule in rules() if drug in rule.drugs)


def _parse(row: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> Rule:
    missing = [key for key in ("id", "drugs", "when", "hard", "says", "source") if key not in row]
    if missing:
        raise ValueError(f"rule {row.get('id', row)} lacks {missing}; expected all of them; see the head of rules.yaml")
    if row["source"] not in sources():
        raise ValueError(f"rule {row['id']} cites {row['source']!r}; expected a key of sources.yaml; add the citation")
    when, unless = (expanded(row.get(key), groups, f"rule {row['id']}") for key in ("when", "unless"))
    return Rule(row["id"], names_of(row["drugs"], groups), when, unless, bool(row["hard"]), row["says"], row["source"])


def holds(node: Mapping[str, Any], case: Case) -> bool:
    """Whether a condition is true of a case."""
    if "all" in node:
        return all(holds(child, case) for child in node["all"])
    if "any" in node:
        return any(holds(child, case) for child in node["any"])
    if "not" in node:
        return not holds(node["not"], case)
    if "interval" in node:
        return _beyond(case.intervals.get(node["interval"]), node)
    if "patient" in node:
        return _beyond(getattr(case.patient, node["patient"]), node)
    if "condition" in node:
        return node["condition"] in case.patient.conditions
    if "finding" in node:
        return node["finding"] in case.findings
    if "unknown" in node:
        return getattr(case.patient, node["unknown"]) is None
    if "route" in node:
        return case.dose.route == node["route"]
    if "again" in node:
        return case.dose.drug in _recent(case, float(node["again"]))
    if "dose_above_mg" in node:
        return milligrams(case.dose, FORMULARY[case.dose.drug], case.patient) > node["dose_above_mg"]
    return bool(_company(case, float(node.get("within", 24))) & set(node["with"]))


def _beyond(value: float | None, node: Mapping[str, Any]) -> bool:
    """A known value outside its limit; NaN compares false, so what could not be measured stays silent."""
    if value is None:
        return False
    return bool(value > node.get("above", float("inf")) or value < node.get("below", float("-inf")))


def _company(case: Case, within: float) -> set[str]:
    """Other drugs beside this dose: proposed with it, given within so many hours, or in the medication."""
    together = {d.drug for d in case.treatment.doses}
    return (together | _recent(case, within) | ingredients(case.patient.medication)) - {case.dose.drug}


def _recent(case: Case, within: float) -> set[str]:
    """The drugs given within so many hours."""
    return {a.dose.drug for a in case.doses if a.hours <= case.hours <= a.hours + a.dose.duration_hours + within}
