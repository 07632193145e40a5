"""Who is treated, and with what: Patient, Dose, Treatment, Administration; and a dose from words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.plausibility import bounds, check_bounds


def is_number(value: Any) -> bool:
    """Whether this is one finite real number."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return real and bool(abs(value) < float("inf"))


def _words(name: str, value: Any) -> frozenset[str]:
    try:
        words: frozenset[Any] = frozenset(value)
    except TypeError:  # no set at all, or of things that cannot be in one
        words = frozenset((None,))
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name} is {value!r}; expected a set of words; pass {name}={{'asthma'}} or leave it out")
    return words


@dataclass(frozen=True)
class Patient:
    """What is known about a person. ``None`` means unknown: it is flagged to the model, never invented.

    Raises ValueError for a number that no living adult has (``plausible.yaml``).
    """

    age_years: float | None = None
    sex: str | None = None  # "F" or "M"
    weight_kg: float | None = None
    height_cm: float | None = None
    potassium: float | None = None  # serum K+ [mmol/L]
    magnesium: float | None = None  # serum Mg2+ [mmol/L]
    calcium: float | None = None  # serum total Ca2+ [mmol/L]
    creatinine_clearance: float | None = None  # [mL/min]
    conditions: frozenset[str] = frozenset()  # names out of pharmacology.CONDITIONS
    medication: frozenset[str] = frozenset()  # other drugs taken, lower-case names, for the interaction rules

    def __post_init__(self) -> None:
        if self.sex not in (None, "F", "M"):
            raise ValueError(f"sex is {self.sex!r}; expected 'F', 'M' or None (unknown); the risk limits depend on it")
        for name in bounds():
            if (value := getattr(self, name)) is not None:
                if not is_number(value):
                    raise TypeError(f"{name} is {value!r}; expected a finite number; leave it out where it is unknown")
                check_bounds(name, value)
        for name in ("conditions", "medication"):
            if isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} is the word {value!r}; expected a set of words; pass {name}={{{value!r}}}")
            object.__setattr__(self, name, _words(name, value))


@dataclass(frozen=True, order=True)
class Dose:
    """One drug, one amount, one route. An infusion runs for ``duration_hours``; 0 is a bolus or a tablet."""

    drug: str
    amount: float
    unit: str  # "mg", "g", "mcg", "mmol", "U", "mg/kg", "mcg/kg/min" ...; the formulary says which fit
    route: str  # "PO", "IV", "SC", or "EXT" for what is done from outside
    duration_hours: float = 0.0

    def __str__(self) -> str:
        over = f" over {60 * self.duration_hours:g} min" if self.duration_hours else ""
        return f"{self.drug} {self.amount:g} {self.unit} {self.route}{over}"


@dataclass(frozen=True)
class Treatment:
    """A set of doses given at the start of a step. Empty means watch and wait, and is always a candidate."""

    doses: tuple[Dose, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "doses", tuple(sorted(self.doses)))

    def __str__(self) -> str:
        return " + ".join(map(str, self.doses)) or "watch and wait"

    def __bool__(self) -> bool:
        return bool(self.doses)


WATCH = Treatment()


@dataclass(frozen=True, order=True)
class Administration:
    """A dose and when it was given, on the patient's own clock (``State.hours``; negative is before the start)."""

    hours: float  # [h]
    dose: Dose


_NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
_DOSE = re.compile(
    rf"^\s*(?P<drug>[A-Za-z][\w\-]*(?:\s+[A-Za-z][\w\-]*)*?)\s+(?P<amount>{_NUMBER})\s*(?P<unit>[A-Za-z\u00b5\u03bc][\w/\u00b5\u03bc]*)"
    r"(?:\s+(?P<route>PO|IV|SC|EXT|oral|orally|by mouth|p\.o\.|i\.v\.|s\.c\.))?"
    rf"(?:\s+(?:over|for|in)\s+(?P<time>{_NUMBER})\s*(?P<clock>s|sec|seconds?|min|mins|minutes?|h|hr|hrs|hours?))?\s*$",
    re.IGNORECASE,
)
_ROUTES = {"ORAL": "PO", "ORALLY": "PO", "BY MOUTH": "PO", "P.O.": "PO", "I.V.": "IV", "S.C.": "SC"}
_HOURS = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0}  # by the first letter of the word
_UNITS = {"ug": "mcg", "hr": "h", "hour": "h", "minute": "min", "u": "U", "iu": "U", "unit": "U", "units": "U",
          "milligram": "mg", "gram": "g", "vials": "vial", "gm": "g",
          **{unit: unit for unit in ("mg", "g", "mcg", "kg", "ng", "mmol", "min", "h", "vial")}}  # fmt: skip
_MONOVALENT = ("potassium", "sodium", "lithium")  # 1 mEq is 1 mmol


def parse_dose(text: str, default_route: str = "") -> Dose:
    """A dose from words such as ``"dofetilide 0.5 mg PO"`` or ``"amiodarone 150 mg IV over 10 minutes"``.

    Times may be in seconds, minutes or hours, units as charts write them (``mg/hr``, ``ug``, ``units``; a mEq of
    potassium or sodium is a mmol). Only the form is checked here; whether drug, unit and amount make
    sense is the formulary's business.
    """
    match = _DOSE.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"dose is {text!r}; expected 'DRUG AMOUNT UNIT [PO|IV|SC|EXT] [over TIME min]'; "
            "write for example 'dofetilide 0.5 mg PO' or 'amiodarone 150 mg IV over 10 min'"
        )
    route = (match["route"] or default_route).upper()
    hours = float(match["time"]) * _HOURS[match["clock"][0].lower()] if match["time"] else 0.0
    drug = "_".join(match["drug"].lower().split())
    return Dose(
        drug=drug,
        amount=float(match["amount"]),
        unit=_unit(match["unit"], drug.startswith(_MONOVALENT)),
        route=_ROUTES.get(route, route),
        duration_hours=hours,
    )


def _unit(written: str, monovalent: bool) -> str:
    """A unit as the formulary spells it; what it does not know stays as it was written."""
    parts = written.replace("\u00b5", "u").replace("\u03bc", "u").split("/")
    spelled = [_UNITS.get(part.lower(), part) for part in parts]
    return "/".join("mmol" if monovalent and part.lower() == "meq" else part for part in spelled)
