"""Does the virtual trial land where the real one landed? SCR-002, measured from waveforms by our own delineator.

The trial's people (their sex, age and weight), its doses and its nominal peaks; three strips before the dose and three
at the peak, of the drug and of placebo. An effect is the change from the own baseline minus the placebo's at the same
hour. The pharmacology was calibrated on these very means, so this tests the chain (kinetics, block, waveform,
delineation), not the pharmacology's foresight. Real effects: Johannesen 2014, doi:10.1038/clpt.2014.155.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ecg_gym.core import ECG, Administration, Dose, Patient
from ecg_gym.pharmacology import exposure, modulate
from ecg_gym.virtual_patient import Heart, draw_heart, synthesise
from ecg_gym.waveform import measure

ENDPOINTS = {  # name in the table of the real trial -> name of ours, and its unit
    "HR": ("hr_bpm", "1/min"),
    "PR": ("pr_ms", "ms"),
    "QRS": ("qrs_ms", "ms"),
    "QTcF": ("qtcf_ms", "ms"),
    "JTpeakc": ("jtpeakc_ms", "ms"),
    "TpTe": ("tpeak_tend_ms", "ms"),
}
BASELINE_H, REPLICATES, RATE_HZ = -0.5, 3, 500.0


@dataclass(frozen=True)
class Arm:
    """One drug of the trial, at its nominal peak."""

    drug: str
    called: str  # in the trial's tables
    amount_mg: float
    peak_h: float


ARMS = (
    Arm("dofetilide", "Dofetilide", 0.5, 2.5),
    Arm("quinidine", "Quinidine Sulph", 400.0, 2.0),
    Arm("ranolazine", "Ranolazine", 1500.0, 4.0),
    Arm("verapamil", "Verapamil HCL", 120.0, 1.0),
)


def study(data: Path, seeds: int = 3) -> dict[str, Any]:
    """The study's document; ``data`` holds ``reference_effects.csv`` and ``SCR-002.Clinical.Data.csv``.

    Every seed draws the trial's 22 people anew, with other hearts and sensitivities; a pair is inside if the mean over
    all virtual people lies in the real 95 % interval. ValueError if the tables are not there.
    """
    real, people = _real_effects(data), _people(data)
    effects = {arm.drug: np.concatenate([_cohort(arm, people, seed) for seed in range(seeds)]) for arm in ARMS}
    pairs = [pair for arm in ARMS for pair in _pairs(arm, effects[arm.drug], real)]
    return {
        "study": "drug-effects",
        "world": "virtual",
        "n_patients": len(people) * seeds,
        "seeds": list(range(seeds)),
        "calibrated_on_these": True,
        "pairs": pairs,
        "inside_count": sum(pair["inside"] for pair in pairs),
        "no_effect_inside_count": sum(pair["no_effect_inside"] for pair in pairs),
        "of": len(pairs),
    }


def _cohort(arm: Arm, people: list[Patient], seed: int) -> np.ndarray:
    """``(n, 6)`` placebo-corrected changes from baseline, a row per person, a column per endpoint."""
    rows = []
    for number, patient in enumerate(people):
        rng = np.random.default_rng([seed, number])
        heart = draw_heart(rng, patient, healthy=True)
        taken = (Administration(0.0, Dose(arm.drug, arm.amount_mg, "mg", "PO")),)
        change = [
            _triplicate(heart, given, arm.peak_h, rng) - _triplicate(heart, given, BASELINE_H, rng)
            for given in (taken, ())
        ]
        rows.append(change[0] - change[1])
    return np.array(rows)


def _triplicate(heart: Heart, given: tuple[Administration, ...], hours: float, rng: np.random.Generator) -> np.ndarray:
    """``(6,)`` mean over three strips of each endpoint, measured; NaN where none could be."""
    now = exposure(given, heart.patient, hours, heart.sensitivity)
    change = modulate(now, heart.patient, heart.sensitivity, clock_hours=hours)
    strips = np.stack([synthesise(heart, change, rng, RATE_HZ)[0] for _ in range(REPLICATES)])
    values = measure(ECG(strips, RATE_HZ)).as_array([ours for ours, _ in ENDPOINTS.values()])
    values = np.asarray(values).reshape(REPLICATES, -1)
    known = np.isfinite(values).any(axis=0)
    return np.where(known, np.nanmean(np.where(known, values, 0.0), axis=0), np.nan)


def _pairs(arm: Arm, effects: np.ndarray, real: dict[tuple[str, str], dict[str, float]]) -> Iterator[dict[str, Any]]:
    for column, (endpoint, (_, unit)) in enumerate(ENDPOINTS.items()):
        values = effects[:, column][np.isfinite(effects[:, column])]
        row = real[arm.called, endpoint]
        mean, half = float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
        yield {
            "drug": arm.drug,
            "endpoint": endpoint,
            "unit": unit,
            "real_mean": row["mean"],
            "real_ci": [row["low"], row["high"]],
            "virtual_mean": round(mean, 2),
            "virtual_ci": [round(mean - half, 2), round(mean + half, 2)],
            "n": len(values),
            "inside": bool(row["low"] <= mean <= row["high"]),
            "no_effect_inside": bool(row["low"] <= 0 <= row["high"]),
        }


def _real_effects(data: Path) -> dict[tuple[str, str], dict[str, float]]:
    found = {}
    for row in _table(data / "reference_effects.csv"):
        if row["effect"] == "placebo-corrected" and row["timepoint"].startswith("at nominal Tmax"):
            figures = {"mean": float(row["mean"]), "low": float(row["ci95_low"]), "high": float(row["ci95_high"])}
            found[row["treatment"], row["endpoint"]] = figures
    return found


def _people(data: Path) -> list[Patient]:
    rows = {row["RANDID"]: row for row in _table(data / "SCR-002.Clinical.Data.csv")}
    return [
        Patient(float(r["AGE"]), r["SEX"], float(r["WGHT"]), float(r["HGHT"]), potassium=4.2) for r in rows.values()
    ]


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; expected the ECGRDVQ tables of the trial SCR-002; get them from PhysioNet "
            "(ecgrdvq 1.0.0, ODC-By) and pass their folder with --data"
        )
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
