"""``GuidelinePlanner``: what a sensible resident would give by the book; the anchor that planners have to beat.

A table of situations (``guidelines.yaml``) is asked about what may be seen and is known: readings and findings of the
newest strip, the patient's own record, and the doses taken. Nothing is imagined, and the world's state is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, Administration, Dose, Patient, State, Treatment, parse_dose
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.risk.aggregate import LIKELY
from ecg_gym.yaml_files import read_yaml
from planners.base import PlanInfo, Planner, allowed_treatments

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv
    from ecg_gym.envs.episode import Episode

TABLE = Path(__file__).with_name("guidelines.yaml")
DAY_HOURS = 24.0
_LEAVES = {"interval", "patient", "condition", "finding", "taken"}
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Bedside:
    """All that a resident at the bedside has: a strip, a record, a chart of doses."""

    readings: Mapping[str, float]  # intervals [ms, 1/min] and finding_*; NaN where it could not be read
    patient: Patient
    history: tuple[Administration, ...]
    hours: float  # [h] now, on the patient's clock

    @classmethod
    def of(cls, episode: Episode, row: int = 0) -> Bedside:
        """What is seen in one row of an episode; of its state the chart of doses and the clock alone."""
        readings = {name: float(values[row]) for name, values in episode.now.items()}
        state = episode.state
        return cls(readings, episode.patients[row], state.doses[row], float(state.hours[row]))

    def doses(self, drug: str, within: float) -> list[Administration]:
        """The doses of a drug in the last so many hours."""
        return [a for a in self.history if a.dose.drug == drug and 0 <= self.hours - a.hours <= within]


@dataclass(frozen=True)
class Line:
    """One treatment of a situation, and how often it may be tried."""

    dose: Dose
    times: int  # in 24 h, of this drug
    every_hours: float
    when: Mapping[str, Any] | None


@dataclass(frozen=True)
class Situation:
    """One row of ``guidelines.yaml``."""

    name: str
    when: Mapping[str, Any]
    lines: tuple[Line, ...]
    source: str  # citation in full


class GuidelinePlanner(Planner):
    """Gives what the book says for what is seen, as far as the mask allows, and watches where it says no more."""

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The first line of the first situation that holds. Reads the env's episode as it was seen, not ``state``."""
        treatment, _ = decide(Bedside.of(env.episode), allowed_treatments(env))
        return PlanInfo(treatment)


def decide(view: Bedside, options: Sequence[Treatment]) -> tuple[Treatment, Situation | None]:
    """The treatment out of the allowed ``options``, and the situation that called for it (None: none holds)."""
    situation = next((s for s in situations() if holds(s.when, view)), None)
    if situation is None:
        return WATCH, None
    return next((treatment for treatment in _lines(situation, view, options)), WATCH), situation


def suggestions(view: Bedside, options: Sequence[Treatment]) -> list[tuple[Treatment, Situation]]:
    """Every treatment out of ``options`` that a situation calls for, in the order of the table, with the situation."""
    return [
        (treatment, situation)
        for situation in situations()
        if holds(situation.when, view)
        for treatment in _lines(situation, view, options)
    ]


def _lines(situation: Situation, view: Bedside, options: Sequence[Treatment]) -> Iterator[Treatment]:
    """What is left of a situation's lines."""
    for line in situation.lines:
        treatment = _nearest(line.dose, options)
        if treatment and _remains(line, view) and (line.when is None or holds(line.when, view)):
            yield treatment


def holds(node: Mapping[str, Any], view: Bedside) -> bool:
    """Whether a condition of the table is true of what is seen; what is unknown never holds."""
    if "all" in node:
        return all(holds(child, view) for child in node["all"])
    if "any" in node:
        return any(holds(child, view) for child in node["any"])
    if "not" in node:
        return not holds(node["not"], view)
    if "interval" in node:
        return _beyond(view.readings.get(node["interval"]), node)
    if "patient" in node:
        return _beyond(getattr(view.patient, node["patient"]), node)
    if "condition" in node:
        return node["condition"] in view.patient.conditions
    if "finding" in node:
        return view.readings.get(finding_column(node["finding"]), np.nan) >= LIKELY
    return len(view.doses(node["taken"], float(node["within"]))) >= int(node.get("count", 1))


def _beyond(value: float | None, node: Mapping[str, Any]) -> bool:
    if value is None:
        return False
    return bool(value > node.get("above", np.inf) or value < node.get("below", -np.inf))


def _remains(line: Line, view: Bedside) -> bool:
    """Whether the drug was not given too often or just before."""
    today = view.doses(line.dose.drug, DAY_HOURS)
    recent = any(view.hours - a.hours < line.every_hours - _ROUNDING for a in today)
    return len(today) < line.times and not recent


def _nearest(dose: Dose, options: Sequence[Treatment]) -> Treatment | None:
    """The option of the same drug, route and unit whose amount is nearest; None where there is none."""
    alike = [
        option
        for option in options
        if len(option.doses) == 1
        and (option.doses[0].drug, option.doses[0].route, option.doses[0].unit) == (dose.drug, dose.route, dose.unit)
    ]
    return min(alike, key=lambda option: abs(option.doses[0].amount - dose.amount), default=None)


@lru_cache(maxsize=1)
def situations() -> tuple[Situation, ...]:
    """The shipped table, checked: known drugs, doses, findings, conditions, intervals and citations."""
    table = read_yaml(TABLE)
    return tuple(parse(row, table["citations"]) for row in table["situations"])


def parse(row: Mapping[str, Any], citations: Mapping[str, str]) -> Situation:
    """A row as a Situation; ValueError for a word that nobody understands."""
    name = str(row.get("name", row))
    _expect(f"situation {name}", row, {"name", "when", "lines", "source"}, set())
    if row["source"] not in citations:
        raise ValueError(f"situation {name} cites {row['source']!r}; expected a key of citations; add the citation")
    _check(row["when"], name)
    return Situation(name, row["when"], tuple(_line(line, name) for line in row["lines"]), citations[row["source"]])


def _line(row: Mapping[str, Any], name: str) -> Line:
    _expect(f"a line of {name}", row, {"give", "times"}, {"every", "when"})
    if row.get("when") is not None:
        _check(row["when"], name)
    dose = FORMULARY.check(parse_dose(row["give"]), Patient())
    return Line(dose, int(row["times"]), float(row.get("every", 0.0)), row.get("when"))


def _check(node: Mapping[str, Any], name: str) -> None:
    """Raises ValueError where a condition has a word that nobody reads."""
    from ecg_gym.envs.observations import MEASURED
    from ecg_gym.risk import FINDINGS

    for group in ("all", "any"):
        if group in node:
            for child in node[group]:
                _check(child, name)
            return
    if "not" in node:
        return _check(node["not"], name)
    names = {
        "interval": {*(f.name for f in MEASURED), "map_mmhg"},
        "patient": {f.name for f in fields(Patient)},
        "condition": set(CONDITIONS),
        "finding": set(FINDINGS),
        "taken": set(FORMULARY),
    }
    leaf = next(iter(_LEAVES & set(node)), None)
    if leaf is None or node[leaf] not in names[leaf]:
        raise ValueError(
            f"situation {name} asks for {dict(node)}; expected all, any, not or one of {sorted(_LEAVES)} with a known "
            "name; check the spelling"
        )


def _expect(what: str, row: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    if not required <= set(row) <= required | optional:
        raise ValueError(
            f"{what} has the keys {sorted(row)}; expected {sorted(required)} and perhaps {sorted(optional)}; "
            "check the spelling"
        )


def finding_column(finding: str) -> str:
    """The name of a finding among the readings of a strip."""
    return "finding_" + finding.lower().replace(" ", "_").replace("-", "_")
