"""Clinical situations as data: whom an episode starts with, which drugs are at hand and what would be good."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import WATCH, Administration, Patient, Treatment, is_number, parse_dose
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("scenarios.yaml")
_PEOPLE = ("population", "ranges", "conditions", "given")  # words that a row and each of its kinds may use
_NEEDED = ("id", "description", "goal", "first_line", "pitfall", "weight", "clock", "drugs", "sources")
ANY = "any"  # in place of a name: every episode draws one, with the weights of the table
MENUS = ("formulary", "scenario")


@dataclass(frozen=True)
class People:
    """Whom a situation brings: words for ``World.initial``, and what has happened to them."""

    population: Mapping[str, Any] = field(default_factory=dict)  # words for World.initial
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # fields of Patient, drawn uniformly
    conditions: frozenset[str] = frozenset()
    doses: tuple[Administration, ...] = ()  # before the episode starts, hours <= 0

    def and_also(self, more: People) -> People:
        """These people with more said about them; the later word wins."""
        return People(
            {**self.population, **more.population},
            {**self.ranges, **more.ranges},
            self.conditions | more.conditions,
            tuple(sorted((*self.doses, *more.doses))),
        )


@dataclass(frozen=True)
class Kind:
    """Some of a scenario's patients, who differ from the rest in a way that an agent can see."""

    name: str  # in words
    share: float  # of the patients
    people: People


@dataclass(frozen=True)
class Clock:
    """At what pace decisions are made, and for how long."""

    dt_hours: float  # [h] between two decisions
    steps: int  # of an episode
    source: str = ""


@dataclass(frozen=True)
class Scenario:
    """One row of ``scenarios.yaml``."""

    name: str
    id: str  # CamelCase, for gymnasium's registry
    description: str  # one sentence a clinician would nod at
    goal: str  # what a good choice achieves
    first_line: str  # what the guideline gives first, and what next
    pitfall: str  # for whom the obvious choice is wrong, and how one can know
    offers: tuple[str, ...]  # besides watching: a drug (all its usual doses) or one dose in words
    sources: tuple[str, ...]  # of the situation and the options
    clock: Clock
    weight: float = 1.0  # how often it comes where every scenario may
    helps: tuple[Treatment, str] | None = None  # what helps most of them, and the interval that shows it
    people: People = field(default_factory=People)
    kinds: tuple[Kind, ...] = ()  # whoever is of none of them is as ``people`` says

    @property
    def menu(self) -> tuple[Treatment, ...]:
        """The treatments on offer, watch and wait first, in the formulary's order of drugs."""
        return _menu(self.offers)

    @property
    def drugs(self) -> tuple[str, ...]:
        """The names of the drugs on offer."""
        return tuple(dict.fromkeys(dose.drug for treatment in self.menu for dose in treatment.doses))

    @property
    def population(self) -> Mapping[str, Any]:
        """Words for ``World.initial`` that hold for everybody who is of no special kind."""
        return self.people.population

    @property
    def conditions(self) -> frozenset[str]:
        """What everybody has."""
        return self.people.conditions

    @property
    def doses(self) -> tuple[Administration, ...]:
        """What everybody was given before the episode starts."""
        return self.people.doses

    def draw(self, rng: np.random.Generator) -> Scenario:
        """The scenario of one patient: a kind chosen by its share, every range a number.

        A row without kinds and ranges is returned as it is, and ``rng`` is left untouched.
        """
        people = self.people
        if self.kinds:
            upto = np.cumsum([kind.share for kind in self.kinds])
            place = int(np.searchsorted(upto, rng.random(), side="right"))
            people = people.and_also(self.kinds[place].people) if place < len(self.kinds) else people
        numbers = {name: round(float(rng.uniform(*ends)), 2) for name, ends in people.ranges.items()}
        settled = replace(people, population={**people.population, **numbers}, ranges={})
        return replace(self, people=settled, kinds=())

    def lend(self, patient: Patient) -> tuple[Patient, tuple[Administration, ...], str]:
        """The patient with the scenario's conditions as well, the doses already taken, and the drugs with commas."""
        lent = replace(patient, conditions=patient.conditions | self.conditions)
        return lent, self.doses, ", ".join(self.offers)


@lru_cache(maxsize=1)
def load_scenarios() -> Mapping[str, Scenario]:
    """All scenarios by name, in the order of the table."""
    return {name: parse(name, row) for name, row in read_yaml(TABLE).items()}


def scenario_named(name: str) -> Scenario:
    """The scenario of that name; ``ValueError`` names the others."""
    scenarios = load_scenarios()
    if not isinstance(name, str) or name not in scenarios:
        raise ValueError(f"scenario is {name!r}; expected {ANY!r} or one of {', '.join(scenarios)}; choose one of them")
    return scenarios[name]


def scenarios_of(name: str) -> tuple[Scenario, ...]:
    """The scenarios that episodes may begin with: the one of that name, or for ``"any"`` all of a weight above 0."""
    if name == ANY:
        return tuple(scenario for scenario in load_scenarios().values() if scenario.weight > 0)
    return (scenario_named(name),)


@lru_cache(maxsize=1)
def whole_menu() -> tuple[Treatment, ...]:
    """Every treatment there is: watch and wait, the formulary's usual doses, and what single scenarios offer besides.

    The order is that of the formulary's drugs, so it is the same for every scenario.
    """
    offers = tuple(offer for scenario in load_scenarios().values() for offer in scenario.offers)
    return _menu((*FORMULARY.names, *(offer for offer in dict.fromkeys(offers) if offer not in FORMULARY)))


def parse(name: str, row: Mapping[str, Any]) -> Scenario:
    """A row as a Scenario. ValueError for a word nobody reads, one that is missing or no such word, shares above 1."""
    try:
        return _parsed(name, row)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        if "; expected" in str(error):
            raise
        raise ValueError(
            f"scenario {name} cannot be read ({type(error).__name__}: {error}); expected a row like those of "
            "scenarios.yaml; compare it with one of them"
        ) from error


def _parsed(name: str, row: Mapping[str, Any]) -> Scenario:
    _expect(f"scenario {name}", row, _NEEDED, (*_PEOPLE, "kinds", "helps"))
    if not re.fullmatch(r"(?:[A-Z][A-Za-z0-9]*)", row["id"]):
        raise ValueError(f"id of scenario {name} is {row['id']!r}; expected CamelCase such as 'LongQT'; rename it")
    kinds = []
    for kind in row.get("kinds", ()):
        _expect(f"kind of scenario {name}", kind, ("name", "share"), _PEOPLE)
        kinds.append(Kind(kind["name"], float(kind["share"]), _people(name, kind)))
    if (total := sum(kind.share for kind in kinds)) > 1 + 1e-9:
        raise ValueError(f"shares of scenario {name} add up to {total:g}; expected at most 1; lower them")
    if not isinstance(row["drugs"], list) or not all(isinstance(offer, str) for offer in row["drugs"]):
        raise ValueError(
            f"drugs of scenario {name} are {row['drugs']!r}; expected a list of names or doses; write [placebo]"
        )
    return Scenario(
        name=name,
        id=row["id"],
        description=row["description"],
        goal=row["goal"],
        first_line=row["first_line"],
        pitfall=row["pitfall"],
        offers=tuple(row["drugs"]),
        sources=tuple(row["sources"]),
        clock=_clock(name, row["clock"]),
        weight=_weight(name, row["weight"]),
        helps=_helps(name, row["helps"]) if "helps" in row else None,
        people=_people(name, row),
        kinds=tuple(kinds),
    )


def _clock(name: str, row: Mapping[str, Any]) -> Clock:
    _expect(f"clock of scenario {name}", row, ("minutes", "steps", "source"), ())
    clock = Clock(float(row["minutes"]) / 60, int(row["steps"]), str(row["source"]))
    if not clock.dt_hours > 0 or clock.steps < 1 or not clock.source:
        raise ValueError(
            f"clock of scenario {name} is {dict(row)}; expected minutes above 0, at least one step and a source; "
            "correct it"
        )
    return clock


def _weight(name: str, value: Any) -> float:
    if not is_number(value) or value < 0:
        raise ValueError(f"weight of scenario {name} is {value!r}; expected a number from 0; write weight: 1")
    return float(value)


def _helps(name: str, text: Mapping[str, str]) -> tuple[Treatment, str]:
    _expect(f"helps of scenario {name}", text, ("give", "moves"), ())
    return Treatment((FORMULARY.check(parse_dose(text["give"]), Patient()),)), text["moves"]


def _people(name: str, row: Mapping[str, Any]) -> People:
    conditions = frozenset(row.get("conditions", ()))
    if unknown := conditions.difference(CONDITIONS):
        raise ValueError(
            f"scenario {name} has conditions {sorted(unknown)}; expected names out of {', '.join(CONDITIONS)}; "
            "check the spelling"
        )
    for value in (doses := row.get("given", ())):
        _expect(f"given of scenario {name}", value, ("dose", "hours"), ())
    return People(
        population=row.get("population", {}),
        ranges={field: (float(low), float(high)) for field, (low, high) in row.get("ranges", {}).items()},
        conditions=conditions,
        doses=tuple(sorted(Administration(float(g["hours"]), parse_dose(g["dose"])) for g in doses)),
    )


def _expect(what: str, row: Mapping[str, Any], required: Sequence[str], allowed: Sequence[str]) -> None:
    unknown, missing = sorted(set(row) - {*required, *allowed}), [key for key in required if key not in row]
    if unknown or missing:
        raise ValueError(
            f"{what} has the unknown keys {unknown} and lacks {missing}; expected {', '.join(required)} "
            f"and perhaps {', '.join(allowed) or 'nothing else'}; check the spelling"
        )


@lru_cache(maxsize=64)
def _menu(offers: tuple[str, ...]) -> tuple[Treatment, ...]:
    doses = {name: FORMULARY.usual_doses(name) for name in offers if name in FORMULARY}
    for words in (offer for offer in offers if offer not in FORMULARY):
        dose = FORMULARY.check(parse_dose(words), Patient())
        doses[dose.drug] = tuple(dict.fromkeys((*doses.get(dose.drug, ()), dose)))
    ordered = sorted(doses, key=FORMULARY.index.__getitem__)
    return (WATCH, *(Treatment((dose,)) for drug in ordered for dose in doses[drug]))
