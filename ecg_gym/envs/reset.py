"""Where an episode starts: ``reset(options={...})`` made into a State of one patient. Unknown words are errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.columns import NUMBERS, Patients
from ecg_gym.core import ECG, Administration, Patient, State, World, concatenate, parse_dose, row_streams
from ecg_gym.envs.observability import Tier
from ecg_gym.envs.scenarios import Scenario, scenario_named
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.pharmacology.conditions import check_conditions
from ecg_gym.pharmacology.medication import ingredients
from ecg_gym.philox import fill_uniform
from ecg_gym.powers import DrawsTogether
from ecg_gym.streams import SCENARIO, WHICH_SCENARIO, Streams

OPTIONS = ("patient", "ecg", "scenario", "given")
_FIELDS = tuple(f.name for f in fields(Patient))


def start(
    world: World,
    scenario: Scenario | Sequence[Scenario],
    rngs: np.random.Generator | Sequence[np.random.Generator],
    options: Mapping[str, Any] | None = None,
    tier: Tier | None = None,
) -> State:
    """The states that episodes begin with, one per generator (one generator: a batch of one), of one scenario for all
    or one for each.

    ``options`` may hold ``scenario`` (instead of the env's), ``patient`` (a
    :class:`Patient` or its fields), ``ecg`` (an :class:`ECG` or the path of a WFDB record, which then starts the
    episode) and ``given`` (doses taken: ``Administration`` or ``{"dose": "dofetilide 0.5 mg PO", "hours": -2}``).
    """
    streams = row_streams(rngs, 1 if isinstance(rngs, np.random.Generator) else len(rngs))
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options are {options!r}; expected a dict or None; pass options={{'scenario': 'svt'}}")
    options = dict(options or {})
    if unknown := sorted(set(options) - set(OPTIONS), key=str):
        raise ValueError(f"options hold {unknown}; expected keys out of {OPTIONS}; check the spelling")
    if "scenario" in options:
        scenario = scenario_named(options["scenario"])
    each = [scenario] * len(streams) if isinstance(scenario, Scenario) else list(scenario)
    patient = _patient(options.get("patient"))
    if options.get("ecg") is not None:
        histories = [_administrations(options.get("given", one.doses), patient or Patient()) for one in each]
        ecg, patient = _record(options["ecg"], patient)
        states = {doses: world.observe(ecg, patient or Patient(), doses) for doses in dict.fromkeys(histories)}
        return concatenate([states[doses] for doses in histories]) if len(histories) > 1 else states[histories[0]]
    if not options and isinstance(world, DrawsTogether):
        return _drawn_together(world, each, tier, streams)
    people = [_person(one.draw(rng), patient, options, tier) for one, rng in zip(each, streams.at(SCENARIO))]
    return _initial(world, people, streams)


def draw_scenarios(scenarios: Sequence[Scenario], streams: Streams) -> np.ndarray:
    """Which of ``scenarios`` each row's episode is of ``(B,)`` int, by their weights; nothing is drawn for one."""
    if len(scenarios) == 1:
        return np.zeros(len(streams), int)
    here, u = streams.at(WHICH_SCENARIO), np.empty((len(streams), 1))
    fill_uniform(here.key, here.counter, u)
    upto = np.cumsum([scenario.weight for scenario in scenarios])
    return np.minimum(np.searchsorted(upto, u[:, 0] * upto[-1], side="right"), len(scenarios) - 1)


@dataclass(frozen=True)
class _Kinds:
    """The kinds of people of a scenario in a tier, the usual ones last."""

    upto: np.ndarray  # (K,) shares, added up
    patients: Patients  # (K,) what is told of them
    words: tuple[Mapping[str, Any], ...]  # (K,) of ``World.initial``
    ranges: np.ndarray  # (K, 7, 2) between which each number is drawn; NaN where it is not


_KNOWN: dict[tuple[int, int], tuple[Scenario, Tier | None, _Kinds]] = {}  # by identity: rows of tables


def _kinds(scenario: Scenario, tier: Tier | None) -> _Kinds:
    entry = _KNOWN.get((id(scenario), id(tier)))
    if entry is None or entry[0] is not scenario or entry[1] is not tier:
        entry = _KNOWN[id(scenario), id(tier)] = scenario, tier, _kinds_of(scenario, tier)
    return entry[2]


def _kinds_of(scenario: Scenario, tier: Tier | None) -> _Kinds:
    variants = [scenario.people.and_also(kind.people) for kind in scenario.kinds] + [scenario.people]
    patients, words, ranges = [], [], np.full((len(variants), len(NUMBERS), 2), np.nan)
    for k, people in enumerate(variants):
        for name, ends in people.ranges.items():
            ranges[k, NUMBERS.index(name)] = ends
        one = replace(scenario, people=replace(people, ranges={}), kinds=())
        patient, text = _person(one, None, {}, tier)
        patients.append(patient)
        words.append(text)
    upto = np.append(np.cumsum([kind.share for kind in scenario.kinds]), 1.0)
    return _Kinds(upto, Patients.of(patients), tuple(words), ranges)


def _drawn_together(world: Any, scenarios: Sequence[Scenario], tier: Tier | None, streams: Streams) -> State:
    """Those of a world that draws people of different kinds at once: who each is, and every number in its range."""
    here, u = streams.at(SCENARIO), np.empty((len(streams), 1 + len(NUMBERS)))
    fill_uniform(here.key, here.counter, u)
    different = {id(scenario): scenario for scenario in scenarios}
    kinds = {key: _kinds(scenario, tier) for key, scenario in different.items()}
    which, words = np.empty(len(streams), int), [word for each in kinds.values() for word in each.words]
    patients = Patients.join([each.patients for each in kinds.values()])
    ranges, first = np.concatenate([each.ranges for each in kinds.values()]), 0
    keys = np.array([id(scenario) for scenario in scenarios])
    for key, each in kinds.items():
        rows = np.flatnonzero(keys == key)
        place = np.searchsorted(each.upto, u[rows, 0], side="right")
        which[rows] = first + np.minimum(place, len(each.words) - 1)
        first += len(each.words)
    people, ends = patients.take(which), ranges[which]
    values = np.round(ends[..., 0] + (ends[..., 1] - ends[..., 0]) * u[:, 1:], 2)
    numbers = people.numbers.copy()
    numbers[:, : len(NUMBERS)] = np.where(np.isnan(values), numbers[:, : len(NUMBERS)], values)
    return world.begin(Patients(numbers, people.group), [words[k] for k in which], streams)


def _person(
    scenario: Scenario, patient: Patient | None, options: Mapping[str, Any], tier: Tier | None
) -> tuple[Patient, dict[str, Any]]:
    """One patient as far as the scenario and the options tell, and the other words for ``World.initial``."""
    inputs = patient or Patient()
    words = {**scenario.population, **(tier.population if tier is not None else {})}
    facts = {name: words.pop(name) for name in _FIELDS if name in words}
    facts = {name: value for name, value in facts.items() if getattr(inputs, name) is None}
    person = replace(inputs, **facts, conditions=inputs.conditions | scenario.conditions)
    if doses := _administrations(options.get("given", scenario.doses), person):
        words["doses"] = doses
    return person, words


def _initial(world: World, people: Sequence[tuple[Patient, dict[str, Any]]], streams: Streams) -> State:
    """Those people, drawn together where the same words hold for them."""
    groups: dict[str, list[int]] = {}
    for row, (_, words) in enumerate(people):
        groups.setdefault(repr(sorted(words.items())), []).append(row)
    parts = []
    for rows in groups.values():
        patients = [people[row][0] for row in rows]
        words = dict(people[rows[0]][1])
        if any(patient != Patient() for patient in patients):
            alike = all(patient == patients[0] for patient in patients)
            words["patient"] = patients[0] if alike else patients
        parts.append(world.initial(len(rows), streams.take(np.array(rows)), **words))
    order = np.argsort([row for rows in groups.values() for row in rows])
    return concatenate(parts)[order] if len(parts) > 1 else parts[0]


def _patient(inputs: Any) -> Patient | None:
    if inputs is None:
        return None
    if isinstance(inputs, Patient):
        inputs = {name: getattr(inputs, name) for name in _FIELDS}
    if not isinstance(inputs, Mapping):
        raise TypeError(f"patient is a {type(inputs).__name__}; expected a Patient or a dict; pass {{'age_years': 71}}")
    if unknown := sorted(set(inputs) - set(_FIELDS), key=str):
        raise ValueError(f"patient has {unknown}; expected fields out of {_FIELDS}; check the spelling")
    patient = Patient(**inputs)
    check_conditions(patient.conditions)
    ingredients(patient.medication)  # raises for a name that nobody knows
    return patient


def _record(ecg: Any, patient: Patient | None) -> tuple[ECG, Patient | None]:
    """The strip, and whom its header names if nobody else did."""
    if isinstance(ecg, ECG):
        return ecg, patient
    if not isinstance(ecg, str | Path):
        raise TypeError(f"ecg is a {type(ecg).__name__}; expected an ECG or the path of a record; use ECG(signal, hz)")
    from ecg_gym.datasets import read_record

    record = read_record(Path(ecg))
    return record.ecg, patient if patient is not None else record.patient


def _administrations(value: Sequence[Any], patient: Patient) -> tuple[Administration, ...]:
    """Doses already taken, in the formulary's own spelling."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"given is {value!r}; expected a list; pass [{{'dose': 'dofetilide 0.5 mg PO', 'hours': -2}}]")
    doses = []
    for entry in value:
        if isinstance(entry, Mapping) and set(entry) == {"dose", "hours"}:
            entry = Administration(_hours(entry["hours"]), parse_dose(entry["dose"]))
        if not isinstance(entry, Administration):
            raise ValueError(
                f"given holds {entry!r}; expected an Administration or a dict with 'dose' and 'hours'; "
                "write {'dose': 'dofetilide 0.5 mg PO', 'hours': -2}"
            )
        if entry.hours > 0:
            raise ValueError(
                f"{entry.dose} was given at {entry.hours:g} h; expected hours <= 0; the episode starts at 0"
            )
        doses.append(replace(entry, dose=FORMULARY.check(entry.dose, patient)))
    return tuple(sorted(doses))


def _hours(value: Any) -> float:
    try:
        hours = float(value)
    except (TypeError, ValueError):
        hours = np.nan
    if not np.isfinite(hours):
        raise ValueError(f"a dose was given at {value!r} h; expected a number of hours <= 0; write 'hours': -2")
    return hours
