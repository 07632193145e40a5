"""What was given in a hospital: rows of eMAR, infusions and prescriptions as doses of the formulary, or why not."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ecg_gym.core import Dose, Patient
from ecg_gym.real_trials.mimic_tables import Hospital, Rule, hours_of, number_of
from ecg_gym.real_trials.timed_doses import real_dose


@dataclass(frozen=True, order=True)
class HospitalDose:
    """One administration to one person; ``hours`` since 1970."""

    hours: float
    subject: str
    admission: str
    drug: str  # of the formulary, or "" for saline
    route: str
    dose: Dose | None  # None for saline
    control: bool
    source: str  # "emar", "infusion" or "prescription"


def drug_named(name: str, rule: Rule) -> tuple[str, bool] | None:
    """The formulary drug that a name means, and whether it is a negative control; None for others and other forms."""
    plain = " ".join(name.lower().split())
    controls = [row for row in rule["controls"] if re.search(row["match"], plain)]
    if any(re.search(pattern, plain) for pattern in rule["exclude"]):
        return None
    for row in rule["drugs"]:
        if re.search(row["match"], plain):
            return str(row["drug"]), False
    return (str(controls[0]["drug"]), True) if controls else None


def administrations(hospital: Hospital, rule: Rule, subjects: set[str]) -> tuple[list[HospitalDose], Counter[str]]:
    """Every dose of these people that could be understood, in time, and how many could not by reason."""
    losses: Counter[str] = Counter()
    doses = [*_emar(hospital, rule, subjects, losses), *_infusions(hospital, rule, subjects, losses)]
    if rule["fallback"]:
        recorded = {dose.admission for dose in doses}
        doses += [g for g in _prescriptions(hospital, rule, subjects, losses) if g.admission not in recorded]
    return sorted(doses, key=lambda dose: (dose.subject, dose.hours)), losses


def _emar(hospital: Hospital, rule: Rule, subjects: set[str], losses: Counter[str]) -> list[HospitalDose]:
    events = {event.lower() for event in rule["events"]}
    events_of_interest: dict[str, tuple[dict[str, str], str, bool]] = {}
    for cells in hospital.rows("hosp/emar", required=False):
        if cells["subject_id"] not in subjects or (match := drug_named(cells["medication"] or "", rule)) is None:
            continue
        if cells["event_txt"].strip().lower() not in events:
            losses["not administered"] += 1
            continue
        events_of_interest[cells["emar_id"]] = (cells, *match)
    details: dict[str, list[dict[str, str]]] = defaultdict(list)
    for cells in hospital.rows("hosp/emar_detail", required=False):
        if cells["emar_id"] in events_of_interest and cells.get("dose_given"):
            details[cells["emar_id"]].append(cells)
    doses = []
    for key, (cells, drug, control) in events_of_interest.items():
        for detail in details.get(key, [{}])[:1]:
            amount = (detail.get("dose_given"), detail.get("dose_given_unit"))
            dose = _dose(
                cells, hours_of(cells["charttime"]), drug, control, detail.get("route"), amount, "emar", rule, losses
            )
            doses += [dose] if dose else []
    return doses


def _infusions(hospital: Hospital, rule: Rule, subjects: set[str], losses: Counter[str]) -> list[HospitalDose]:
    items = {str(item): drug for item, drug in rule["items"].items()}
    doses = []
    for cells in hospital.rows("icu/inputevents", required=False):
        drug = items.get(cells["itemid"])
        if drug is None or cells["subject_id"] not in subjects:
            continue
        start, end = hours_of(cells["starttime"]), hours_of(cells["endtime"])
        if cells.get("statusdescription", "").lower() == "rewritten" or start is None or end is None:
            losses["infusion rewritten or without times"] += 1
            continue
        amount = (cells["amount"], cells["amountuom"])
        dose = _dose(cells, start, drug, False, "IV", amount, "infusion", rule, losses, max(end - start, 0.0))
        doses += [dose] if dose else []
    return doses


def _prescriptions(hospital: Hospital, rule: Rule, subjects: set[str], losses: Counter[str]) -> list[HospitalDose]:
    doses = []
    for cells in hospital.rows("hosp/prescriptions", required=False):
        if cells["subject_id"] not in subjects or (match := drug_named(cells["drug"] or "", rule)) is None:
            continue
        amount = (cells["dose_val_rx"], cells["dose_unit_rx"])
        start = hours_of(cells["starttime"])
        dose = _dose(cells, start, *match, cells["route"], amount, "prescription", rule, losses)
        doses += [dose] if dose else []
    return doses


def _dose(
    cells: Mapping[str, str], hours: float | None, drug: str, control: bool, route: str | None,
    amount: tuple[str | None, str | None], source: str, rule: Rule, losses: Counter[str], duration: float = 0.0,
) -> HospitalDose | None:  # fmt: skip
    """The administration, or None with a reason counted."""
    plain = rule["routes"].get((route or "").strip().upper())
    value, unit = number_of(amount[0]), rule["units"].get((amount[1] or "").strip().lower())
    dose = None
    if hours is None or not cells["hadm_id"]:
        losses["no time or no admission"] += 1
        return None
    if plain is None:
        losses["route not understood"] += 1
        return None
    if drug:
        if value is None or unit is None or value <= 0:
            losses["dose not understood"] += 1
            return None
        try:
            dose = real_dose(Dose(drug, value, unit, plain, duration), Patient())
        except ValueError:
            losses["dose that the formulary cannot convert"] += 1
            return None
    return HospitalDose(hours, cells["subject_id"], cells["hadm_id"], drug, plain, dose, control, source)
