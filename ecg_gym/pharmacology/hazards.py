"""What a heart goes through in a span of time: hazards are integrated, because some drugs act for seconds.

A bolus of adenosine is gone within a minute; whoever looks once an hour would miss it. A ``Course`` looks often where
something happens and seldom elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.effects import modulate
from ecg_gym.pharmacology.exposure import exposure_at
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.sensitivity import TYPICAL, Sensitivity

HAZARDS = (
    "reentry_termination_per_hour",
    "af_conversion_per_hour",
    "vt_termination_per_hour",
    "torsade_termination_per_hour",
)
_AFTER_DOSE = np.concatenate([[0.0], np.geomspace(5.0, 3600.0, 25)]) / 3600.0  # [h] 5 s .. 1 h
_COARSE = 0.25  # [h] between looks elsewhere


@dataclass(frozen=True)
class Course:
    """A span of time in one heart: what drugs, electrolytes and the day do to it at each look."""

    hours: np.ndarray  # (T,) [h], rising; the first and the last are the ends of the span
    modulations: tuple[Modulation, ...]  # (T,)
    potassium: np.ndarray  # (T,) [mmol/L]

    def accumulated(self, hazard: str) -> np.ndarray:
        """The integral ``(T,)`` of a hazard of ``Modulation`` from the start of the span; trapezoids."""
        return integral(np.array([getattr(m, hazard) for m in self.modulations]), self.hours)


def integral(rate: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """The integral ``(T,)`` of ``rate (T,)`` [1/h] over ``hours (T,)`` from the first to each of them; trapezoids."""
    return np.concatenate([[0.0], np.cumsum(np.diff(hours) * (rate[1:] + rate[:-1]) / 2)])


def course(
    given: Sequence[Administration],
    patient: Patient,
    start_hours: float,
    end_hours: float,
    sensitivity: Sensitivity = TYPICAL,
    day: bool = False,
) -> Course:
    """What a span does to a heart, looked at every quarter of an hour and densely for an hour after each dose.

    ``day`` adds the drift over the day (see ``daytime``). Raises ValueError when the span is backwards.
    """
    if end_hours < start_hours:
        raise ValueError(f"span is {start_hours} to {end_hours} h; expected start before end; swap them")
    looks = np.arange(start_hours, end_hours, _COARSE)
    if recent := {a.hours for a in given if start_hours - _AFTER_DOSE[-1] < a.hours <= end_hours}:
        looks = np.append(looks, np.add.outer(sorted(recent), _AFTER_DOSE))
    looks = np.unique(np.clip(np.append(looks, [start_hours, end_hours]), start_hours, end_hours))
    exposures = exposure_at(given, patient, looks, sensitivity)
    clock = looks if day else [None] * len(looks)
    return Course(
        looks,
        tuple(modulate(e, patient, sensitivity, None if h is None else float(h)) for e, h in zip(exposures, clock)),
        np.array([e.potassium for e in exposures]),
    )


def termination(
    given: Sequence[Administration],
    patient: Patient,
    start_hours: float,
    end_hours: float,
    sensitivity: Sensitivity = TYPICAL,
) -> dict[str, float]:
    """Integrated hazards of ending re-entry, AF, VT and torsade between two hours (by the name of the hazard).

    The probability that a rhythm ended in this span is ``1 - exp(-value)``. Raises ValueError when the span is
    backwards.
    """
    if not given and end_hours >= start_hours:
        return dict.fromkeys(HAZARDS, 0.0)
    span = course(given, patient, start_hours, end_hours, sensitivity)
    return {name: float(span.accumulated(name)[-1]) for name in HAZARDS}
