"""Milligrams out of a dose: units, body weight, and infusion rates."""

from __future__ import annotations

import re
from dataclasses import replace

from ecg_gym.core import Dose, Patient
from ecg_gym.pharmacology.drugs import Drug

ASSUMED_WEIGHT_KG = 70.0  # when a dose is per kg and the weight is unknown; the rules say so when it happens
_MASS = {"kg": 1e6, "g": 1e3, "mg": 1.0, "mcg": 1e-3, "ug": 1e-3, "ng": 1e-6}  # [mg]
_UNIT = re.compile(r"^(?P<mass>[A-Za-z]+)(?P<per_kg>/kg)?(?:/(?P<time>min|h))?$")


def weight_kg(patient: Patient) -> float:
    """Body weight [kg]; 70 where it is unknown, which ``rules.violations`` flags for doses that depend on it."""
    return ASSUMED_WEIGHT_KG if patient.weight_kg is None else patient.weight_kg


def per_kg(dose: Dose) -> bool:
    """Whether the amount has to be multiplied by body weight."""
    return "/kg" in dose.unit


def milligrams(dose: Dose, drug: Drug, patient: Patient) -> float:
    """The mass given in all [mg]; an infusion rate is multiplied by its duration.

    Raises ValueError for a unit the drug is not measured in, and for a rate without a duration.
    """
    match = _UNIT.match(dose.unit)
    if match is None or (match["mass"] not in _MASS and match["mass"] not in drug.milligrams):
        allowed = sorted({form.unit for route in drug.routes.values() for form in route.forms} | set(drug.milligrams))
        raise ValueError(f"unit of {drug.name} is {dose.unit!r}; expected {' or '.join(allowed)}; convert the dose")
    mass = dose.amount * (drug.milligrams.get(match["mass"]) or _MASS[match["mass"]])
    if match["per_kg"]:
        mass *= weight_kg(patient)
    if match["time"]:
        if dose.duration_hours <= 0:
            raise ValueError(
                f"dose is {dose}, a rate without a duration; expected how long it runs; write '... over 60 min'"
            )
        mass *= dose.duration_hours * (60 if match["time"] == "min" else 1)
    return mass


def amount_in(unit: str, dose: Dose, drug: Drug, patient: Patient) -> float:
    """The same dose written in another unit of the same kind, such as 500 mcg as 0.5 mg."""
    exact = milligrams(dose, drug, patient) / milligrams(replace(dose, amount=1.0, unit=unit), drug, patient)
    return float(f"{exact:.12g}")  # 0.5, not 0.5000000000000001
