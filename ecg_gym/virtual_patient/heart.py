"""``Heart``: everything that is constant in one person, hidden sensitivities included, and how people are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Patient
from ecg_gym.pharmacology import Sensitivity, draw_sensitivities
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.lead_field import Pose
from ecg_gym.virtual_patient.rhythm import rhythms

N_POSES = 32  # electrode matrices are kept, so people share a library of poses


@dataclass(frozen=True)
class Heart:
    """One person's heart at rest, with nothing on board."""

    patient: Patient
    rhythm: str  # a row of rhythms.yaml
    rate_bpm: float  # in that rhythm [1/min]
    sinus_rate_bpm: float  # after conversion to sinus rhythm [1/min]
    pr_ms: float
    sdnn_ms: float
    qrs_ms: float  # of a normally conducted beat
    qtcf_ms: float  # at rest; the truth of a strip is measured, not read here
    tpeak_tend_ms: float
    sensitivity: Sensitivity
    conduction: str = "normal"  # normal, lbbb, rbbb, bifascicular, preexcited
    scar: str = ""  # "", anterior, inferior, lateral: old infarction
    injury: str = ""  # the same territories: acute
    pose: int = 0  # index into the library of poses
    r_gain: float = 1.0  # factor on all potentials
    t_gain: float = 1.0  # factor on the dispersion of repolarisation, so on T
    p_gain: float = 1.0
    noise: float = 1.0  # factor on the electrode noise; above 3 a poor recording

    def converted(self) -> Heart:
        """The same heart back in sinus rhythm."""
        return replace(self, rhythm="sinus", rate_bpm=self.sinus_rate_bpm)


@cache
def poses() -> tuple[Pose, ...]:
    """The library: how hearts turn and shift between adults (about 12 degrees and 8 mm SD; own judgement, L)."""
    rng = np.random.default_rng(20)
    drawn = [
        Pose(tuple(rng.normal(0, 0.2, 3)), tuple(rng.normal(0, (8, 10, 5))), float(np.exp(rng.normal(0, 0.04))))
        for _ in range(N_POSES - 1)
    ]
    return (Pose(), *drawn)


def draw_heart(
    rng: np.random.Generator,
    patient: Patient | None = None,
    rhythm: str | None = None,
    conduction: str | None = None,
    scar: str | None = None,
    healthy: bool = False,
) -> Heart:
    """A person and a heart; what is given is kept, the rest is drawn from the spreads in ``default_heart.json``.

    ``healthy`` draws a trial volunteer: sinus rhythm, no block, no scar, good recording.
    """
    patient = draw_patient(rng, patient)
    table, row = heart_table()["population"], rhythms()
    if rhythm is None:
        names = [name for name, r in row.items() if r["share"] > 0]
        shares = np.array([row[name]["share"] for name in names])
        drawn = str(rng.choice(names, p=shares / shares.sum()))
        rhythm = "sinus" if healthy else drawn
    if rhythm not in row:
        raise ValueError(f"rhythm is {rhythm!r}; expected one of {', '.join(row)}; choose one of them")
    normal = lambda mean_sd: float(rng.normal(*mean_sd))  # noqa: E731
    sinus_rate = float(np.clip(normal(row["sinus"]["rate_bpm"]), 48, 95))
    low, high = _rate_limits(row[rhythm])
    paths = ["normal", "lbbb", "rbbb", "bifascicular", "preexcited"]
    path = str(rng.choice(paths, p=[0.86, 0.045, 0.05, 0.025, 0.02]))
    scars = str(rng.choice(["", "anterior", "inferior", "lateral"], p=[0.88, 0.045, 0.045, 0.03]))
    injured = str(rng.choice(["", "anterior", "inferior"], p=[0.97, 0.015, 0.015]))
    poor = rng.random() < 0.04
    return Heart(
        patient=patient,
        rhythm=rhythm,
        rate_bpm=sinus_rate if rhythm == "sinus" else float(np.clip(normal(row[rhythm]["rate_bpm"]), low, high)),
        sinus_rate_bpm=sinus_rate,
        pr_ms=float(np.clip(normal(row[rhythm].get("pr_ms", table["pr_ms"])), 115, 380)),
        sdnn_ms=float(np.clip(normal(table["sdnn_ms"]), 8, 90)),
        qrs_ms=float(np.clip(normal(table["qrs_ms"][patient.sex or "F"]), 78, 118)),
        qtcf_ms=float(np.clip(normal(table["qtcf_ms"][patient.sex or "F"]), 365, 465)),
        tpeak_tend_ms=float(np.clip(normal(table["tpeak_tend_ms"]), 60, 95)),
        sensitivity=draw_sensitivities((patient,), [rng])[0],
        conduction=conduction or ("normal" if healthy else path),
        scar=scar if scar is not None else ("" if healthy else scars),
        injury="" if healthy or scar or scars else injured,
        pose=int(rng.integers(N_POSES)),
        r_gain=float(np.exp(rng.normal(0, table["r_gain_ln_sd"]))),
        t_gain=float(np.exp(rng.normal(0, table["t_gain_ln_sd"]))),
        p_gain=float(np.exp(rng.normal(0, table["p_gain_ln_sd"]))),
        noise=float(rng.uniform(4, 8)) if poor and not healthy else float(np.exp(rng.normal(-0.2, 0.35))),
    )


def draw_patient(rng: np.random.Generator, known: Patient | None = None) -> Patient:
    """A person whose unknown facts are drawn (adults, electrolytes mostly normal); known ones are kept."""
    sex = str(rng.choice(["F", "M"]))
    drawn: dict[str, Any] = {
        "age_years": float(np.round(rng.uniform(20, 85))),
        "sex": sex,
        "weight_kg": float(np.clip(rng.normal(68 if sex == "F" else 80, 12), 42, 130).round(1)),
        "height_cm": float(np.clip(rng.normal(164 if sex == "F" else 177, 7), 145, 205).round()),
        "potassium": float(np.clip(rng.normal(4.2, 0.35), 2.8, 6.2).round(2)),
        "magnesium": float(np.clip(rng.normal(0.85, 0.08), 0.5, 1.3).round(2)),
        "calcium": float(np.clip(rng.normal(2.35, 0.1), 1.8, 2.9).round(2)),
    }
    drawn["creatinine_clearance"] = float(
        np.clip(rng.normal(125 - 0.75 * max(0, drawn["age_years"] - 30), 15), 20, 160)
    )
    if known is None:
        return Patient(**drawn)
    return replace(known, **{name: value for name, value in drawn.items() if getattr(known, name) is None})


def _rate_limits(row: dict[str, Any]) -> tuple[float, float]:
    mean, sd = row["rate_bpm"]
    return mean - 2.5 * sd, mean + 2.5 * sd
