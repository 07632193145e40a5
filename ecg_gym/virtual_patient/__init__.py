"""Mechanistic hearts of known truth: anatomy and lead field, activation, repolarisation, rhythm, noise -> 12 leads."""

from ecg_gym.virtual_patient.heart import Heart, draw_heart
from ecg_gym.virtual_patient.strip import synthesise, synthesise_batch
from ecg_gym.virtual_patient.truth import FINDINGS, Truth
from ecg_gym.virtual_patient.world import VirtualPatient

__all__ = ["FINDINGS", "Heart", "Truth", "VirtualPatient", "draw_heart", "synthesise", "synthesise_batch"]
