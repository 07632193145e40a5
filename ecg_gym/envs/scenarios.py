"""Clinical situations as data: whom an episode starts with, which drugs are at hand and what would be good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ecg_gym.core import Administration, Patient, parse_dose

TABLE = Path(__file__).with_name("scenarios.yaml")


@dataclass(frozen=True)
class Scenario:
    """One row of ``scenarios.yaml``."""

    name: str
    description: str  # one sentence a clinician would nod at
    goal: str  # what a good choice achieves
    drugs: tuple[str, ...]  # on offer, besides watching
    population: Mapping[str, Any] = field(default_factory=dict)  # words for World.initial
    conditions: frozenset[str] = frozenset()
    given: tuple[Administration, ...] = ()  # before the episode starts, hours <= 0

    def lend(self, patient: Patient) -> tuple[Patient, tuple[Administration, ...], str]:
        """The patient with the scenario's conditions as well, the doses already taken, and the drugs with commas."""
        lent = replace(patient, conditions=patient.conditions | self.conditions)
        return lent, self.given, ", ".join(self.drugs)


@lru_cache(maxsize=1)
def load_scenarios() -> Mapping[str, Scenario]:
    """All scenarios by name, in the order of the table."""
    return {name: _scenario(name, row) for name, row in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items()}


def scenario_named(name: str) -> Scenario:
    """The scenario of that name; ``ValueError`` names the others."""
    scenarios = load_scenarios()
    if name not in scenarios:
        raise ValueError(f"scenario is {name!r}; expected one of {', '.join(scenarios)}; choose one of them")
    return scenarios[name]


def _scenario(name: str, row: Mapping[str, Any]) -> Scenario:
    return Scenario(
        name=name,
        description=row["description"],
        goal=row["goal"],
        drugs=tuple(row["drugs"]),
        population=row.get("population", {}),
        conditions=frozenset(row.get("conditions", ())),
        given=tuple(Administration(float(g["hours"]), parse_dose(g["dose"])) for g in row.get("given", ())),
    )
