"""What a treatment would be given for: the indications that the measured strip and the known conditions hold.

``indications`` says it in words, ``indication_mask`` in booleans. Watch and wait needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Administration, Patient, Treatment
from ecg_gym.pharmacology.conditions import expanded
from ecg_gym.pharmacology.constants import read_table, sources
from ecg_gym.pharmacology.rules import Case, holds

NONE = "no indication"
_NEVER: Mapping[str, Any] = {"any": []}


@dataclass(frozen=True)
class Indication:
    """One row of ``indications.yaml``."""

    drug: str
    when: Mapping[str, Any]
    says: str
    source: str  # citation in full


@dataclass(frozen=True)
class Reasons:
    """Why a treatment would be given: ``present`` is empty where there is no indication."""

    present: tuple[str, ...]  # what it is given for, one sentence per drug and row that holds
    missing: tuple[str, ...]  # values of the patient that are unknown and could make an indication hold
    absent: tuple[str, ...]  # drugs of the treatment without an indication

    @property
    def indicated(self) -> bool:
        """Whether every drug of the treatment has an indication."""
        return not self.absent

    @property
    def sentence(self) -> str:
        """The reasons as one sentence, or that there is none and which value is missing."""
        if self.indicated:
            return "; ".join(self.present)
        unknown = f" (unknown: {', '.join(self.missing)})" if self.missing else ""
        return f"{NONE}: {', '.join(self.absent)}{unknown}"


def indications(
    treatment: Treatment,
    patient: Patient,
    intervals_row: Mapping[str, float],
    doses: Sequence[Administration] = (),
    hours: float = 0.0,
    findings: frozenset[str] = frozenset(),
) -> Reasons:
    """The indications for ``treatment``; arguments as for ``rules.violations``.

    Intervals and findings must be those of the measured record, not of its reconstruction. A combination is indicated
    when each of its drugs is.
    """
    present, missing, absent = [], set(), []
    for dose in treatment.doses:
        case = Case(dose, treatment, patient, intervals_row, tuple(doses), hours, frozenset(findings))
        rows = table().get(dose.drug, ())
        reasons = [f"{dose.drug}: {row.says}" for row in rows if holds(row.when, case)]
        present += reasons
        if not reasons:
            absent.append(dose.drug)
            missing |= {name for row in rows for name in _deciding(row.when, case)}
    return Reasons(tuple(dict.fromkeys(present)), tuple(sorted(missing)), tuple(dict.fromkeys(absent)))


def indication_mask(
    menu: Sequence[Treatment],
    patient: Patient,
    intervals_row: Mapping[str, float],
    doses: Sequence[Administration] = (),
    hours: float = 0.0,
    findings: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Which treatments of ``menu`` are indicated, ``(len(menu),)`` bool. Watch and wait always is."""
    drugs = {dose.drug: dose for treatment in menu for dose in treatment.doses}
    indicated = {
        drug: indications(Treatment((dose,)), patient, intervals_row, doses, hours, findings).indicated
        for drug, dose in drugs.items()
    }
    return np.array([all(indicated[dose.drug] for dose in treatment.doses) for treatment in menu], dtype=bool)


@cache
def table() -> Mapping[str, tuple[Indication, ...]]:
    """Drug -> its indications, checked: known conditions, signs, sources and forms. Drugs of a user have none."""
    data = read_table("indications.yaml")
    groups, signs = read_table("rules.yaml")["groups"], data["signs"]
    return {drug: tuple(_parse(drug, row, groups, signs) for row in rows) for drug, rows in data["drugs"].items()}


def _parse(drug: str, row: Mapping[str, Any], groups: Mapping[str, Any], signs: Mapping[str, Any]) -> Indication:
    if row.get("source") not in sources():
        raise ValueError(f"{drug} cites {row.get('source')!r}; expected a key of sources.yaml; add the citation")
    if "never" in row:
        return Indication(drug, _NEVER, row["never"], sources()[row["source"]])
    when = expanded(_with_signs(row["when"], signs, drug), groups, f"the indication of {drug}")
    return Indication(drug, when, row["says"], sources()[row["source"]])


def _with_signs(node: Mapping[str, Any], signs: Mapping[str, Any], drug: str) -> Mapping[str, Any]:
    """A condition tree with each ``{sign: NAME}`` spelled out."""
    if "sign" in node:
        if node["sign"] not in signs:
            raise ValueError(f"{drug} asks for the sign {node['sign']!r}; expected one of {sorted(signs)}; add it")
        return _with_signs(signs[node["sign"]], signs, drug)
    for word in ("all", "any"):
        if word in node:
            return {word: [_with_signs(child, signs, drug) for child in node[word]]}
    return {"not": _with_signs(node["not"], signs, drug)} if "not" in node else node


def _deciding(node: Mapping[str, Any], case: Case) -> frozenset[str]:
    """Unknown values of the patient that alone keep the condition from holding; empty where it cannot hold."""
    if "all" in node:
        parts = [_deciding(child, case) for child in node["all"] if not holds(child, case)]
        return frozenset().union(*parts) if all(parts) else frozenset()
    if "any" in node:
        return frozenset().union(*(_deciding(child, case) for child in node["any"]))
    if "patient" in node and getattr(case.patient, node["patient"]) is None:
        return frozenset({node["patient"]})
    return frozenset()
