"""``exposure``: what was given, and when -> what is in the blood and at the effect site now, electrolytes included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.constants import Block, read_table
from ecg_gym.pharmacology.doses import milligrams, weight_kg
from ecg_gym.pharmacology.drugs import ELECTROLYTES, Drug
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.interactions import changes
from ecg_gym.pharmacology.kinetics import OUTPUTS, Compartments, outputs
from ecg_gym.pharmacology.sensitivity import TYPICAL, Sensitivity
from ecg_gym.pharmacology.stopping import doses_taken

_REFERENCE_WEIGHT = 70.0  # [kg] of the formulary's parameters
_REFERENCE_CLEARANCE = 100.0  # [mL/min] of creatinine
_RENAL_RANGE = (0.05, 1.5)  # of the reference clearance: dialysis to hyperfiltration


@dataclass(frozen=True)
class Exposure:
    """Concentrations in the order of ``FORMULARY.names``, and serum electrolytes, at one hour.

    Of many hours or people at once every field has a leading dimension: ``(N, n_drugs)`` and ``(N,)``.
    """

    plasma: np.ndarray  # (n_drugs,) [ng/mL]
    effect: np.ndarray  # (n_drugs,) [ng/mL] at the effect site
    metabolite: np.ndarray  # (n_drugs,) [ng/mL] of each drug's active metabolite
    potassium: float  # [mmol/L], absolute
    magnesium: float  # [mmol/L]
    calcium: float  # [mmol/L], total

    def of(self, drug: str) -> float:
        """Plasma concentration of one drug [ng/mL]."""
        return float(self.plasma[..., FORMULARY.index[drug]])

    def __getitem__(self, row: int) -> Exposure:
        """One of many."""
        serum = (float(level[row]) for level in (self.potassium, self.magnesium, self.calcium))  # type: ignore[index]
        return Exposure(self.plasma[row], self.effect[row], self.metabolite[row], *serum)


def exposure(
    doses: Sequence[Administration], patient: Patient, hours: float, sensitivity: Sensitivity = TYPICAL
) -> Exposure:
    """What this person has on board at ``hours`` on their own clock. Later doses are not looked at.

    Unknown electrolytes start from the reference values, unknown weight is 70 kg, unknown creatinine clearance 100
    mL/min.
    """
    return exposure_at(doses, patient, np.array([hours]), sensitivity)[0]


def exposure_at(
    doses: Sequence[Administration], patient: Patient, hours: np.ndarray, sensitivity: Sensitivity = TYPICAL
) -> list[Exposure]:
    """One ``Exposure`` for each of ``hours (T,)``, all from one pass through the kinetics."""
    many = exposures([doses], [patient], [np.asarray(hours, dtype=float)], [sensitivity])
    return [many[look] for look in range(len(hours))]


def exposures(
    doses: Sequence[Sequence[Administration]],
    patients: Sequence[Patient],
    hours: Sequence[np.ndarray],
    sensitivities: Sequence[Sensitivity],
) -> Exposure:
    """What B people have on board at ``hours[b] (T_b,)`` each, one after another: an ``Exposure`` of N = sum T_b looks.

    No number of a look depends on the others.
    """
    profiles = [concentrations(*row) for row in zip(map(doses_taken, doses), patients, hours, sensitivities)]
    plasma, effect, metabolite = np.concatenate(profiles, axis=1)
    rows = np.repeat(np.arange(len(hours)), [len(looks) for looks in hours])
    shifts = np.array([person.electrolyte for person in sensitivities])[rows]
    own = {
        name: np.array([usual if (value := getattr(p, name)) is None else value for p in patients], dtype=float)[rows]
        for name, usual in reference_electrolytes().items()
    }
    trends = np.array([potassium_trend(p) for p in patients], dtype=float)[rows]
    own["potassium"] = own["potassium"] + trends * np.clip(np.concatenate(hours), 0.0, trend_hours())
    return Exposure(plasma, effect, metabolite, **_electrolytes(plasma, effect, own, shifts))


def population_exposure(doses: Sequence[Administration], patient: Patient, hours: float) -> Exposure:
    """What the typical person of this weight and kidney function has on board: no hidden truth in it."""
    return exposure(doses, patient, hours, TYPICAL)


def concentrations(
    doses: Sequence[Administration], patient: Patient, hours: np.ndarray, sensitivity: Sensitivity = TYPICAL
) -> np.ndarray:
    """Plasma, effect-site and metabolite concentrations ``(3, T, n_drugs)`` [ng/mL] at ``hours (T,)``."""
    hours = np.asarray(hours, dtype=float)
    result = np.zeros((len(OUTPUTS), len(hours), len(FORMULARY)))
    for name in dict.fromkeys(a.dose.drug for a in doses):
        drug = FORMULARY[name]
        for route in dict.fromkeys(a.dose.route for a in doses if a.dose.drug == name):
            amounts = [
                (a.hours, milligrams(a.dose, drug, patient), _duration(a, drug))
                for a in doses
                if a.dose.drug == name and a.dose.route == route
            ]
            own = personal(drug, route, weight_kg(patient), patient.creatinine_clearance, sensitivity)
            systems = [(at, own.with_factors(*factors)) for at, *factors in changes(name, doses, patient)]
            result[:, :, FORMULARY.index[name]] += outputs(systems, amounts, hours)
    _neutralise(result)
    return result[:3]


def _duration(administration: Administration, drug: Drug) -> float:
    """The dose's own duration; an oral dose is never an infusion."""
    return 0.0 if administration.dose.route == "PO" else administration.dose.duration_hours


@lru_cache(maxsize=8192)
def personal(
    drug: Drug, route: str, weight: float, creatinine_clearance: float | None, sensitivity: Sensitivity
) -> Compartments:
    """The drug's parameters in one person: allometry (clearance ^0.75, volume ^1), kidneys, metabolism and chance.

    Weight [kg], creatinine clearance [mL/min]. Allometric exponents: Anderson & Holford 2008,
    doi:10.1146/annurev.pharmtox.48.113006.094708.
    """
    usual, spread, size = drug.compartments[route], drug.spread, weight / _REFERENCE_WEIGHT
    kidney = 1.0 if creatinine_clearance is None else creatinine_clearance / _REFERENCE_CLEARANCE
    kidney = float(np.clip(kidney, *_RENAL_RANGE)) * np.exp(spread.clearance * sensitivity.renal)
    liver = np.exp(spread.clearance * getattr(sensitivity, drug.pathway))
    formed = 1.0
    if sensitivity.poor_metaboliser:
        liver *= drug.poor_metaboliser
        formed = drug.metabolite.poor_metaboliser if drug.metabolite else 1.0
    clearance = (1 - drug.renal) * liver + drug.renal * kidney
    volume = size * np.exp(spread.volume * sensitivity.volume)
    flow = size**0.75
    return replace(
        usual,
        clearance=float(usual.clearance * size**0.75 * clearance),
        volume=float(usual.volume * volume),
        flow_2=float(usual.flow_2 * flow),
        volume_2=float(usual.volume_2 * volume),
        flow_3=float(usual.flow_3 * flow),
        volume_3=float(usual.volume_3 * volume),
        absorption=float(usual.absorption * np.exp(spread.absorption * sensitivity.absorption)),
        fraction=float(usual.fraction * np.exp(spread.fraction * sensitivity.fraction)),
        equilibration=float(usual.equilibration * sensitivity.equilibration),
        metabolite_fraction=float(usual.metabolite_fraction * formed),
        metabolite_clearance=float(usual.metabolite_clearance * size**0.75 * (kidney if drug.renal > 0 else liver)),
        metabolite_volume=float(usual.metabolite_volume * volume),
        presystemic=float(usual.presystemic * formed),
    )


def _neutralise(result: np.ndarray) -> None:
    """Take the bound share of a drug away, in place, where its antidote is on board ((4, T, n): OUTPUTS order)."""
    for name in _antidotes():
        target, per_mg = FORMULARY[name].neutralises or ("", 0.0)
        antidote, victim = FORMULARY.index[name], FORMULARY.index[target]
        arrived = result[1, :, antidote] / np.maximum(result[0, :, antidote], 1e-12)  # share in the tissue
        bound = result[3, :, antidote] * np.minimum(arrived, 1.0) * per_mg
        free = np.clip(1 - bound / np.maximum(result[3, :, victim], 1e-12), 0.0, 1.0)
        result[:, :, victim] *= np.where(result[3, :, victim] > 0, free, 1.0)


@cache
def _antidotes() -> tuple[str, ...]:
    return tuple(name for name, drug in FORMULARY.items() if drug.neutralises)


@cache
def reference_electrolytes() -> dict[str, float]:
    """Serum values [mmol/L] that stand for a patient's unknown ones, and at which a ``Modulation`` changes nothing."""
    block = Block.of("laws", read_table("laws.yaml")).block("reference")
    return {name: block.number(name, "mmol/L") for name in ELECTROLYTES}


@cache
def _trend() -> dict[str, float]:
    block = Block.of("laws", read_table("laws.yaml")).block("trend")
    units = {"until": "h", "retention": "mmol/L/h", "retention_above": "mmol/L", "retention_clearance": "mL/min",
             "loss": "mmol/L/h", "loss_below": "mmol/L"}  # fmt: skip
    block.expect(set(units))
    return {name: block.number(name, unit) for name, unit in units.items()}


def trend_hours() -> float:
    """For how long [h] a person's own potassium moves."""
    return _trend()["until"]


def potassium_trend(patient: Patient) -> float:
    """How a person's own potassium moves [mmol/L per h] while nobody treats what moves it; 0 where it is unknown."""
    numbers = (patient.potassium, patient.creatinine_clearance)
    potassium, clearance = (np.array([np.nan if value is None else value]) for value in numbers)
    return float(potassium_trends(potassium, clearance, np.array(["renal_failure" in patient.conditions]))[0])


def potassium_trends(potassium: np.ndarray, clearance: np.ndarray, failing: np.ndarray) -> np.ndarray:
    """The same ``(B,)`` out of potassium [mmol/L] and creatinine clearance [mL/min], NaN where unknown, and whether
    somebody's kidneys are known to fail."""
    t = _trend()
    failing = failing | (clearance < t["retention_clearance"])
    lost = np.where(potassium < t["loss_below"], t["loss"], 0.0)
    return np.where(failing & (potassium > t["retention_above"]), t["retention"], lost)


def _electrolytes(
    plasma: np.ndarray, effect: np.ndarray, own: dict[str, np.ndarray], shift: np.ndarray
) -> dict[str, Any]:
    """Serum potassium, magnesium and calcium now ``(N,)`` [mmol/L]: people's own, what was given, what drugs shift."""
    values = dict(own)
    for i in np.flatnonzero((plasma + effect).any(axis=0)):
        drug = FORMULARY[FORMULARY.names[i]]
        if drug.supplies:
            values[drug.supplies] = values[drug.supplies] + plasma[:, i] / drug.molar_mass / 1000  # ng/mL = ug/L
        for law in drug.laws:
            if law.target in values:
                level = (plasma if law.site == "plasma" else effect)[:, i]
                values[law.target] = values[law.target] + law.emax * saturations(level, law.ec50, law.hill) * shift
    return {name: np.maximum(value, 0.1) for name, value in values.items()}


def saturation(level: float, half: float, hill: float) -> float:
    """The Hill curve c^h / (c^h + half^h), between 0 and 1."""
    return float(saturations(np.array([level]), half, hill)[0])


def saturations(level: np.ndarray, half: float, hill: float) -> np.ndarray:
    """The Hill curve of many levels ``(N,)``; 0 where there is nothing."""
    there = level > 0
    level = np.where(there, level, half)
    low = level < half
    # a tiny level underflows to 0 this way round, and would overflow the other
    ratio = np.where(low, level, half) / np.where(low, half, level)
    ratio = ratio**hill
    return np.where(there, np.where(low, ratio, 1.0) / (1 + ratio), 0.0)
