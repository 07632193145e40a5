"""Which treatments of a menu remain: the clinical rules, worked out for one person once and asked again at every step.

What a rule says of the dose and of the person does not change within an episode: it is settled when the menu is first
met, and what is left over depends on measured intervals, findings and the doses so far. Most rules leave nothing over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ecg_gym.core import Administration, Dose, Patient, Treatment
from ecg_gym.pharmacology.rules import Case, holds, limits, rules_of, violations

_NOTHING: Mapping[str, float] = {}
_ALWAYS: Mapping[str, Any] = {"all": []}
Question = tuple[Dose, Mapping[str, Any], Mapping[str, Any] | None]  # a dose, and when and unless of a hard rule


@dataclass(frozen=True)
class _Entry:
    """What is left to ask about one treatment."""

    treatment: Treatment
    never: bool  # hard, whatever is measured
    drugs: frozenset[str]  # whose earlier doses matter to its limits
    open: int  # which of the menu's open questions is this treatment's; -1 for none


@dataclass(frozen=True)
class _Menu:
    entries: tuple[_Entry, ...]
    questions: tuple[tuple[Question, ...], ...]


def action_mask(
    menu: Sequence[Treatment],
    patient: Patient,
    intervals_row: Mapping[str, float],
    doses: Sequence[Administration],
    hours: float,
    findings: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Which treatments of ``menu`` are allowed, ``(len(menu),)`` bool. Watch and wait always is.

    Those without a hard one among ``violations``, whose arguments these are.
    """
    resolution = _resolve(tuple(menu), patient)
    past, likely = tuple(doses), frozenset(findings)
    drugs = {a.dose.drug for a in past if a.hours <= hours}
    against: dict[int, bool] = {}

    def case(dose: Dose, treatment: Treatment) -> Case:
        return Case(dose, treatment, patient, intervals_row, past, hours, likely)

    def forbidden(entry: _Entry) -> bool:
        if entry.never:
            return True
        if entry.drugs & drugs:
            for dose in entry.treatment.doses:
                if dose.drug in drugs and any(v.hard for v in limits(case(dose, entry.treatment))):
                    return True
        if entry.open >= 0 and entry.open not in against:
            against[entry.open] = any(
                holds(when, target_intervals) and not (unless and holds(unless, target_intervals))
                for dose, when, unless in resolution.questions[entry.open]
                for target_intervals in [case(dose, entry.treatment)]
            )
        return entry.open >= 0 and against[entry.open]

    return np.array([not forbidden(entry) for entry in resolution.entries], dtype=bool)


@lru_cache(maxsize=1024)
def _resolve(menu: tuple[Treatment, ...], patient: Patient) -> _Menu:
    """What the doses and the person alone decide, and what is left; raises ValueError where ``violations`` does."""
    entries = []
    questions: dict[str, tuple[int, tuple[Question, ...]]] = {}
    for treatment in menu:
        violations(treatment, patient, _NOTHING, (), 0.0)
        cases = [Case(dose, treatment, patient, _NOTHING, (), 0.0, frozenset()) for dose in treatment.doses]
        never, left = any(v.hard for case in cases for v in limits(case)), []
        for case in cases:
            for rule in rules_of(case.dose.drug):
                when = reduced(rule.when, case) if rule.hard else False
                unless = reduced(rule.unless, case) if rule.unless else False
                if when is True and unless is False:
                    never = True
                elif when is not False and unless is not True:
                    left.append((case.dose, _ALWAYS if when is True else when, None if unless is False else unless))
        drugs, place = frozenset(dose.drug for dose in treatment.doses), -1
        if left and not never:
            words = repr((sorted(drugs), [(dose.drug, when, unless) for dose, when, unless in left]))
            place = questions.setdefault(words, (len(questions), tuple(left)))[0]
        entries.append(_Entry(treatment, never, drugs, place))
    return _Menu(tuple(entries), tuple(target_intervals for _, target_intervals in questions.values()))


def reduced(node: Mapping[str, Any], case: Case) -> Mapping[str, Any] | bool:
    """A condition once dose, treatment and person are known: true, false, or what still depends on the hour."""
    if "all" in node or "any" in node:
        word, decides = ("any", True) if "any" in node else ("all", False)
        parts = [reduced(child, case) for child in node[word]]
        if any(part is decides for part in parts):
            return decides
        left = [part for part in parts if not isinstance(part, bool)]
        return {word: left} if left else not decides
    if "not" in node:
        inner = reduced(node["not"], case)
        return not inner if isinstance(inner, bool) else {"not": inner}
    if "interval" in node or "finding" in node:
        return node
    now = holds(node, case)
    return node if ("with" in node or "again" in node) and not now else now  # doses may still come
