"""``Truth``: what is known about a strip because it was made, not measured; for tests, oracles and labels only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby

import numpy as np

from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.rhythm import Train
from ecg_gym.virtual_patient.rhythm_table import rhythms

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


def findings(heart: Heart, train: Train, intervals: Mapping[str, float]) -> np.ndarray:
    """``(17,)`` bool: which findings a careful reader would report."""
    row, hr, pr = rhythms()[heart.rhythm], intervals["hr_bpm"], intervals["pr_ms"]
    degree, limit = row.get("av_block", 1), _values("findings")
    long_pr = pr > limit["av_block_pr_ms"]
    result = {
        "Poor data quality": heart.noise > limit["poor_quality_noise"],
        "Sinus rhythm": row["leader"] == "sinus" and not (degree == 3 and not np.isfinite(train.pr_s).any()),
        "Premature ventricular contraction": row["leader"] == "sinus" and any("ectopic" in k for k in train.kind),
        "Tachycardia": hr > limit["tachycardia_bpm"],
        "Ventricular tachycardia": row["leader"] in ("ventricular", "torsade") or _longest_run(train.kind) >= 3,
        "Supraventricular tachycardia with aberrancy": row["leader"] == "reentry",
        "Atrial fibrillation": train.waves == "fibrillation",
        "Atrial flutter": train.waves == "flutter",
        "Bradycardia": hr < limit["bradycardia_bpm"],
        "Accessory pathway conduction": "preexcited" in train.kind,
        "Atrioventricular block": degree > 1 or long_pr or "escape" in train.kind,
        "1st degree atrioventricular block": degree == 1 and long_pr,
        "Bifascicular block": "bifascicular" in train.kind,
        "Right bundle branch block": bool({"rbbb", "bifascicular"} & set(train.kind)),
        "Left bundle branch block": "lbbb" in train.kind,
        "Infarction": bool(heart.scar or heart.injury),
        "Electronic pacemaker": row["leader"] == "paced",
    }
    return np.array([bool(result[name]) for name in FINDINGS])


def _longest_run(kinds: tuple[str, ...]) -> int:
    """The most ectopic ventricular beats in a row; three are a run of ventricular tachycardia."""
    return max((len(list(run)) for ectopic, run in groupby(kinds, key=lambda k: "ectopic" in k) if ectopic), default=0)


def hazards(heart: Heart, change: Modulation, intervals: Mapping[str, float], potassium: float) -> dict[str, float]:
    """Hazards [1/h] of a lethal rhythm: monotone in what is known to matter; figures and sources in the heart's table.

    Torsade rises exponentially with QTcF, more above 500 ms, with unopposed I_Kr block, with low potassium and at slow
    rates; VT/VF with scar, injury, sodium block, a potassium out of range, a ventricle driven at 210/min and above, and
    a high potassium that slows conduction; asystole with block and extreme slowness.
    """
    inputs = (np.array([value]) for value in (ischaemia(heart), intervals["qtcf_ms"], intervals["hr_bpm"], potassium))
    return {name: float(rate[0]) for name, rate in hazards_of(change, *inputs).items()}


def ischaemia(heart: Heart) -> float:
    """What scar, injury and running VT add to the hazard of VT/VF [1/h]."""
    h = _values("hazards")
    added = (h["scar"] if heart.scar else 0.0) + (h["injury"] if heart.injury else 0.0)
    return added + (h["running_vt"] if heart.rhythm == "vt" else 0.0)


def hazards_of(
    change: Modulation, ischaemic: np.ndarray, qtcf_ms: np.ndarray, hr_bpm: np.ndarray, potassium: np.ndarray
) -> dict[str, np.ndarray]:
    """``hazards`` at many looks, arrays ``(N,)``: ``change`` has numbers or arrays ``(N,)`` in its fields."""
    h = _values("hazards")
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
    vt = vt + h["high_potassium_wide"] * slowed
    slower = np.maximum(0.0, h["asystole_below_bpm"] - hr) / h["asystole_scale_bpm"]
    asystole = h["asystole"] * (1 + h["asystole_block"] * change.av_block) * np.exp(slower) * (1 + high_k)
    return {"torsade": torsade, "vt_vf": vt, "asystole": asystole}


@cache
def _values(section: str) -> dict[str, float]:
    """The bare figures of a section of the heart's table."""
    return {name: entry["value"] for name, entry in heart_table()[section].items()}
