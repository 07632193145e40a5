"""Hearts as columns: what is constant in B people as one matrix, and what is true of each at this hour as another.

``Heart`` objects are made of a row when somebody asks for one; the kernel reads the matrices.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Patient
from ecg_gym.pharmacology.effects import MODULATION
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.sensitivity import NAMES as SENSITIVITY
from ecg_gym.pharmacology.sensitivity import Sensitivity
from ecg_gym.virtual_patient.excitation import tissue_in
from ecg_gym.virtual_patient.heart import Heart, poses
from ecg_gym.virtual_patient.population import kinds, population
from ecg_gym.virtual_patient.rhythm_table import rhythms

NUMBERS = ("rate_bpm", "sinus_rate_bpm", "pr_ms", "sdnn_ms", "qrs_ms", "qtcf_ms", "tpeak_tend_ms", "r_gain", "t_gain",
           "p_gain", "noise")  # fmt: skip
CODES = ("rhythm", "conduction", "scar", "injury", "pose")
(RATE, SINUS, PR, SDNN, QRS, QTCF, TPEAK_TEND, R_GAIN, T_GAIN, P_GAIN, NOISE) = range(len(NUMBERS))
(RHYTHM, CONDUCTION, SCAR, INJURY, POSE) = range(len(NUMBERS), len(NUMBERS) + len(CODES))
FIRST_SENSITIVITY = len(NUMBERS) + len(CODES)
FIRST_OFFSET = FIRST_SENSITIVITY + len(SENSITIVITY)
N_OFFSETS = 8  # standard normal numbers of a person: how readings of this heart are off, the last those of the cuff
CUFF = FIRST_OFFSET + N_OFFSETS - 1
LIFE = ("map_mmhg", "contractility", "arrhythmia_bpm", "since_hours")
LIFE_CODES = ("returns", "base")  # rhythms, by the codes of ``words``; -1 where there is none
(OWN_MAP, OWN_CONTRACTILITY, ARRHYTHMIA, SINCE) = range(FIRST_OFFSET + N_OFFSETS, FIRST_OFFSET + N_OFFSETS + len(LIFE))
(RETURNS, BASE) = range(SINCE + 1, SINCE + 1 + len(LIFE_CODES))
N_HEART = BASE + 1  # columns of the matrix of hearts

SERUM = ("potassium", "magnesium", "calcium")
MINUTE = ("rate", "pr_ms", "apd_ms", "block", "atrial")  # three standard normal, one uniform, one standard normal
SHOWN = ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "jtpeak_ms", "tpeak_tend_ms", "qtcf_ms", "t_amplitude_mv")
# of the usual beat: its path, the share of premature beats, whether AV conduction is gone, whether a pacemaker paces
USUAL = ("kind", "ectopic", "complete", "paced")
CIRCULATION = ("map_mmhg", "contractility")  # as they are now
FIRST_SERUM = len(MODULATION)
FIRST_MINUTE = FIRST_SERUM + len(SERUM)
FIRST_SHOWN = FIRST_MINUTE + len(MINUTE)
FIRST_USUAL = FIRST_SHOWN + len(SHOWN)
PACED = FIRST_USUAL + USUAL.index("paced")
MAP, CONTRACTILITY = FIRST_USUAL + len(USUAL), FIRST_USUAL + len(USUAL) + 1
N_NOW = CONTRACTILITY + 1  # columns of the matrix of this hour


@cache
def words() -> dict[str, tuple[str, ...]]:
    """The words behind the codes of each column of ``CODES`` but the pose, which is ``Heart.seat``: of this process."""
    disease = population()["disease"]
    territories = tuple("" if kind == "none" else kind for kind in kinds(disease["scar"]))
    injuries = tuple("" if kind == "none" else kind for kind in kinds(disease["injury"]))
    return {"rhythm": tuple(rhythms()), "conduction": kinds(disease["conduction"]), "scar": territories,
            "injury": injuries}  # fmt: skip


@cache
def _places() -> dict[str, dict[str, int]]:
    return {column: {word: i for i, word in enumerate(kinds)} for column, kinds in words().items()}


def heart_row(heart: Heart) -> np.ndarray:
    """One heart as a row ``(N_HEART,)``."""
    places = _places()
    codes = [places[name][getattr(heart, name)] for name in CODES[:-1]]
    numbers = [getattr(heart, name) for name in NUMBERS]
    life = [getattr(heart, name) for name in LIFE]
    life += [places["rhythm"].get(getattr(heart, name), -1) for name in LIFE_CODES]
    return np.array([*numbers, *codes, heart.seat, *heart.sensitivity.as_array(), *[0.0] * N_OFFSETS, *life], float)


def heart_of(row: np.ndarray, patient: Patient) -> Heart:
    """The heart of a row."""
    fields: dict[str, Any] = dict(zip(NUMBERS, map(float, row)))
    fields |= {name: kinds[int(row[len(NUMBERS) + i])] for i, (name, kinds) in enumerate(words().items())}
    fields |= dict(zip(LIFE, map(float, row[OWN_MAP:RETURNS])))
    fields |= {name: _rhythm_of(row[RETURNS + i]) for i, name in enumerate(LIFE_CODES)}
    own = Sensitivity.from_array(row[FIRST_SENSITIVITY:FIRST_OFFSET])
    slot, pose = divmod(int(row[POSE]), len(poses()))
    return Heart(patient=patient, sensitivity=own, pose=pose, tissue=tissue_in(slot), **fields)


def _rhythm_of(code: float) -> str:
    return "" if code < 0 else words()["rhythm"][int(code)]


def as_paced(hearts: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Hearts ``(B, N_HEART)`` as they beat: in paced rhythm where a pacemaker has taken over."""
    paced = now[:, PACED] > 0
    if not paced.any():
        return hearts
    hearts = hearts.copy()
    hearts[paced, RHYTHM] = words()["rhythm"].index("paced")
    hearts[paced, RATE] = now[paced, MODULATION.index("pacing_bpm")]
    return hearts


def modulation_row(row: np.ndarray) -> Modulation:
    """The modulation of a row of this hour."""
    return Modulation(*map(float, row[:FIRST_SERUM]))
