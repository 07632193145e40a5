"""Doses -> exposure -> ``Modulation``; and the clinical rules that say what may be given."""

from ecg_gym.pharmacology.conditions import CONDITIONS, known_conditions
from ecg_gym.pharmacology.effects import channel_block, modulate
from ecg_gym.pharmacology.exposure import Exposure, concentrations, exposure, exposure_at, population_exposure
from ecg_gym.pharmacology.formulary import FORMULARY, Formulary
from ecg_gym.pharmacology.hazards import Course, course, termination
from ecg_gym.pharmacology.indications import Reasons, indication_mask, indications
from ecg_gym.pharmacology.masks import action_mask
from ecg_gym.pharmacology.medication import resolve_medication, resolve_medications
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.pharmacology.rules import Violation, violations
from ecg_gym.pharmacology.sensitivity import Sensitivity, draw_sensitivities

__all__ = [
    "CONDITIONS",
    "FORMULARY",
    "REST",
    "Course",
    "Exposure",
    "Formulary",
    "Modulation",
    "Reasons",
    "Sensitivity",
    "Violation",
    "action_mask",
    "channel_block",
    "concentrations",
    "course",
    "draw_sensitivities",
    "exposure",
    "exposure_at",
    "indication_mask",
    "indications",
    "known_conditions",
    "modulate",
    "population_exposure",
    "resolve_medication",
    "resolve_medications",
    "termination",
    "violations",
]
