"""Strips of a plan, drawn the slow way: the same beats at the same times, without noise and without waves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecg_gym.core import independent_from_leads
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.beat_trains import spike_before_s
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.lead_field import ELECTRODES, leads_from_electrodes
from ecg_gym.virtual_patient.strip_plan import StripPlan
from slow_strips.beat import electrode_strip
from slow_strips.beat_shapes import p_curve, ventricular_shape
from slow_strips.model_grid import _decimated
from slow_strips.strip import RATE_HZ

_LEAD_S = 3.0


def replayed(plan: StripPlan, row: int, heart: Heart, change: Modulation) -> np.ndarray:
    """``(8, 1024)`` [mV] on the model grid."""
    trains, late = plan.trains, _LEAD_S - plan.start_s[row]
    beats = []
    for i in range(trains.beats[row]):
        if trains.kind[row, i] >= 0:
            kind, fusion = KINDS[trains.kind[row, i]], float(trains.fusion_ms[row, i])
            shape = ventricular_shape(replace(heart, patient=heart.patient), change, kind, fusion, RATE_HZ)
            beats.append((shape, trains.qrs_s[row, i] + late, float(trains.mean_ms[row, i])))
    waves = trains.p_s[row, : trains.p_waves[row]] + late
    atrial = [(p_curve(heart, change, RATE_HZ), at) for at in waves]
    samples = round((plan.seconds + 2 * _LEAD_S) * RATE_HZ)
    potential = electrode_strip(beats, len(ELECTRODES), RATE_HZ, samples, atrial)
    if trains.paced[row]:
        for at in trains.qrs_s[row, : trains.beats[row]] - spike_before_s() + late:
            column = round(at * RATE_HZ)
            if 0 <= column < samples - 2:
                potential[:, column : column + 2] += np.array(heart_table()["spike_mv"])[:, None]
    leads = independent_from_leads(leads_from_electrodes(potential * np.float32(heart.r_gain)))
    return _decimated(leads.astype(np.float32), round(_LEAD_S * RATE_HZ))
