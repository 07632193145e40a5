"""Who takes part: ``Population`` as the protocol describes it, and the hearts drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ecg_gym.clinical_trial.yaml_path import YamlPath
from ecg_gym.core import Patient
from ecg_gym.pharmacology import CONDITIONS
from ecg_gym.virtual_patient import Heart, draw_heart
from ecg_gym.virtual_patient.population import kinds, population
from ecg_gym.virtual_patient.rhythm_table import rhythms

FACTS = {  # what may be said of the people, and the limits of what is believed
    "age_years": (18.0, 100.0),
    "weight_kg": (30.0, 250.0),
    "height_cm": (120.0, 230.0),
    "potassium": (2.0, 8.0),
    "magnesium": (0.2, 3.0),
    "calcium": (1.0, 4.0),
    "creatinine_clearance": (3.0, 200.0),
}
HEART = {  # what may be said of their hearts at rest
    "rate_bpm": (25.0, 250.0),  # in the rhythm they come with
    "sinus_rate_bpm": (30.0, 150.0),
    "pr_ms": (90.0, 380.0),
    "qrs_ms": (60.0, 200.0),
    "qtcf_ms": (320.0, 560.0),
    "tpeak_tend_ms": (45.0, 150.0),
}


@dataclass(frozen=True)
class Spread:
    """How one quantity differs between people: uniform from low to high, or normal within them; by sex if need be."""

    low: Mapping[str, float]
    high: Mapping[str, float]
    mean: Mapping[str, float] | None = None  # None: uniform
    sd: float = 0.0

    def draw(self, rng: np.random.Generator, sex: str) -> float:
        """One value; always two draws, so that the kind of distribution moves nothing that follows."""
        uniform, score = rng.random(), rng.standard_normal()
        low, high = self.low[sex], self.high[sex]
        value = low + uniform * (high - low) if self.mean is None else self.mean[sex] + self.sd * score
        return float(np.clip(value, low, high))


@dataclass(frozen=True)
class Population:
    """The people of a trial. What the protocol does not say is drawn from ``population.yaml``."""

    female: float = 0.5  # share; of n people round(n x share) are women
    facts: Mapping[str, Spread] = field(default_factory=dict)  # keys of FACTS
    heart: Mapping[str, Spread] = field(default_factory=dict)  # keys of HEART
    conditions: frozenset[str] = frozenset()
    poor_metaboliser: float | None = None  # share of CYP2D6 poor metabolisers; None: as in sensitivity.yaml
    rhythm: str = "sinus"
    conduction: str | None = None  # None: normal in the healthy, drawn in others
    scar: str | None = None  # the same
    healthy: bool = True


def parse_population(place: YamlPath) -> Population:
    """The population of a protocol; ValueError names the place."""
    place.mapping(
        {"female", "conditions", "poor_metaboliser_cyp2d6", "rhythm", "conduction", "scar", "healthy", "heart", *FACTS}
    )
    value = place.value
    conditions = value.get("conditions") or []
    if not isinstance(conditions, list) or (unknown := [c for c in conditions if c not in CONDITIONS]):
        rows = place.at("conditions").text if not isinstance(conditions, list) else repr(unknown)
        raise place.at("conditions").error(
            rows, f"a list of names out of {', '.join(CONDITIONS)}", "check the spelling"
        )
    heart = place.at("heart").mapping(set(HEART)) if "heart" in value else YamlPath("", {})
    share = "poor_metaboliser_cyp2d6"
    return Population(
        female=place.at("female").number(0, 1) if "female" in value else 0.5,
        facts={name: parse_spread(place.at(name), *limits) for name, limits in FACTS.items() if name in value},
        heart={name: parse_spread(heart.at(name), *limits) for name, limits in HEART.items() if name in heart.value},
        conditions=frozenset(conditions),
        poor_metaboliser=place.at(share).number(0, 1) if share in value else None,
        rhythm=place.choice("rhythm", tuple(rhythms()), "sinus"),
        conduction=_kind(place, "conduction"),
        scar=_kind(place, "scar"),
        healthy=place.at("healthy").flag() if "healthy" in value else True,
    )


def _kind(place: YamlPath, name: str) -> str | None:
    names = kinds(population()["disease"][name])
    kind = place.choice(name, names, "")
    return {"": None, "none": ""}.get(kind, kind)


def parse_spread(place: YamlPath, low: float, high: float) -> Spread:
    """A number; ``[low, high]`` for uniform; or ``{mean, sd, low, high}``, each number also as ``{F: ..., M: ...}``."""
    if isinstance(place.value, list):
        if len(place.value) != 2:
            raise place.error(place.text, "two numbers [low, high]", "write [18, 35]")
        ends = [place.at(i).number(low, high) for i in (0, 1)]
        if ends[0] > ends[1]:
            raise place.error(place.text, "[low, high] in that order", "swap them")
        return Spread({"F": ends[0], "M": ends[0]}, {"F": ends[1], "M": ends[1]})
    if isinstance(place.value, Mapping):
        if set(place.value) == {"F", "M"}:
            value_of = _by_sex(place, low, high)
            return Spread(value_of, value_of)
        place.mapping({"mean", "sd", "low", "high", "unit", "source", "confidence"}, required=("mean", "sd"))
        limits = [
            _by_sex(place.at(key), low, high) if key in place.value else {"F": end, "M": end}
            for key, end in (("low", low), ("high", high))
        ]
        return Spread(limits[0], limits[1], _by_sex(place.at("mean"), low, high), place.at("sd").number(0, high))
    value = place.number(low, high)
    return Spread({"F": value, "M": value}, {"F": value, "M": value})


def _by_sex(place: YamlPath, low: float, high: float) -> dict[str, float]:
    if isinstance(place.value, Mapping):
        place.mapping({"F", "M"}, required=("F", "M"))
        return {sex: place.at(sex).number(low, high) for sex in ("F", "M")}
    value = place.number(low, high)
    return {"F": value, "M": value}


def draw_person(people: Population, sex: str, rng: np.random.Generator, facts: Patient | None = None) -> Heart:
    """One person's heart: ``facts`` if there are any, what the protocol says, the rest from ``population.yaml``."""
    value: dict[str, Any] = {
        name: round(spread.draw(rng, sex), 0 if name == "age_years" else 2) for name, spread in people.facts.items()
    }
    poor = rng.random()
    conditions = people.conditions
    if people.poor_metaboliser is not None and poor < people.poor_metaboliser:
        conditions = conditions | {"poor_metaboliser_cyp2d6"}
    patient = Patient(sex=sex, conditions=conditions, **value)
    if facts is not None:
        values = {name: getattr(facts, name) for name in ("sex", *FACTS) if getattr(facts, name) is not None}
        patient = replace(patient, **values)
        sex = patient.sex or sex
    heart = draw_heart(
        rng, patient, rhythm=people.rhythm, conduction=people.conduction, scar=people.scar, healthy=people.healthy
    )
    own: dict[str, Any] = {name: spread.draw(rng, sex) for name, spread in people.heart.items()}
    if people.poor_metaboliser is not None:
        poor_one = float("poor_metaboliser_cyp2d6" in conditions)
        heart = replace(heart, sensitivity=replace(heart.sensitivity, poor_metaboliser=poor_one))
    if heart.rhythm == "sinus" and (rate := own.get("rate_bpm", own.get("sinus_rate_bpm"))):
        own |= {"rate_bpm": rate, "sinus_rate_bpm": rate}
    return replace(heart, **own)


def move(heart: Heart, part: str, rng: np.random.Generator) -> Heart:
    """The heart as it is on another day (``visit``), at another hour (``hour``) or a minute later (``replicate``).

    Rows of ``population.yaml``: SDs of the rate (a share), PR, QRS, J-Tpeak and Tpeak-Tend [ms], and of the share of a
    drug's prolongation that lies behind the peak of T. A ``visit`` or an
    ``hour`` moves QTcF by the sum of the last three; within minutes QTcF stays and J moves against QRS.
    """
    by = {name: row["sd"] * rng.standard_normal() for name, row in population()[part].items()}
    rate = 1 + by.get("rate", 0.0)
    qrs, tpeak_tend = by.get("qrs_ms", 0.0), by.get("tpeak_tend_ms", 0.0)
    longer = 0.0 if part == "replicate" else by.get("jtpeak_ms", 0.0) + qrs + tpeak_tend
    sensitivity = replace(heart.sensitivity, notch=heart.sensitivity.notch + by.get("notch", 0.0))
    return replace(
        heart,
        sensitivity=sensitivity,
        rate_bpm=heart.rate_bpm * rate,
        sinus_rate_bpm=heart.sinus_rate_bpm * rate,
        pr_ms=max(heart.pr_ms + by.get("pr_ms", 0.0), HEART["pr_ms"][0]),
        qrs_ms=heart.qrs_ms + qrs,
        qtcf_ms=heart.qtcf_ms + longer,
        tpeak_tend_ms=heart.tpeak_tend_ms + tpeak_tend,
    )
