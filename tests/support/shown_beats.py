"""Noise-free beats of one heart: what they show, and how they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.beat_intervals import QUANTITIES, measured_beats
from ecg_gym.virtual_patient.beat_spectra import KINDS, TERRITORIES, Shapes, beats, spectra
from ecg_gym.virtual_patient.beat_targets import targets_of
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.repolarisation import rate_factor


@dataclass(frozen=True)
class Beat:
    """One beat of ``ShownIntervals``."""

    onset_ms: float
    qrs_ms: float
    r_peak_ms: float
    jtpeak_ms: float
    qt_ms: float
    t_amplitude_mv: float


def typical_beat_of(heart: Heart, change: Modulation, kind: str, rr_s: float) -> Beat:
    """The noise-free beat of that kind at a steady RR [s]."""
    targets = targets_of([heart], change)
    where = (heart.pose, TERRITORIES.index(heart.scar), TERRITORIES.index(heart.injury), KINDS.index(kind))
    shapes = Shapes(
        *(np.array([code]) for code in where), np.zeros(1), targets.slowness, targets.phase3_ms, targets.dispersion
    )
    beats = measured_beats(shapes, targets.mean_ms * rate_factor(np.array([rr_s]), np.array([rr_s])))
    return Beat(*(float(getattr(beats, name)[0]) for name in QUANTITIES))


def beat_in_time(dispersion: float, mean_ms: float) -> np.ndarray:
    """``(8, 640)`` [mV] at 512 Hz: a normal beat of the default pose; its first cell fires at 150 ms."""
    code = np.zeros(1, np.int64)
    shapes = Shapes(code, code, code, code, np.zeros(1), np.ones(1), np.array([23.0]), np.array([dispersion]))
    of = spectra(shapes, 1.25, 256)
    return beats(of, code, np.zeros(1), np.array([mean_ms / 1000]), np.ones(256), 640)[0].T.astype(float)
