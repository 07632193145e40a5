"""``Truth``: what is known about a strip because it was made, not measured; for tests, oracles and labels only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.circulation import mean_pressure, outputs, pressure_law
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.transitions import transition_yaml

FINDINGS = (
    "Poor data quality",
    "Sinus rhythm",
    "Premature ventricular contraction",
    "Tachycardia",
    "Ventricular tachycardia",
    "Supraventricular tachycardia with aberrancy",
    "Atrial fibrillation",
    "Atrial flutter",
    "Bradycardia",
    "Accessory pathway conduction",
    "Atrioventricular block",
    "1st degree atrioventricular block",
    "Bifascicular block",
    "Right bundle branch block",
    "Left bundle branch block",
    "Infarction",
    "Electronic pacemaker",
)  # the order of the 17 labels of ECG-FM (Oh 2024 and its label table)


HAZARDS = ("torsade", "vt_vf", "asystole")


@dataclass(frozen=True)
class Truth:
    """The truth of one strip."""

    rhythm: str
    qrs_s: np.ndarray  # (M,) onset of each ventricular beat [s] from the start of the strip
    kinds: tuple[str, ...]  # (M,) activation map of each beat
    p_s: np.ndarray  # (P,) onset of each P wave [s]
    intervals: Mapping[str, float]  # the names of waveform.Intervals, of the noise-free typical beat; NaN where absent
    findings: np.ndarray  # (17,) bool, in the order of FINDINGS
    hazard_per_hour: Mapping[str, float]  # the names of HAZARDS [1/h]
    fiducials: Mapping[str, np.ndarray] = field(default_factory=dict)  # (M,) and for P (P,) each [s]; NaN where absent
    concentrations: Mapping[str, float] = field(default_factory=dict)  # plasma [ng/mL], what is on board only


def hazards(heart: Heart, change: Modulation, intervals: Mapping[str, float], potassium: float) -> dict[str, float]:
    """Hazards [1/h] of a lethal rhythm: monotone in what is known to matter; figures and sources in the heart's table.

    Torsade rises exponentially with QTcF, more above 500 ms, with unopposed I_Kr block, with low potassium and at slow
    rates; VT/VF with scar, injury, sodium block, a potassium out of range, a ventricle driven at 210/min and above, and
    a high potassium that slows conduction, and a shock; asystole with block, extreme slowness, an escape focus that
    fails, and a mean pressure below 65 mmHg.
    """
    hr = float(intervals["hr_bpm"])
    mmhg, fails = pressure_of(heart, change, hr), escape_fails(heart, change, hr)
    inputs = ischaemia(heart), intervals["qtcf_ms"], max(hr, change.pacing_bpm), potassium, mmhg, fails
    rates = hazards_of(change, *(np.array([value]) for value in inputs))
    return {name: float(rate[0]) for name, rate in rates.items()}


def pressure_of(heart: Heart, change: Modulation, hr_bpm: float) -> float:
    """Mean arterial pressure [mmHg] of a heart at a ventricular rate, or paced where that is faster."""
    paced = change.pacing_bpm > hr_bpm
    output = outputs()[list(rhythms()).index("paced" if paced else heart.rhythm)]
    rate = change.pacing_bpm if paced else hr_bpm
    return mean_pressure(
        pressure_law(), heart.map_mmhg, heart.contractility, output, change.contractility, change.resistance, rate
    )


def escape_fails(heart: Heart, change: Modulation, hr_bpm: float) -> float:
    """The hazard [1/h] that its escape focus fails; none where a pacemaker paces."""
    row = transition_yaml()["rhythms"].get(heart.rhythm, {}).get("fails", {})
    return 0.0 if change.pacing_bpm > hr_bpm else float(row.get("per_hour", 0.0))


def ischaemia(heart: Heart) -> float:
    """What scar, injury and a running ventricular tachycardia add to the hazard of VT/VF [1/h]."""
    h = hazard_values()
    added = (h["scar"] if heart.scar else 0.0) + (h["injury"] if heart.injury else 0.0)
    return added + {"vt": h["running_vt"], "torsade": h["running_torsade"]}.get(heart.rhythm, 0.0)


def hazards_of(
    change: Modulation,
    ischaemic: np.ndarray,
    qtcf_ms: np.ndarray,
    hr_bpm: np.ndarray,
    potassium: np.ndarray,
    map_mmhg: np.ndarray,
    escape_fails: np.ndarray,
) -> dict[str, np.ndarray]:
    """``hazards`` at many looks, arrays ``(N,)``: ``change`` has numbers or arrays ``(N,)`` in its fields."""
    h = hazard_values()
    qtcf = np.where(np.isnan(qtcf_ms), h["typical_qtcf_ms"], qtcf_ms)
    hr = np.where(np.isnan(hr_bpm), h["typical_hr_bpm"], hr_bpm)
    low_k, high_k = np.maximum(0.0, h["low_potassium"] - potassium), np.maximum(0.0, potassium - h["high_potassium"])
    unopposed = np.maximum(0.0, change.ikr_block - change.ical_block - change.inal_block)
    torsade = h["torsade"] * np.exp(h["torsade_per_10_ms"] * np.maximum(0.0, qtcf - h["torsade_from_ms"]) / 10)
    torsade *= 1 + h["torsade_above_500"] / (1 + np.exp(-(qtcf - h["torsade_level_ms"]) / h["torsade_level_width_ms"]))
    slow = np.maximum(0.0, h["torsade_slow_from_bpm"] - hr) / h["torsade_slow_scale_bpm"]
    torsade *= (1 + h["torsade_unopposed"] * unopposed) * (1 + low_k) * (1 + slow)
    vt = (h["vt_vf"] + ischaemic * change.ectopy) * (1 + h["vt_ina_block"] * change.ina_block)
    vt = vt * (1 + h["vt_high_potassium"] * high_k + low_k)
    vt = vt + h["fast"] * np.maximum(0.0, hr - h["fast_from_bpm"]) / h["fast_scale_bpm"]
    slowed = np.maximum(0.0, 1 / change.conduction - 1) * np.maximum(0.0, potassium - h["wide_from_potassium"])
    vt = vt + h["high_potassium_wide"] * slowed + h["shock_vf"] * change.shock * change.ectopy
    slower = np.maximum(0.0, h["asystole_below_bpm"] - hr) / h["asystole_scale_bpm"]
    asystole = h["asystole"] * (1 + h["asystole_block"] * change.av_block) * np.exp(slower) * (1 + high_k)
    low = np.maximum(0.0, h["hypotension_from_mmhg"] - map_mmhg) / h["hypotension_scale_mmhg"]
    asystole = asystole + escape_fails + h["hypotension"] * low**2
    return {"torsade": torsade, "vt_vf": vt, "asystole": asystole}


@cache
def hazard_values() -> dict[str, float]:
    """The figures of the hazards: those of the heart's table, and those that came with the transitions."""
    more = {name: float(row["value"]) for name, row in transition_yaml()["danger"].items()}
    return table_values("hazards") | more


@cache
def table_values(section: str) -> dict[str, float]:
    """The bare figures of a section of the heart's table."""
    return {name: entry["value"] for name, entry in heart_table()[section].items()}
