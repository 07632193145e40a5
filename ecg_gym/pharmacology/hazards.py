"""What a heart goes through in a span of time: hazards are integrated, because some drugs act for seconds.

A bolus of adenosine is gone within a minute; whoever looks once an hour would miss it. A ``Course`` looks often where
something happens and seldom elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.effects import modulate_many, modulation_of
from ecg_gym.pharmacology.exposure import Exposure, exposures
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
    change: Modulation  # every field (T,)
    exposure: Exposure  # of T looks

    @property
    def potassium(self) -> np.ndarray:
        """Serum potassium ``(T,)`` [mmol/L]."""
        return np.asarray(self.exposure.potassium)

    @property
    def modulations(self) -> tuple[Modulation, ...]:
        """The modulation of each look (T,)."""
        return tuple(modulation_of(self.change, look) for look in range(len(self.hours)))

    def accumulated(self, hazard: str) -> np.ndarray:
        """The integral ``(T,)`` of a hazard of ``Modulation`` from the start of the span; trapezoids."""
        return integral(getattr(self.change, hazard), self.hours)


def integral(rate: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """The integral ``(T,)`` of ``rate (T,)`` [1/h] over ``hours (T,)`` from the first to each of them; trapezoids."""
    return np.concatenate([[0.0], np.cumsum(np.diff(hours) * (rate[1:] + rate[:-1]) / 2)])


def course(
    doses: Sequence[Administration],
    patient: Patient,
    start_hours: float,
    end_hours: float,
    sensitivity: Sensitivity = TYPICAL,
    day: bool = False,
) -> Course:
    """What a span does to a heart, looked at every quarter of an hour and densely for an hour after each dose.

    ``day`` adds the drift over the day (see ``daytime``). Raises ValueError when the span is backwards.
    """
    return courses([doses], [patient], [start_hours], [end_hours], [sensitivity], day)[0]


def courses(
    doses: Sequence[Sequence[Administration]],
    patients: Sequence[Patient],
    start_hours: Sequence[float] | np.ndarray,
    end_hours: Sequence[float] | np.ndarray,
    sensitivities: Sequence[Sensitivity],
    day: bool = False,
) -> list[Course]:
    """The ``course`` of each of B hearts, worked out together; each is what it would be alone."""
    if not len(doses):
        return []
    looks = [_looks(*row) for row in zip(doses, map(float, start_hours), map(float, end_hours))]
    on_board, clock = exposures(doses, patients, looks, sensitivities), np.concatenate(looks)
    rows = np.repeat(np.arange(len(looks)), [len(hours) for hours in looks])
    change = modulate_many(on_board, Sensitivity.of_many(sensitivities, rows), clock if day else None)
    ends = np.cumsum([len(hours) for hours in looks])
    parts = [slice(end - len(hours), end) for hours, end in zip(looks, ends)]
    return [Course(hours, _part(change, part), _part(on_board, part)) for hours, part in zip(looks, parts)]


def _looks(doses: Sequence[Administration], start_hours: float, end_hours: float) -> np.ndarray:
    """When to look ``(T,)`` [h]: every quarter of an hour, and densely after a dose that is not swallowed."""
    if end_hours < start_hours:
        raise ValueError(f"span is {start_hours} to {end_hours} h; expected start before end; swap them")
    looks, first = np.arange(start_hours, end_hours, _COARSE), start_hours - _AFTER_DOSE[-1]
    if recent := {a.hours for a in doses if a.dose.route != "PO" and first < a.hours <= end_hours}:
        looks = np.append(looks, np.add.outer(sorted(recent), _AFTER_DOSE))
    return np.unique(np.clip(np.append(looks, [start_hours, end_hours]), start_hours, end_hours))


Many = TypeVar("Many", Modulation, Exposure)


def _part(many: Many, part: slice) -> Many:
    return type(many)(*(column[part] for column in vars(many).values()))


def termination(
    doses: Sequence[Administration],
    patient: Patient,
    start_hours: float,
    end_hours: float,
    sensitivity: Sensitivity = TYPICAL,
) -> dict[str, float]:
    """Integrated hazards of ending re-entry, AF, VT and torsade between two hours (by the name of the hazard).

    The probability that a rhythm ended in this span is ``1 - exp(-value)``. Raises ValueError when the span is
    backwards.
    """
    if not doses and end_hours >= start_hours:
        return dict.fromkeys(HAZARDS, 0.0)
    span = course(doses, patient, start_hours, end_hours, sensitivity)
    return {name: float(span.accumulated(name)[-1]) for name in HAZARDS}
