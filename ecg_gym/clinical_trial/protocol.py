"""``Protocol``: who takes what and when, and when ECGs are taken; parsed from YAML, every mistake named with its place.

The form of the file is shown by ``protocols/ecgrdvq.yaml``; ``docs`` are its comments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ecg_gym.clinical_trial.endpoints import ENDPOINTS
from ecg_gym.clinical_trial.population import Population, parse_population
from ecg_gym.clinical_trial.yaml_path import YamlPath
from ecg_gym.core import Administration, Dose, Patient
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.pharmacology.constants import CONFIDENCE
from ecg_gym.pharmacology.doses import amount_in, milligrams

SHIPPED = Path(__file__).with_name("protocols")
ALIASES = {"scr002": "ecgrdvq", "ecgdmmld": "scr003", "ecgcipa": "scr004"}  # study and release are names of one trial
DESIGNS = ("crossover", "parallel")
SEQUENCES = ("williams", "latin", "random")
CONCENTRATION_UNITS = {"pg/mL": 1e3, "ng/mL": 1.0, "ug/mL": 1e-3, "mg/L": 1e-3}  # factor on ng/mL
_FORMED = Patient(weight_kg=70.0)  # doses are checked for form in this person; mg/kg stay mg/kg


@dataclass(frozen=True)
class ArmDose:
    """One dose of an arm."""

    written: Dose  # as the protocol writes it, for the table
    dose: Dose  # as the formulary writes it
    hours: float  # [h] after the arm's zero
    confidence: str = ""  # H, M or L where the protocol says how sure this dose is


@dataclass(frozen=True)
class Arm:
    """What one group of people, or everybody in one period, takes. No doses at all is placebo."""

    name: str
    code: str  # one letter of ARMCD
    label: str  # EXTRT
    doses: tuple[ArmDose, ...] = ()

    @property
    def drugs(self) -> tuple[str, ...]:
        """Drugs of the arm in the order they are first given."""
        return tuple(dict.fromkeys(g.dose.drug for g in sorted(self.doses, key=lambda g: g.hours)))

    @property
    def administrations(self) -> tuple[Administration, ...]:
        """The doses as ``pharmacology`` wants them, in order of time."""
        return tuple(sorted(Administration(g.hours, g.dose) for g in self.doses))


@dataclass(frozen=True)
class Protocol:
    """One trial, checked."""

    name: str
    title: str
    design: str  # crossover or parallel
    subjects: int
    arms: tuple[Arm, ...]
    placebo: str  # name of the arm the others are compared with; "" if there is none
    baseline_hours: tuple[float, ...]  # [h] of the ECGs before the dose
    hours: tuple[float, ...]  # [h] of the ECGs after it
    replicates: int
    population: Population = field(default_factory=Population)
    sequences: str | tuple[tuple[str, ...], ...] = "williams"  # of a crossover; or explicit ones, by arm name
    endpoints: tuple[str, ...] = tuple(ENDPOINTS)
    units: Mapping[str, str] = field(default_factory=dict)  # drug -> unit of its concentration column
    remarks: tuple[str, ...] = ()  # what a reader of the results should know

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def drugs(self) -> tuple[str, ...]:
        """Every drug of every arm, in order of appearance."""
        return tuple(dict.fromkeys(drug for arm in self.arms for drug in arm.drugs))

    @property
    def all_hours(self) -> tuple[float, ...]:
        """Baseline and later hours, in order."""
        return (*self.baseline_hours, *self.hours)


def shipped_protocols() -> dict[str, Path]:
    """The protocols in the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_protocol(name: str | Path) -> Protocol:
    """The protocol of that name in the package, or in that YAML file; ValueError if neither is there or it is wrong.

    Names of ALIASES are understood too.
    """
    path = shipped_protocols().get(ALIASES.get(str(name), str(name)), Path(name))
    if not path.is_file():
        raise ValueError(
            f"protocol is {str(name)!r}; expected a YAML file or one of {', '.join(shipped_protocols())}; "
            "check the path"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({reason}); expected YAML; mend the file") from error
    return parse_protocol(data, path.name)


def parse_protocol(data: Any, file: str = "protocol") -> Protocol:
    """A protocol out of a parsed YAML document. Every ValueError names the place in the file."""
    top = YamlPath(file, data).mapping(
        {"name", "title", "source", "confidence", "subjects", "design", "sequences", "placebo", "arms", "ecg",
         "population", "endpoints", "concentration_units", "remarks"}
    )  # fmt: skip
    design = top.choice("design", DESIGNS, "crossover")
    arms, remarks = _arms(top.at("arms"))
    baseline, hours, replicates = _ecg(top.at("ecg"))
    placebo = _placebo(top, arms)
    if design == "parallel" and "sequences" in top.value:
        raise top.at("sequences").error("sequences in a parallel design", "them in a crossover only", "leave them out")
    sequences = _sequences(top.at("sequences"), arms) if "sequences" in top.value else "williams"
    fixed = remarks + tuple(str(r) for r in top.value.get("remarks") or ())
    return Protocol(
        name=str(top.value.get("name", Path(file).stem)),
        title=str(top.value.get("title", "")),
        design=design,
        subjects=top.at("subjects").whole(1, 100_000) if "subjects" in top.value else 20,
        arms=arms,
        placebo=placebo,
        baseline_hours=baseline,
        hours=hours,
        replicates=replicates,
        population=parse_population(top.at("population")) if "population" in top.value else Population(),
        sequences=sequences,
        endpoints=_endpoints(top.at("endpoints")) if "endpoints" in top.value else tuple(ENDPOINTS),
        units=_units(top.at("concentration_units"), arms) if "concentration_units" in top.value else {},
        remarks=fixed,
    )


def _arms(place: YamlPath) -> tuple[tuple[Arm, ...], tuple[str, ...]]:
    if not isinstance(place.value, Mapping) or not place.value:
        raise place.error(
            place.text, "arms by name, each a list of doses", "write for example {placebo: [], active: [...]}"
        )
    arms, remarks = [], []
    for number, name in enumerate(place.value):
        arm, warnings = _arm(place.at(name), str(name), _code(number))
        arms.append(arm)
        remarks += warnings
    codes = [arm.code for arm in arms]
    if len(set(codes)) < len(codes):
        raise place.error(f"codes {codes}", "a code of its own for each arm", "rename one")
    return tuple(arms), tuple(dict.fromkeys(remarks))


def _code(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _arm(place: YamlPath, name: str, code: str) -> tuple[Arm, list[str]]:
    doses, label = place, ""
    if isinstance(place.value, Mapping):
        place.mapping({"code", "label", "doses"})
        code, label = str(place.value.get("code", code)), str(place.value.get("label", ""))
        doses = place.at("doses") if "doses" in place.value else YamlPath(place.path, [])
    if doses.value is None:
        doses = YamlPath(doses.path, [])
    if not isinstance(doses.value, list):
        raise doses.error(doses.text, "a list of doses, empty for placebo", "write each dose as '- {drug: ...}'")
    if not re.fullmatch(r"[A-Za-z0-9]+", code):
        raise place.error(f"code {code!r}", "letters and digits", "write one letter, such as A")
    arm_doses, remarks, last = [], [], float("-inf")
    for i in range(len(doses.value)):
        dose, warnings = _read_given(doses.at(i))
        if dose.hours < last:
            raise doses.at(i).error(
                f"time_h {dose.hours:g} after {last:g}", "doses in order of time", "move it up, or correct the hour"
            )
        last = dose.hours
        arm_doses.append(dose)
        remarks += warnings
    usual = " + ".join(dict.fromkeys(g.dose.drug for g in arm_doses)) or "Placebo"
    return Arm(name, code, label or usual[:1].upper() + usual[1:], tuple(arm_doses)), remarks


def _read_given(place: YamlPath) -> tuple[ArmDose, list[str]]:
    place.mapping({"drug", "dose", "unit", "route", "time_h", "infusion_h", "confidence"}, required=("drug", "dose"))
    drug = str(place.value["drug"]).strip().lower().replace(" ", "_").replace("-", "_")
    if drug not in FORMULARY:
        raise place.at("drug").error(repr(place.value["drug"]), f"one of {', '.join(FORMULARY)}", "check the spelling")
    routes = FORMULARY[drug].routes
    route = str(place.value.get("route", next(iter(routes)))).upper()
    if route not in routes:
        raise place.at("route").error(repr(place.value["route"]), f"{' or '.join(routes)} for {drug}", "choose one")
    written = Dose(
        drug,
        place.at("dose").number(0, 1e9),
        str(place.value.get("unit", routes[route].unit)).replace("µ", "u").strip(),
        route,
        place.at("infusion_h").number(0, 168) if "infusion_h" in place.value else 0.0,
    )
    try:
        dose, most = _normalised(written), routes[route].form(written.unit)
        too_much = milligrams(dose, FORMULARY[drug], _FORMED) > (1 + 1e-9) * milligrams(
            replace(dose, amount=most.max_single, unit=most.unit), FORMULARY[drug], _FORMED
        )
    except ValueError as error:
        raise ValueError(f"{place.path}: {error}") from error
    warning = f"{place.path}: {written} is above the formulary's largest single dose, {most.max_single:g} {most.unit}"
    hours = place.at("time_h").number(-168, 10_000) if "time_h" in place.value else 0.0
    confidence = place.choice("confidence", CONFIDENCE, "")
    return ArmDose(written, dose, hours, confidence), [warning] if too_much else []


def _normalised(written: Dose) -> Dose:
    """The dose in the formulary's spelling. Unlike in care, a trial may exceed the largest single dose."""
    drug = FORMULARY[written.drug]
    form = FORMULARY.check(replace(written, amount=0.0), _FORMED)
    dose = replace(written, duration_hours=form.duration_hours)
    milligrams(dose, drug, _FORMED)
    if form.unit == written.unit:
        return dose
    return replace(dose, unit=form.unit, amount=amount_in(form.unit, dose, drug, _FORMED))


def _ecg(place: YamlPath) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    place.mapping({"baseline_h", "hours", "replicates"}, required=("hours",))
    hours = _times(place.at("hours"))
    baseline = _times(place.at("baseline_h")) if "baseline_h" in place.value else (-0.5,)
    if not baseline or not hours or baseline[-1] >= hours[0]:
        raise place.error(
            f"baseline {list(baseline)}, hours {list(hours)}", "at least one of each, all baselines first",
            "correct baseline_h or hours",
        )  # fmt: skip
    return baseline, hours, place.at("replicates").whole(1, 100) if "replicates" in place.value else 3


def _times(place: YamlPath) -> tuple[float, ...]:
    values = place.value if isinstance(place.value, list) else [place.value]
    times = tuple(YamlPath(f"{place.path}[{i}]", value).number(-168, 10_000) for i, value in enumerate(values))
    for i, (before, after) in enumerate(pairwise(times), 1):
        if after <= before:
            raise YamlPath(f"{place.path}[{i}]", after).error(
                f"{after:g} after {before:g}", "hours in order, each once", "sort them"
            )
    return times


def _placebo(top: YamlPath, arms: Sequence[Arm]) -> str:
    if "placebo" in top.value:
        name = str(top.value["placebo"])
        if name not in [arm.name for arm in arms]:
            raise top.at("placebo").error(repr(name), f"one of the arms {[a.name for a in arms]}", "name one of them")
        return name
    return next((arm.name for arm in arms if not arm.doses), "")


def _sequences(place: YamlPath, arms: Sequence[Arm]) -> str | tuple[tuple[str, ...], ...]:
    if isinstance(place.value, str):
        return YamlPath(place.path, {"sequences": place.value}).choice("sequences", SEQUENCES, "williams")
    names = {key: arm.name for arm in arms for key in (arm.name, arm.code)}
    targets = place.value if isinstance(place.value, list) and place.value else [None]
    sequences = []
    for i, row in enumerate(targets):
        if not isinstance(row, list) or not row or any(str(key) not in names for key in row):
            raise YamlPath(f"{place.path}[{i}]", row).error(
                repr(row), f"a list of arm names or codes, or one of {', '.join(SEQUENCES)} instead of lists",
                f"use {sorted(names)}",
            )  # fmt: skip
        order = tuple(names[str(key)] for key in row)
        if len(set(order)) < len(order):
            raise YamlPath(f"{place.path}[{i}]", row).error(
                repr(row), "each arm at most once", "take the second one out"
            )
        sequences.append(order)
    return tuple(sequences)


def _endpoints(place: YamlPath) -> tuple[str, ...]:
    targets = place.value if isinstance(place.value, list) else [place.value]
    unknown = [name for name in targets if name not in ENDPOINTS]
    if unknown or not targets:
        raise place.error(repr(unknown), f"names out of {', '.join(ENDPOINTS)}", "check the spelling")
    return tuple(targets)


def _units(place: YamlPath, arms: Sequence[Arm]) -> dict[str, str]:
    drugs = {drug for arm in arms for drug in arm.drugs}
    place.mapping(drugs)
    return {drug: place.choice(drug, tuple(CONCENTRATION_UNITS), "ng/mL") for drug in place.value}
