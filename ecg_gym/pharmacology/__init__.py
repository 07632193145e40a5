"""Doses -> exposure -> ``Modulation``; and the clinical rules that say what may be given."""

from ecg_gym.pharmacology.effects import channel_block, modulate
from ecg_gym.pharmacology.exposure import Exposure, concentrations, exposure, exposure_at, population_exposure
from ecg_gym.pharmacology.formulary import FORMULARY, Formulary
from ecg_gym.pharmacology.hazards import Course, course, termination
from ecg_gym.pharmacology.masks import action_mask
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.pharmacology.rules import CONDITIONS, Violation, violations
from ecg_gym.pharmacology.sensitivity import Sensitivity, draw_sensitivities

__all__ = [
    "CONDITIONS",
    "FORMULARY",
    "REST",
    "Course",
    "Exposure",
    "Formulary",
    "Modulation",
    "Sensitivity",
    "Violation",
    "action_mask",
    "channel_block",
    "concentrations",
    "course",
    "draw_sensitivities",
    "exposure",
    "exposure_at",
    "modulate",
    "population_exposure",
    "termination",
    "violations",
]
