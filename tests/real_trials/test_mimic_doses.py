"""Drug names as a hospital spells them, and the tables of the open demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.real_trials.mimic_doses import administrations, drug_named
from ecg_gym.real_trials.mimic_tables import Hospital, hours_of, load_rule, machine_intervals, year_of

RULE = load_rule()


@pytest.mark.parametrize(
    ("name", "drug"),
    [
        ("Amiodarone", "amiodarone"), ("NORepinephrine", "norepinephrine"), ("quiniDINE Sulfate", "quinidine"),
        ("Potassium Chloride", "potassium_chloride"), ("Insulin (Regular) for Hyperkalemia", "insulin"),
        ("Magnesium Sulfate", "magnesium"), ("Lidocaine", "lidocaine"),
    ],
)  # fmt: skip
def test_names_are_understood(name: str, drug: str) -> None:
    assert drug_named(name, RULE) == (drug, False)


@pytest.mark.parametrize(
    "name",
    ["Lidocaine 5% Patch", "Lidocaine Viscous 2%", "Lidocaine 1% (For PICC/Midline Insertions)", "Lidocaine-Prilocaine",
     "Potassium Chl 20 mEq / 1000 mL NS", "Diltiazem Extended-Release", "Metoprolol Succinate XL", "Verapamil SR",
     "quiniDINE Gluconate E.R.", "Hydroxychloroquine Sulfate", "Propranolol", "Tamoxifen Citrate",
     "Heparin Flush (10 units/ml)",
     "Heparin Dwell (1000 Units/mL)", "Insulin Glargine", "Milk of Magnesia", "Magnesium Oxide", "Acetaminophen"],
)  # fmt: skip
def test_forms_and_mixtures_that_do_not_count_are_excluded(name: str) -> None:
    assert drug_named(name, RULE) is None


def test_controls_are_recognised() -> None:
    assert drug_named("Heparin Sodium", RULE) == ("heparin", True)
    assert drug_named("0.9% Sodium Chloride", RULE) == ("", True)


def test_the_rule_speaks_the_packages_words() -> None:
    drugs = {row["drug"] for row in [*RULE["drugs"], *RULE["controls"]]} - {""}
    assert drugs <= set(FORMULARY.names)
    assert set(RULE["items"].values()) <= drugs
    assert set(RULE["conditions"]) <= set(CONDITIONS)


def test_sentinels_are_not_measurements() -> None:
    cells = {"rr_interval": "857", "p_onset": "29999", "qrs_onset": "200", "qrs_end": "290", "t_end": "600"}
    assert machine_intervals(cells, RULE) == {"RR": 857, "PR": None, "QRS": 90, "QT": 400}
    assert machine_intervals({**cells, "rr_interval": "65535"}, RULE)["RR"] is None


def test_times_in_both_spellings() -> None:
    assert hours_of("2142-07-31 01:54:00") == hours_of("7/31/2142 1:54")
    assert hours_of("") is None
    assert year_of(hours_of("2142-07-31 01:54:00") or 0) == 2142
    with pytest.raises(ValueError, match="a time is 'yesterday'; expected for example"):
        hours_of("yesterday")


def test_the_open_demos_prescriptions_are_read(real_data: Callable[[str], Path]) -> None:
    demo = Hospital(real_data("mimic_iv_demo"), real_data("mimic_iv_demo"))
    subjects = {cells["subject_id"] for cells in demo.rows("hosp/patients")}
    assert len(subjects) == 100
    doses, lost = administrations(demo, RULE, subjects)
    assert {dose.source for dose in doses} == {"prescription"}, "the demo has no eMAR"
    drugs = {dose.drug for dose in doses}
    assert {"amiodarone", "metoprolol", "furosemide", "ondansetron", "heparin", ""} <= drugs
    assert all(dose.dose is None or dose.dose.amount > 0 for dose in doses)
    assert sum(lost.values()) < len(doses), "most of what is meant is understood"
