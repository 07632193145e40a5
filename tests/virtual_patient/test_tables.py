"""The tables of the virtual patient: every figure says its unit, its source and how sure we are; shares are shares."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ecg_gym.core import Patient
from ecg_gym.virtual_patient import draw_heart, rhythm
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.heart import draw_patient
from ecg_gym.virtual_patient.population import population

PATIENT_FIGURES = ("age_years", "weight_kg", "height_cm", "potassium", "magnesium", "calcium", "creatinine_clearance")


def rows() -> dict[str, dict]:
    timing = yaml.safe_load(Path(rhythm.__file__).with_name("rhythms.yaml").read_text(encoding="utf-8"))["timing"]
    sections = {**population(), "timing": timing, **{name: heart_table()[name] for name in ("hazards", "findings")}}
    return {f"{section}.{name}": row for section, table in sections.items() for name, row in table.items()}


@pytest.mark.parametrize("name", rows())
def test_every_figure_has_unit_source_and_confidence(name: str) -> None:
    row = rows()[name]
    assert row["unit"]
    assert len(row["source"]) > 5
    assert row["confidence"] in ("H", "M", "L")
    if "low" in row:
        assert row["low"] < row["high"]


@pytest.mark.parametrize("name", ["conduction", "scar", "injury"])
def test_shares_sum_to_one(name: str) -> None:
    assert sum(v for v in population()["disease"][name].values() if isinstance(v, float)) == pytest.approx(1)


def test_everybody_drawn_lies_within_the_table() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        patient = draw_patient(rng)
        for name in PATIENT_FIGURES:
            row = population()["patient"][name]
            assert row["low"] <= getattr(patient, name) <= row["high"], name
        heart = draw_heart(rng, patient)
        long_qt = heart.rhythm == "torsade" or "congenital_long_qt" in heart.patient.conditions
        for name in ("pr_ms", "sdnn_ms", "qrs_ms", "qtcf_ms", "tpeak_tend_ms"):
            row = population()["heart"][name]
            if name == "qtcf_ms" and long_qt:
                assert heart.qtcf_ms > 400
                continue
            assert row["low"] <= getattr(heart, name) <= row["high"], name


def test_what_is_known_of_a_patient_is_kept() -> None:
    known = Patient(age_years=71.0, sex="F", potassium=3.1)
    samples = draw_patient(np.random.default_rng(0), known)
    assert (samples.age_years, samples.sex, samples.potassium) == (71.0, "F", 3.1)
    assert samples.weight_kg is not None
