"""What drugs had the chance to end in a span of time: the integral of a hazard, for effects shorter than a step.

A bolus of adenosine acts for seconds; whoever looks once an hour would miss it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.effects import modulate
from ecg_gym.pharmacology.exposure import exposure_at
from ecg_gym.pharmacology.sensitivity import TYPICAL, Sensitivity

HAZARDS = ("reentry_termination_per_hour", "af_conversion_per_hour", "vt_termination_per_hour")
_AFTER_DOSE = np.concatenate([[0.0], np.geomspace(5.0, 3600.0, 25)]) / 3600.0  # [h] 5 s .. 1 h
_COARSE = 0.25  # [h] between looks elsewhere


def termination(
    given: Sequence[Administration],
    patient: Patient,
    start_hours: float,
    end_hours: float,
    sensitivity: Sensitivity = TYPICAL,
) -> dict[str, float]:
    """Integrated hazards of ending re-entry, AF and VT between two hours (dimensionless, by the name of the hazard).

    The probability that a rhythm ended in this span is ``1 - exp(-value)``. Trapezoids on a grid that is dense after
    each dose. Raises ValueError when the span is backwards.
    """
    if end_hours < start_hours:
        raise ValueError(f"span is {start_hours} to {end_hours} h; expected start before end; swap them")
    if not given or end_hours == start_hours:
        return dict.fromkeys(HAZARDS, 0.0)
    starts = np.array([a.hours for a in given if start_hours - 1 <= a.hours <= end_hours])
    looks = np.concatenate([np.arange(start_hours, end_hours, _COARSE), (starts[:, None] + _AFTER_DOSE).ravel()])
    looks = np.unique(np.clip(np.append(looks, [start_hours, end_hours]), start_hours, end_hours))
    now = [modulate(e, patient, sensitivity) for e in exposure_at(given, patient, looks, sensitivity)]
    return {name: float(np.trapezoid([getattr(m, name) for m in now], looks)) for name in HAZARDS}
