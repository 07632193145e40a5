"""``draw_hearts``: B people and their hearts at once, each out of its own stream; distributed as in ``draw_heart``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from scipy.special import ndtri

from ecg_gym.columns import FEMALE, NUMBERS, WORDS, Patients
from ecg_gym.pharmacology.sensitivity import _FACTORS, _SCORES, NAMES, SICK_SINUS, Sensitivity, _spread
from ecg_gym.philox import fill_uniform
from ecg_gym.streams import PATIENT, Streams
from ecg_gym.virtual_patient import columns
from ecg_gym.virtual_patient.circulation import people_at_rest
from ecg_gym.virtual_patient.heart import N_POSES
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.transitions import ages, arrhythmia_age

DRAW = -1  # a code that is left to chance
_UNIFORMS = 64  # numbers that one person takes
_AGE, _WEIGHT, _HEIGHT, _POTASSIUM, _MAGNESIUM, _CALCIUM, _KIDNEY = range(7)  # columns of Patients.numbers
TYPICAL = Sensitivity.typical().as_array()


def draw_hearts(
    streams: Streams,
    patients: Patients,
    *,
    rhythm: np.ndarray,
    conduction: np.ndarray,
    scar: np.ndarray,
    healthy: np.ndarray,
    typical: np.ndarray,
    noise: np.ndarray,
) -> tuple[Patients, np.ndarray]:
    """The people with what was unknown drawn, and their hearts ``(B, N_HEART)``.

    ``rhythm``, ``conduction`` and ``scar`` are codes ``(B,)`` of ``columns.words``, ``DRAW`` where chance decides;
    ``healthy (B,)`` draws trial volunteers, ``typical (B,)`` people who answer drugs as the average adult does, and
    ``noise (B,)`` is the level of their recordings' noise, NaN where it is drawn.
    """
    n, here = len(streams), streams.at(PATIENT)
    u = np.empty((n, _UNIFORMS))
    fill_uniform(here.key, here.counter, u)
    z = ndtri(np.maximum(u, 2.0**-54))
    usual, sick = population()["heart"], population()["disease"]
    patients = _people(patients, u, z)
    female = patients.numbers[:, FEMALE] != 0
    table = _rhythm_figures()
    place = np.searchsorted(table["upto"], u[:, 8] * table["upto"][-1], side="right")
    rhythm = np.where(rhythm != DRAW, rhythm, np.where(healthy, table["sinus"], place)).astype(np.int64)
    sinus = _within(usual["sinus_rate_bpm"], table["rate"][table["sinus"]] + table["sd"][table["sinus"]] * z[:, 9])
    path, scars, injured = (_kind(sick[name], u[:, 10 + i]) for i, name in enumerate(("conduction", "scar", "injury")))
    long_qt, patients = _long_qt_ms(sick["long_qt"], patients, z[:, 13], u[:, 14], healthy)
    hearts = np.empty((n, columns.N_HEART))
    reach = usual["rate_reach"]["value"]
    other = table["rate"][rhythm] + table["sd"][rhythm] * np.clip(z[:, 15], -reach, reach)
    hearts[:, columns.RATE] = np.where(rhythm == table["sinus"], sinus, other)
    hearts[:, columns.SINUS] = sinus
    pr = np.where(np.isnan(table["pr"][rhythm]), usual["pr_ms"]["mean"], table["pr"][rhythm])
    pr_sd = np.where(np.isnan(table["pr"][rhythm]), usual["pr_ms"]["sd"], table["pr_sd"][rhythm])
    hearts[:, columns.PR] = _within(usual["pr_ms"], pr + pr_sd * z[:, 16])
    hearts[:, columns.SDNN] = _normal(usual["sdnn_ms"], z[:, 17])
    hearts[:, columns.QRS] = _normal(usual["qrs_ms"], z[:, 18], female)
    own = table["qtcf"][rhythm] + table["qtcf_sd"][rhythm] * z[:, 19]
    hearts[:, columns.QTCF] = np.where(np.isnan(own), _normal(usual["qtcf_ms"], z[:, 19], female) + long_qt, own)
    hearts[:, columns.TPEAK_TEND] = _normal(usual["tpeak_tend_ms"], z[:, 20])
    for i, name in enumerate(("r_gain", "t_gain", "p_gain")):
        hearts[:, columns.R_GAIN + i] = np.exp(usual[name].get("mean", 0.0) + usual[name]["sd"] * z[:, 21 + i])
    hearts[:, columns.NOISE] = np.where(np.isnan(noise), _noise(u[:, 24], u[:, 25], z[:, 26], healthy), noise)
    hearts[:, columns.RHYTHM] = rhythm
    fixed, free = table["conduction"][rhythm], np.where(conduction != DRAW, conduction, np.where(healthy, 0, path))
    hearts[:, columns.CONDUCTION] = np.where(fixed != DRAW, fixed, free)
    hearts[:, columns.SCAR] = np.where(scar != DRAW, scar, np.where(healthy, 0, scars))
    sound = healthy | (scar > 0) | (scars > 0)
    hearts[:, columns.INJURY] = np.where(sound, 0, injured)
    hearts[:, columns.POSE] = np.floor(u[:, 27] * N_POSES)
    sensitivity = _sensitivities(patients, z[:, 28:48], u[:, 48])
    hearts[:, columns.FIRST_SENSITIVITY : columns.FIRST_OFFSET] = np.where(typical[:, None], TYPICAL, sensitivity)
    hearts[:, columns.FIRST_OFFSET : columns.OWN_MAP] = z[:, 50 : 50 + columns.N_OFFSETS]
    scarred = hearts[:, columns.SCAR] > 0
    own = people_at_rest(patients.group, scarred, z[:, 58:60])
    hearts[:, columns.OWN_MAP], hearts[:, columns.OWN_CONTRACTILITY] = own
    hearts[:, columns.ARRHYTHMIA] = hearts[:, columns.RATE]
    hearts[:, columns.SINCE] = np.where(ages(rhythm), -arrhythmia_age(z[:, 60]), 0.0)
    hearts[:, columns.RETURNS], hearts[:, columns.BASE] = -1, table["sinus"]
    return patients, hearts


def _within(row: Mapping[str, Any], value: np.ndarray) -> np.ndarray:
    return np.clip(value, row["low"], row["high"])


def _normal(row: Mapping[str, Any], z: np.ndarray, female: np.ndarray | None = None) -> np.ndarray:
    mean = row["mean"]
    if isinstance(mean, Mapping):
        assert female is not None  # rows that differ by sex are asked with it
        mean = np.where(female, mean["F"], mean["M"])
    return _within(row, mean + row["sd"] * z)


def _kind(row: Mapping[str, Any], u: np.ndarray) -> np.ndarray:
    """Codes ``(B,)`` of the row's kinds, by their shares; 0 is ``normal`` or none."""
    shares = np.array([value for name, value in row.items() if name not in ("unit", "source", "confidence")])
    return np.minimum(np.searchsorted(np.cumsum(shares), u, side="right"), len(shares) - 1)


@cache
def _rhythm_figures() -> dict[str, Any]:
    """Shares, rates, PR, QTcF and conduction of each rhythm ``(R,)``; NaN or ``DRAW`` where it has none."""
    rows, none = list(rhythms().values()), (np.nan, np.nan)
    paths = columns.words()["conduction"]
    pr, qtcf = (np.array([row.get(name, none) for row in rows], float) for name in ("pr_ms", "qtcf_ms"))
    rate = np.array([row["rate_bpm"] for row in rows], float)
    return {
        "upto": np.cumsum([row["share"] for row in rows]),
        "sinus": list(rhythms()).index("sinus"),
        "rate": rate[:, 0], "sd": rate[:, 1], "pr": pr[:, 0], "pr_sd": pr[:, 1], "qtcf": qtcf[:, 0],
        "qtcf_sd": qtcf[:, 1],
        "conduction": np.array([paths.index(r["conduction"]) if "conduction" in r else DRAW for r in rows]),
    }  # fmt: skip


def _people(facts: Patients, u: np.ndarray, z: np.ndarray) -> Patients:
    """People whose unknown facts are drawn; known ones are kept."""
    table, numbers = population()["patient"], np.empty_like(facts.numbers)
    woman = u[:, 1] < 0.5
    age = table["age_years"]
    numbers[:, _AGE] = np.round(age["low"] + (age["high"] - age["low"]) * u[:, 0])
    numbers[:, FEMALE] = woman
    for column, digits in ((_WEIGHT, 1), (_HEIGHT, 0), (_POTASSIUM, 2), (_MAGNESIUM, 2), (_CALCIUM, 2)):
        numbers[:, column] = np.round(_normal(table[NUMBERS[column]], z[:, 1 + column], woman), digits)
    kidney = table["creatinine_clearance"]
    mean = kidney["mean"] + kidney["per_year"] * np.maximum(0, numbers[:, _AGE] - kidney["from_years"])
    numbers[:, _KIDNEY] = _within(kidney, mean + kidney["sd"] * z[:, 7])
    return Patients(np.where(np.isnan(facts.numbers), numbers, facts.numbers), facts.group)


def _long_qt_ms(
    row: Mapping[str, Any], patients: Patients, z: np.ndarray, u: np.ndarray, healthy: np.ndarray
) -> tuple[np.ndarray, Patients]:
    """How much longer [ms] a congenital long QT makes it, and the people, those who have one with that condition."""
    name = "congenital_long_qt"
    groups, place = np.unique(patients.group, return_inverse=True)
    has_condition = np.array([name in WORDS.rows[g][0] for g in groups])[place]
    has = has_condition | ((u < row["share"]) & ~healthy)
    new, group = has & ~has_condition, patients.group
    if new.any():
        group = group.copy()
        for i in np.flatnonzero(new):
            conditions, medication = WORDS.rows[group[i]]
            group[i] = WORDS.code((conditions | {name}, medication))
    return np.where(has, _normal(row, z), 0.0), Patients(patients.numbers, group)


def _noise(u: np.ndarray, level: np.ndarray, z: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    table = population()["recording"]
    poor, usual = table["poor_level"], table["level"]
    bad = poor["low"] + (poor["high"] - poor["low"]) * level
    return np.where((u < table["poor"]["value"]) & ~healthy, bad, np.exp(usual.get("mean", 0.0) + usual["sd"] * z))


def _sensitivities(patients: Patients, z: np.ndarray, u: np.ndarray) -> np.ndarray:
    """``(B, 20)`` in the order of ``sensitivity.NAMES``."""
    spread, place = _spread(), {name: i for i, name in enumerate(NAMES)}
    out = np.empty((len(z), len(NAMES)))
    for i, name in enumerate(_SCORES):
        out[:, place[name]] = z[:, i]
    for i, name in enumerate(_FACTORS):
        out[:, place[name]] = np.exp(spread[name] * z[:, len(_SCORES) + i])
    out[:, place["notch"]] = spread["notch"] * z[:, len(_SCORES) + len(_FACTORS)]
    groups, where = np.unique(patients.group, return_inverse=True)
    poor, sick = (
        np.array([name in WORDS.rows[g][0] for g in groups])[where] for name in ("poor_metaboliser_cyp2d6", SICK_SINUS)
    )
    out[:, place["poor_metaboliser"]] = (u < spread["poor_metaboliser"]) | poor
    out[sick, place["sinus_node"]] *= spread[SICK_SINUS]
    return out
