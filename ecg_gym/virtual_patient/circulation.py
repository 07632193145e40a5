"""Mean arterial pressure and the strength of the ventricle: what no strip shows, and what drugs and rhythms cost.

``mean_pressure`` is the law of ``circulation.yaml``; ``people_at_rest`` draws what is a person's own.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ecg_gym.columns import WORDS
from ecg_gym.core import Patient
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.yaml_files import read_yaml


class PressureLaw(NamedTuple):
    """The figures of the law; see the table."""

    flow: float
    vessels: float
    slow_from_bpm: float
    slow_exponent: float
    fast_from_bpm: float
    fast_share: float
    fast_scale_bpm: float
    least_output: float
    standstill_mmhg: float


class Cuff(NamedTuple):
    """SDs [mmHg] of a reading: the person's own, that of every reading, and a factor on it in an irregular rhythm."""

    person: float
    reading: float
    irregular: float


@cache
def circulation() -> Mapping[str, Any]:
    """The table."""
    return read_yaml(Path(__file__).with_name("circulation.yaml"))


@cache
def pressure_law() -> PressureLaw:
    """The law's figures."""
    return PressureLaw(**{name: float(row["value"]) for name, row in circulation()["law"].items()})


@cache
def cuff() -> Cuff:
    """The errors of a reading."""
    row = circulation()["cuff"]
    return Cuff(float(row["person"]["sd"]), float(row["reading"]["sd"]), float(row["irregular"]["value"]))


@cache
def outputs() -> np.ndarray:
    """Output of each rhythm ``(R,)`` beside sinus rhythm at the same rate, in the order of the table of rhythms."""
    row = circulation()["output"]
    return np.array([float(row.get(name, 1.0)) for name in rhythms()])


@njit(inline="always")
def mean_pressure(law, own_mmhg, own_contractility, output, contractility, resistance, hr):
    """Mean arterial pressure [mmHg] at a ventricular rate [1/min] under factors of what is on board."""
    if not hr > 0:
        return law.standstill_mmhg
    flow = 1.0
    if hr < law.slow_from_bpm:
        flow = (hr / law.slow_from_bpm) ** law.slow_exponent
    elif hr > law.fast_from_bpm:
        flow = 1 - law.fast_share * (hr - law.fast_from_bpm) / law.fast_scale_bpm
    flow = max(flow * output * contractility, law.least_output)
    mmhg = own_mmhg * flow ** (law.flow / math.sqrt(own_contractility)) if flow != 1 else own_mmhg
    return mmhg * resistance**law.vessels if resistance != 1 else mmhg


def own_circulation(conditions: frozenset[str], z_pressure: Any, z_contractility: Any, scar: Any = False) -> Any:
    """A person's own MAP [mmHg] and contractility at rest out of their conditions and two standard normal scores.

    Numbers or arrays; ``scar`` counts as a myocardial infarction.
    """
    table = circulation()["people"]
    added, factor = 0.0, 1.0
    for name in sorted(conditions):
        if row := table["conditions"].get(name):
            added, factor = added + row["map_mmhg"], factor * row["contractility"]
    old = table["conditions"]["myocardial_infarction"]
    unnamed = np.asarray(scar) & ("myocardial_infarction" not in conditions)
    pressure, strength = table["map_mmhg"], table["contractility"]
    mmhg = pressure["mean"] + added + np.where(unnamed, old["map_mmhg"], 0.0) + pressure["sd"] * z_pressure
    contractility = factor * np.where(unnamed, old["contractility"], 1.0) * np.exp(strength["sd"] * z_contractility)
    return np.clip(mmhg, pressure["low"], pressure["high"]), np.clip(contractility, strength["low"], strength["high"])


def draw_circulation(rng: np.random.Generator, patient: Patient, scar: str) -> tuple[float, float]:
    """One person's own MAP [mmHg] and contractility; two draws."""
    z = rng.standard_normal(2)
    mmhg, contractility = own_circulation(patient.conditions, z[0], z[1], bool(scar))
    return float(mmhg), float(contractility)


def people_at_rest(group: np.ndarray, scar: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Own MAP [mmHg] and contractility ``(B,)`` of people of these groups, from scores ``z (B, 2)``."""
    mmhg, contractility = np.empty(len(group)), np.empty(len(group))
    for code in np.unique(group):
        rows = group == code
        mmhg[rows], contractility[rows] = own_circulation(WORDS.rows[code][0], z[rows, 0], z[rows, 1], scar[rows])
    return mmhg, contractility
