"""Against a real trial: concentrations and effects of SCR-002 (Johannesen 2014, doi:10.1038/clpt.2014.155)."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from ecg_gym.core import Administration, Dose, Patient
from ecg_gym.pharmacology import FORMULARY, concentrations, draw_sensitivities, exposure, modulate
from ecg_gym.pharmacology.circadian import drift

ARMS = {
    "dofetilide": ("Dofetilide", 0.5, 2.5, 1e-3),  # name in the table, mg, nominal peak [h], to ng/mL (table: pg/mL)
    "quinidine": ("Quinidine Sulph", 400.0, 2.0, 1.0),
    "ranolazine": ("Ranolazine", 1500.0, 4.0, 1.0),
    "verapamil": ("Verapamil HCL", 120.0, 1.0, 1.0),
}
ENDPOINTS = ("HR", "PR", "QRS", "QTcF", "JTpeakc", "TpTe")
COHORTS = 8  # times the trial's own 22 people
BASELINE_HR, BASELINE_QRS = 57.5, 97.4  # [bpm], [ms] means of the trial before dosing


@pytest.fixture(scope="module")
def table(real_data) -> list[dict[str, str]]:
    folder: Path = real_data("ecgrdvq")
    with open(folder / "SCR-002.Clinical.Data.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cohort(table):
    """The trial's people, several times over, each time with other hidden differences."""
    people = {r["RANDID"]: Patient(sex=r["SEX"], age_years=float(r["AGE"]), weight_kg=float(r["WGHT"])) for r in table}
    patients = list(people.values()) * COHORTS
    return list(zip(patients, draw_sensitivities(patients, np.random.default_rng(20140723))))


def measured(table: list[dict[str, str]], name: str, scale: float) -> dict[float, np.ndarray]:
    """Plasma concentrations [ng/mL] of all subjects, by hour."""
    values = defaultdict(dict)
    for row in table:
        if row["EXTRT"] == name and row["PCSTRESN"] not in ("", "NA"):
            values[float(row["TPT"])][row["RANDID"]] = scale * float(row["PCSTRESN"])
    return {hour: np.array(list(v.values())) for hour, v in sorted(values.items())}


@pytest.mark.parametrize("drug", ARMS)
def test_concentrations_follow_the_trial(drug: str, table, cohort) -> None:
    name, amount, _, scale = ARMS[drug]
    real = measured(table, name, scale)
    hours = np.array(list(real))
    given = [Administration(0.0, Dose(drug, amount, "mg", "PO"))]
    ours = np.array([concentrations(given, p, hours, s)[0, :, FORMULARY.index[drug]] for p, s in cohort])
    for i, (hour, values) in enumerate(real.items()):
        mean, spread = values.mean(), values.std(ddof=1)
        assert abs(ours[:, i].mean() - mean) < spread, (drug, hour)  # within the between-subject spread at all times
        if hour >= 2:  # within 15 %, or within what 22 people can tell
            sampling = 2.08 * spread / len(values) ** 0.5
            assert ours[:, i].mean() == pytest.approx(mean, abs=max(0.15 * mean, sampling)), (drug, hour)
            assert 0.4 < ours[:, i].std() / spread < 2.2, (drug, hour)


@pytest.mark.parametrize("drug", ARMS)
def test_mean_effects_at_the_peak_lie_in_the_trials_intervals(drug: str, real_data, cohort) -> None:
    name, amount, peak, _ = ARMS[drug]
    intervals = real_intervals(real_data("ecgrdvq") / "reference_effects.csv", name)
    given = [Administration(0.0, Dose(drug, amount, "mg", "PO"))]
    changes = [modulate(exposure(given, p, peak, s), p, s) for p, s in cohort]
    qrs = BASELINE_QRS * (1 / np.array([m.conduction for m in changes]) - 1)
    jtpeak, tpeak_tend = np.array([[m.jtpeak_ms, m.tpeak_tend_ms] for m in changes]).T
    ours = {
        "HR": BASELINE_HR * np.mean([m.sinus_rate - 1 for m in changes]),
        "PR": np.mean([m.pr_ms for m in changes]),
        "QRS": qrs.mean(),
        "QTcF": (jtpeak + tpeak_tend + qrs).mean(),
        "JTpeakc": jtpeak.mean(),
        "TpTe": tpeak_tend.mean(),
    }
    outside = {e: (round(float(ours[e]), 1), intervals[e]) for e in ENDPOINTS if not inside(ours[e], intervals[e])}
    assert not outside


def inside(value: float, interval: tuple[float, float]) -> bool:
    return interval[0] <= value <= interval[1]


def real_intervals(path: Path, name: str) -> dict[str, tuple[float, float]]:
    """95 % intervals of the placebo-corrected effects at the nominal peak."""
    with open(path, encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["treatment"] == name and r["effect"] == "placebo-corrected"]
    nominal = [r for r in rows if r["timepoint"].startswith("at nominal")]
    return {r["endpoint"]: (float(r["ci95_low"]), float(r["ci95_high"])) for r in nominal}


def test_placebo_drifts_as_in_the_trial(table) -> None:
    placebo = defaultdict(lambda: defaultdict(list))
    for row in table:
        if row["EXTRT"] == "Placebo" and "NA" not in (row["RR"], row["TPEAKTEND"], row["JTPEAK"]):
            rr = float(row["RR"]) / 1000
            values = (60 / rr, float(row["JTPEAK"]) / rr**0.58, float(row["TPEAKTEND"]))
            placebo[float(row["TPT"])][row["RANDID"]].append(np.array(values))
    mean = {hour: np.mean([np.mean(v, 0) for v in people.values()], 0) for hour, people in placebo.items()}
    for hour in (1.5, 3.0, 4.0, 6.0, 8.0, 12.0, 14.0):
        rate, jtpeak, tpeak_tend = mean[hour] - mean[-0.5]
        ours = drift(hour)
        assert BASELINE_HR * ours["sinus_rate"] == pytest.approx(rate, abs=2.5), hour
        assert ours["jtpeak_ms"] + ours["tpeak_tend_ms"] == pytest.approx(jtpeak + tpeak_tend, abs=5), hour
