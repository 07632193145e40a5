"""What the literature reports of drugs and pairs outside the calibrating trial, beside what this pharmacology says.

Everything is computed for the typical person at the level of ``Modulation``, without waveforms. ``checks.yaml`` says
what was given, what was seen and whether a figure of the formulary was set with this observation in view (``fitted``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Administration, Patient, parse_dose
from ecg_gym.pharmacology.constants import CONFIDENCE, read_table, sources
from ecg_gym.pharmacology.effects import modulate
from ecg_gym.pharmacology.exposure import Exposure, exposure
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.hazards import termination
from ecg_gym.pharmacology.modulation import Modulation

_REQUIRED = {"id", "says", "measure", "low", "high", "unit", "source", "confidence", "fitted"}
_OPTIONAL = {"given", "levels", "beside", "hours", "patient", "view"}


@dataclass(frozen=True)
class Check:
    """One observation: what people got, what was measured in them, and between which limits it lay."""

    id: str
    says: str
    measure: str  # a name of MEASURES, "ended:HAZARD" [%], "plasma:DRUG" [ng/mL] or "shift:ELECTROLYTE" [mmol/L]
    low: float
    high: float
    unit: str
    source: str  # key of sources.yaml
    confidence: str
    in_sample: bool  # whether the formulary was set with this observation in view
    doses: tuple[str, ...] = ()  # "DOSE @ HOURS"
    levels: Mapping[str, float] | None = None  # or concentrations at steady state [ng/mL]; "m:DRUG" is its metabolite
    beside: Mapping[str, float] | None = None  # concentrations that are there before and after: the effect is on top
    hours: tuple[float, ...] = (0.0,)  # of reading; the largest of several counts. For ended: from and to
    patient: Mapping[str, float] | None = None
    view: str = ""  # what else was known of it when a figure or the form of a law was chosen


@dataclass(frozen=True)
class Outcome:
    """A check and what came of it."""

    check: Check
    value: float

    @property
    def inside(self) -> bool:
        """Whether ours lies between the limits."""
        return self.check.low <= self.value <= self.check.high

    def as_row(self) -> dict[str, Any]:
        """Plain values for a table or a JSON document."""
        c = self.check
        return {
            "id": c.id,
            "says": c.says,
            "unit": c.unit,
            "low": c.low,
            "high": c.high,
            "ours": round(self.value, 2),
            "inside": self.inside,
            "fitted": c.in_sample,
            "view": c.view,
            "confidence": c.confidence,
            "source": sources()[c.source],
        }


@cache
def _table() -> Mapping[str, Any]:
    return read_table("checks.yaml")


@cache
def checks() -> tuple[Check, ...]:
    """All checks of ``checks.yaml``; raises ValueError for a row that lacks something or cites nothing."""
    return tuple(_parse(row) for row in _table()["checks"])


def outcomes() -> list[Outcome]:
    """Every check, computed now."""
    return [Outcome(check, compute(check)) for check in checks()]


def compute(check: Check) -> float:
    """What this pharmacology says, in the unit of the check."""
    patient = Patient(**{**_table()["typical"]["patient"], **(check.patient or {})})
    doses = tuple(_administration(text, patient) for text in check.doses)
    kind, _, name = check.measure.partition(":")
    if kind == "ended":
        start, end = check.hours
        return 100 * -float(np.expm1(-termination(doses, patient, start, end)[name]))
    values = []
    for hour in check.hours:
        now = _levels(exposure(doses, patient, hour), check.beside, check.levels)
        before = _levels(exposure((), patient, hour), check.beside)
        if kind == "plasma":
            values.append(now.of(name))
        elif kind == "shift":
            values.append(getattr(now, name) - getattr(before, name))
        else:
            values.append(_effect_on(kind, modulate(now, patient)) - _effect_on(kind, modulate(before, patient)))
    return max(values, key=abs)


def _effect_on(measure: str, m: Modulation) -> float:
    """A measure of one ``Modulation``, relative to the typical heart at rest."""
    rest = {name: row["value"] for name, row in _table()["typical"]["heart"].items()}
    wider = rest["qrs_ms"] * (1 / m.conduction - 1)
    qtc = m.jtpeak_ms + m.tpeak_tend_ms + wider
    return {
        "qtc_ms": qtc,
        "qtc_percent": 100 * qtc / rest["qtc_ms"],
        "jtpeak_ms": m.jtpeak_ms,
        "tpeak_tend_ms": m.tpeak_tend_ms,
        "pr_ms": m.pr_ms,
        "pr_percent": 100 * m.pr_ms / rest["pr_ms"],
        "qrs_percent": 100 * wider / rest["qrs_ms"],
        "hr_bpm": rest["hr_bpm"] * (m.sinus_rate - 1),
        "hr_percent": 100 * (m.sinus_rate - 1),
        "af_rate_percent": 100 * (m.av_rate - 1),
        "pathway_rate_percent": 100 * (m.pathway_rate - 1),
        "av_block_percent": 100 * m.av_block,
    }[measure]


def _levels(now: Exposure, *levels: Mapping[str, float] | None) -> Exposure:
    """The exposure with concentrations added in plasma and at the effect site."""
    amounts, metabolites = np.zeros(len(FORMULARY)), np.zeros(len(FORMULARY))
    for name, level in ((n, c) for some in levels for n, c in (some or {}).items()):
        array = metabolites if name.startswith("m:") else amounts
        array[FORMULARY.index[name.removeprefix("m:")]] += level
    return replace(
        now, plasma=now.plasma + amounts, effect=now.effect + amounts, metabolite=now.metabolite + metabolites
    )


def _administration(text: str, patient: Patient) -> Administration:
    """``"DOSE @ HOURS"``; trials give more than the formulary's largest single dose, so that limit is not asked for."""
    words, _, hours = text.rpartition("@")
    dose = parse_dose(words)
    allowed = FORMULARY.check(replace(dose, amount=0.0), patient)
    same_kind = dose.unit.split("/")[1:] == allowed.unit.split("/")[1:]
    if same_kind and dose.unit != allowed.unit:
        raise ValueError(f"{text!r} is in {dose.unit}; expected {allowed.unit}; write the amount in it")
    return Administration(float(hours), replace(allowed, amount=dose.amount))


def _parse(row: Mapping[str, Any]) -> Check:
    missing, unknown = _REQUIRED - set(row), set(row) - _REQUIRED - _OPTIONAL
    if missing or unknown:
        raise ValueError(
            f"check {row.get('id')} lacks {missing} and has {unknown}; expected the fields of Check; fix it"
        )
    if row["source"] not in sources() or row["confidence"] not in CONFIDENCE:
        raise ValueError(
            f"check {row['id']} cites {row['source']!r}; expected a key of sources.yaml and H, M or L; cite"
        )
    value: dict[str, Any] = dict(row)
    hours = {"hours": tuple(row["hours"])} if "hours" in row else {}
    return Check(in_sample=value.pop("fitted"), doses=tuple(value.pop("given", ())), **{**value, **hours})
