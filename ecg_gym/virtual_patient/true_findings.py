"""The findings that are true of planned strips: what a careful reader would report."""

from __future__ import annotations

from functools import cache

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.beat_trains import TORSADE
from ecg_gym.virtual_patient.rhythm_arrays import RHYTHMS, WAVES
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.strip_plan import StripPlan, TrueIntervals
from ecg_gym.virtual_patient.truth import FINDINGS, table_values

_ECTOPIC = np.array([kind.startswith("ectopic") for kind in KINDS])


def true_findings(plan: StripPlan, intervals: TrueIntervals) -> np.ndarray:
    """``(B, 17)`` bool in the order of FINDINGS."""
    trains, hearts = plan.trains, plan.hearts
    there = np.zeros((len(plan), len(KINDS)), bool)
    run, conducted = np.zeros(len(plan), np.int64), np.zeros(len(plan), bool)
    _kinds_there(trains.qrs_s, trains.kind, trains.pr_s, trains.beats, plan.start_s, plan.seconds, _ECTOPIC, there,
                 run, conducted)  # fmt: skip
    has = {kind: there[:, code] for code, kind in enumerate(KINDS)}
    leader, degree = (column[hearts.rhythm] for column in _rhythm_columns())
    limit, hr, pr = table_values("findings"), intervals.hr_bpm, intervals.pr_ms
    with np.errstate(invalid="ignore"):
        long_pr, fast, slow = pr > limit["av_block_pr_ms"], hr > limit["tachycardia_bpm"], hr < limit["bradycardia_bpm"]
    sinus = leader == "sinus"
    result = {
        "Poor data quality": hearts.noise > limit["poor_quality_noise"],
        "Sinus rhythm": sinus & ~((degree == 3) & ~conducted),
        "Premature ventricular contraction": sinus & there[:, _ECTOPIC].any(axis=1),
        "Tachycardia": fast,
        "Ventricular tachycardia": np.isin(leader, ("ventricular", "torsade")) | (run >= 3),
        "Supraventricular tachycardia with aberrancy": leader == "reentry",
        "Atrial fibrillation": trains.waves == WAVES.index("fibrillation"),
        "Atrial flutter": trains.waves == WAVES.index("flutter"),
        "Bradycardia": slow,
        "Accessory pathway conduction": has["preexcited"],
        "Atrioventricular block": (degree > 1) | long_pr | has["escape"],
        "1st degree atrioventricular block": (degree == 1) & long_pr,
        "Bifascicular block": has["bifascicular"],
        "Right bundle branch block": has["rbbb"] | has["bifascicular"],
        "Left bundle branch block": has["lbbb"],
        "Infarction": (hearts.scar > 0) | (hearts.injury > 0),
        "Electronic pacemaker": leader == "paced",
    }
    return np.stack([result[name] for name in FINDINGS], axis=1)


@cache
def _rhythm_columns() -> tuple[np.ndarray, np.ndarray]:
    """Who leads, and the degree of AV block, by the code of RHYTHMS."""
    rows = rhythms()
    return (
        np.array([rows[name]["leader"] for name in RHYTHMS]),
        np.array([rows[name].get("av_block", 1) for name in RHYTHMS]),
    )


@compiled
def _kinds_there(
    qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray, beats: np.ndarray, start: np.ndarray, seconds: float,
    ectopic: np.ndarray, there: np.ndarray, run: np.ndarray, conducted: np.ndarray,
) -> None:  # fmt: skip
    """Which kinds of beats begin within each strip, the longest run of ectopic ones, and whether any P conducted."""
    for b in range(len(beats)):
        length = 0
        for i in range(beats[b]):
            if not start[b] <= qrs[b, i] < start[b] + seconds:
                continue
            code = kind[b, i]
            if code == TORSADE:
                length = 0
                continue
            there[b, code] = True
            length = length + 1 if ectopic[code] else 0
            run[b] = max(run[b], length)
            conducted[b] |= not np.isnan(pr[b, i])
