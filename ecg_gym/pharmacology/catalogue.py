"""Every dose and every group of people that was met, as the kernel wants them: columns by place in a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ecg_gym.columns import DOSES, NONE, NUMBERS, WORDS, Doses, Patients
from ecg_gym.core import Patient
from ecg_gym.pharmacology.doses import ASSUMED_WEIGHT_KG, milligrams, per_kg
from ecg_gym.pharmacology.drugs import ROUTES
from ecg_gym.pharmacology.exposure import potassium_trends
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.medication import ingredients
from ecg_gym.pharmacology.tables import medication_names

_WEIGHT, _CLEARANCE = NUMBERS.index("weight_kg"), NUMBERS.index("creatinine_clearance")
_IONS = slice(NUMBERS.index("potassium"), NUMBERS.index("calcium") + 1)
UNKNOWN = -1  # the drug of a dose that the formulary does not know


@lru_cache(maxsize=2)
def dose_columns(n: int) -> tuple[np.ndarray, ...]:
    """Of the first ``n`` doses of the catalogue: drug, route, mass [mg or mg/kg], whether per kg, duration [h]."""
    rows = [_columns(code) for code in range(n)]
    table = np.array(rows, float).reshape(-1, 5)
    return (table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), np.ascontiguousarray(table[:, 2]),
            table[:, 3] > 0, np.ascontiguousarray(table[:, 4]))  # fmt: skip


def _columns(code: int) -> tuple[float, ...]:
    dose = DOSES.rows[code]
    drug = FORMULARY.get(dose.drug)
    if drug is None or dose.route not in drug.routes:
        return (UNKNOWN, 0, 0.0, 0, 0.0)
    try:
        mass = milligrams(dose, drug, Patient(weight_kg=ASSUMED_WEIGHT_KG))
        mass = mass / ASSUMED_WEIGHT_KG if per_kg(dose) else mass
    except ValueError:
        return (UNKNOWN, 0, 0.0, 0, 0.0)
    over = 0.0 if dose.route == "PO" else dose.duration_hours  # an oral dose is never an infusion
    return (FORMULARY.index[dose.drug], ROUTES.index(dose.route), mass, per_kg(dose), over)


def known_doses(doses: Doses) -> tuple[np.ndarray, ...]:
    """``dose_columns`` of the catalogue; raises for a dose among ``doses`` that the formulary does not know."""
    columns = dose_columns(len(DOSES))
    if (columns[0] == UNKNOWN).any():
        codes = doses.code[doses.code != NONE]
        for code in np.unique(codes[columns[0][codes] == UNKNOWN]):
            dose = DOSES.rows[code]
            if dose.drug not in FORMULARY or dose.route not in FORMULARY[dose.drug].routes:
                raise ValueError(
                    f"dose is {dose}; expected a drug and a route as the formulary spells them; "
                    "pass FORMULARY.check(dose, patient), which fills in what is left out"
                )
            milligrams(dose, FORMULARY[dose.drug], Patient())
    return columns


@lru_cache(maxsize=2)
def medication_columns(n: int) -> np.ndarray:
    """Of the first ``n`` groups of people: which of ``medication_names`` they take ``(n, M)`` bool."""
    names = medication_names()
    rows = [[name in ingredients(medication) for name in names] for _, medication in WORDS.rows[:n]]
    return np.array(rows, bool).reshape(n, len(names))


def weights_kg(patients: Patients) -> np.ndarray:
    """Body weights ``(B,)`` [kg]; 70 where unknown."""
    weight = patients.numbers[:, _WEIGHT]
    return np.where(np.isnan(weight), ASSUMED_WEIGHT_KG, weight)


def clearances(patients: Patients) -> np.ndarray:
    """Creatinine clearances ``(B,)`` [mL/min]; NaN where unknown."""
    return np.ascontiguousarray(patients.numbers[:, _CLEARANCE])


def own_serum(patients: Patients, reference: Sequence[float] | np.ndarray) -> np.ndarray:
    """Own potassium, magnesium and calcium [mmol/L], the reference where unknown, and potassium's trend ``(B, 4)``."""
    ions, out = patients.numbers[:, _IONS], np.empty((len(patients), 4))
    out[:, :3] = np.where(np.isnan(ions), reference, ions)
    failing = _renal_failure(len(WORDS))[patients.group]
    out[:, 3] = potassium_trends(ions[:, 0], patients.numbers[:, _CLEARANCE], failing)
    return out


@lru_cache(maxsize=2)
def _renal_failure(n: int) -> np.ndarray:
    """Of the first ``n`` groups of people: whether their kidneys fail ``(n,)`` bool."""
    return np.array(["renal_failure" in conditions for conditions, _ in WORDS.rows[:n]], bool)
