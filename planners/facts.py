"""``Facts``: what was measured on the record itself, before any codec. Rules, indications and changes start from them.

A world that draws strips sees a record through its codec. Where that reconstruction reads otherwise than the record,
the record is right, and the plan says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import ECG, Patient, State, World
from ecg_gym.rollout import judged_now
from ecg_gym.waveform import measure, to_model_grid
from ecg_gym.yaml_files import read_yaml

if TYPE_CHECKING:
    from ecg_gym.rollout import RiskFunction

TOLERANCE_SDS = 3.0  # readings of one heart further apart than this many SDs disagree
SURE = 0.3  # a finding whose probability moves by more, across the line where it counts, disagrees
SIGNS = {"p_present": "P waves", "regular": "a regular rhythm"}
WATCHED = (  # findings that rules and indications ask about
    "Atrial fibrillation",
    "Atrial flutter",
    "Atrioventricular block",
    "Ventricular tachycardia",
    "Accessory pathway conduction",
    "Electronic pacemaker",
)


@dataclass(frozen=True)
class Facts:
    """Intervals and findings of a record, and how its reconstruction differs."""

    intervals: Mapping[str, float]  # by the names of ``Intervals``; NaN where not measurable
    probabilities: np.ndarray  # (17,) of the findings; NaN without a classifier
    findings: frozenset[str]  # those more likely than not
    reference: Mapping[str, float]  # interval -> what changes of futures are counted from: see ``compared``
    disagreements: tuple[str, ...] = ()  # sentences; empty where record and reconstruction agree

    @property
    def confident(self) -> bool:
        """Whether the reconstruction reads as the record does."""
        return not self.disagreements


def facts_of_record(ecg: ECG, patient: Patient, state: State, risk: RiskFunction, world: World | None = None) -> Facts:
    """What ``ecg (12, T)`` [mV] shows at its own rate, beside what ``state``, the world's view of it, shows."""
    strip = to_model_grid(ecg).signal.reshape(1, 12, -1)
    assessment = risk(strip, strip, (patient,), np.ones(1, bool))
    intervals = {name: float(value) for name, value in measure(ecg).row(0).items()}
    return compared(intervals, np.asarray(assessment.probabilities[0]), facts_of_state(state, risk, world))


def facts_of_state(state: State, risk: RiskFunction, world: World | None = None) -> Facts:
    """What the strip of a state of one patient shows: the facts where there is no record behind it."""
    assessment = judged_now(world, risk, state)
    intervals = {name: float(value) for name, value in assessment.intervals.row(0).items()}
    probabilities = np.asarray(assessment.probabilities[0])
    return Facts(intervals, probabilities, _likely(probabilities), intervals)


def compared(intervals: Mapping[str, float], probabilities: np.ndarray, reconstruction: Facts) -> Facts:
    """The facts of a record, with what its reconstruction reads otherwise.

    A predicted change is a future's reading minus the reconstruction's, so that the codec's own error cancels; where
    the two disagree by more than three SDs of reading one heart twice, it is the future's minus the record's.
    """
    differences, reference = [], dict(reconstruction.intervals)
    for name, (tolerance, unit) in tolerances().items():
        record, reading = intervals.get(name, math.nan), reconstruction.intervals.get(name, math.nan)
        if math.isfinite(record) and math.isfinite(reading) and abs(reading - record) <= tolerance:
            continue
        reference[name] = record
        if math.isfinite(record) or math.isfinite(reading):
            differences.append(
                f"{name} is {_number(record)} on the record and {_number(reading)} {unit} in its reconstruction"
            )
    for name, words in SIGNS.items():
        if intervals.get(name, math.nan) != reconstruction.intervals.get(name, math.nan):
            there, other = ("record", "reconstruction") if intervals.get(name) else ("reconstruction", "record")
            differences.append(f"the {there} shows {words}, the {other} does not")
    findings = _likely(probabilities)
    for name in WATCHED:
        i = _finding_names().index(name)
        change = abs(float(probabilities[i]) - float(reconstruction.probabilities[i]))
        if (name in findings) != (name in reconstruction.findings) and change > SURE:
            there, other = ("record", "reconstruction") if name in findings else ("reconstruction", "record")
            differences.append(f"the {there} shows {name.lower()}, the {other} does not")
    return Facts(intervals, probabilities, findings, reference, tuple(differences))


@cache
def tolerances() -> Mapping[str, tuple[float, str]]:
    """Interval -> how far two readings of one heart may lie apart, and the unit (``measurement.yaml``)."""
    table = read_yaml(Path(__file__).with_name("measurement.yaml"))["intervals"]
    return {
        name: (TOLERANCE_SDS * math.hypot(row["reading"], row["within"]), row["unit"]) for name, row in table.items()
    }


def _likely(probabilities: np.ndarray) -> frozenset[str]:
    from ecg_gym.envs.dynamics import likely

    return likely(probabilities)


def _finding_names() -> tuple[str, ...]:
    from ecg_gym.risk import FINDINGS

    return tuple(FINDINGS)


def _number(value: float) -> Any:
    return f"{value:.0f}" if math.isfinite(value) else "not measurable"
