"""Who a hospital's patients are at the hour of a first dose: age, sex, body, electrolytes, kidneys, conditions.

What was measured too long ago is unknown, and what was not measured is unknown; nothing is filled in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ecg_gym.plausibility import bounds
from ecg_gym.real_trials.mimic_doses import HospitalDose
from ecg_gym.real_trials.mimic_tables import Hospital, Rule, hours_of, number_of, year_of

CENTIMETRES, KILOGRAMS = 2.54, 0.45359237  # of an inch, of a pound
Facts = dict[tuple[str, float], dict[str, Any]]


def facts_of(hospital: Hospital, rule: Rule, doses: Sequence[HospitalDose]) -> Facts:
    """Columns of ``pairs.csv`` about each person at each of these doses, by subject and hour."""
    moments: dict[str, list[float]] = defaultdict(list)
    for dose in doses:
        moments[dose.subject].append(dose.hours)
    facts: Facts = {(s, t): {} for s, times in moments.items() for t in times}
    for cells in hospital.rows("hosp/patients"):
        for time in moments.get(cells["subject_id"], ()):
            age = int(cells["anchor_age"]) + year_of(time) - int(cells["anchor_year"])
            facts[cells["subject_id"], time] |= {"sex": cells["gender"], "age_years": age}
    _bodies(hospital, moments, facts)
    _laboratory(hospital, rule, moments, facts)
    _conditions(hospital, rule, moments, facts)
    for own in facts.values():
        _clearance(own, rule)
        for name, (low, high, _) in bounds().items():
            if name in own and not low <= own[name] <= high:
                del own[name]
    return facts


def _bodies(hospital: Hospital, moments: Mapping[str, Sequence[float]], facts: Facts) -> None:
    """Weight and height, the last measured before."""
    factors = {"Weight (Lbs)": ("weight_kg", KILOGRAMS), "Height (Inches)": ("height_cm", CENTIMETRES)}
    last: dict[tuple[str, float, str], float] = {}
    for cells in hospital.rows("hosp/omr", required=False):
        if cells["subject_id"] not in moments or cells["result_name"] not in factors:
            continue
        name, factor = factors[cells["result_name"]]
        value, when = number_of(cells["result_value"]), hours_of(cells["chartdate"])
        for time in moments[cells["subject_id"]]:
            key = (cells["subject_id"], time, name)
            if value is not None and when is not None and last.get(key, float("-inf")) <= when <= time:
                last[key] = when
                facts[cells["subject_id"], time][name] = round(value * factor, 1)


def _laboratory(hospital: Hospital, rule: Rule, moments: Mapping[str, Sequence[float]], facts: Facts) -> None:
    """Electrolytes [mmol/L] and creatinine [mg/dL], the last within the window before."""
    items = {str(item): (name, row["factor"]) for name, row in rule["labs"].items() for item in row["items"]}
    last: dict[tuple[str, float, str], float] = {}
    for cells in hospital.rows("hosp/labevents", required=False):
        if cells["itemid"] not in items or cells["subject_id"] not in moments:
            continue
        name, factor = items[cells["itemid"]]
        value, when = number_of(cells["valuenum"]), hours_of(cells["charttime"])
        for time in moments[cells["subject_id"]]:
            key = (cells["subject_id"], time, name)
            oldest = max(last.get(key, float("-inf")), time - rule["windows"]["labs"])
            if value is not None and when is not None and oldest <= when <= time:
                last[key] = when
                facts[cells["subject_id"], time][name] = round(value * factor, 3)


def _conditions(hospital: Hospital, rule: Rule, moments: Mapping[str, Sequence[float]], facts: Facts) -> None:
    """Conditions by the ICD codes of admissions that ended before, and of this one where the rule says so."""
    spans = {
        cells["hadm_id"]: (hours_of(cells["admittime"]), hours_of(cells["dischtime"]))
        for cells in hospital.rows("hosp/admissions", required=False)
        if cells["subject_id"] in moments
    }
    names_by_moment: dict[tuple[str, float], set[str]] = defaultdict(set)
    for cells in hospital.rows("hosp/diagnoses_icd", required=False):
        admitted, discharged = spans.get(cells["hadm_id"], (None, None))
        names = [
            name for name, codes in rule["conditions"].items()
            if cells["icd_code"].strip().startswith(tuple(codes.get(int(cells["icd_version"]), ("?",))))
        ]  # fmt: skip
        for time in moments.get(cells["subject_id"], ()) if names and discharged is not None else ():
            own = rule["icd"] == "own" and admitted is not None and admitted <= time
            if discharged is not None and (discharged <= time or own):
                names_by_moment[cells["subject_id"], time] |= set(names)
    for key, names_of in names_by_moment.items():
        facts[key]["conditions"] = "; ".join(sorted(names_of))


def _clearance(own: dict[str, Any], rule: Rule) -> None:
    """Creatinine clearance [mL/min] by Cockcroft and Gault, where weight and creatinine are known."""
    creatinine = own.pop("creatinine", None)
    if creatinine and "weight_kg" in own and "age_years" in own:
        factor = rule["cockcroft_gault"]["female"] if own.get("sex") == "F" else 1.0
        own["creatinine_clearance"] = round((140 - own["age_years"]) * own["weight_kg"] * factor / (72 * creatinine), 1)
