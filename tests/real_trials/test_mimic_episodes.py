"""The episode rule, a person per case: windows, exclusions, doses, facts, controls, attrition; and aVF before aVL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hospital import DAY0, VirtualHospital, time
from typer.testing import CliRunner

from ecg_gym.core import Dose, limb_from_independent
from ecg_gym.datasets import read_record
from ecg_gym.real_trials import read_manifest, read_pairs, read_real
from ecg_gym.real_trials.mimic_episodes import Episode, find_episodes, write_episodes
from ecg_gym.real_trials.mimic_tables import Hospital, load_rule
from ecg_gym.waveform import to_model_grid
from training.cli.app import app

SOTALOL = ("Sotalol", 80, "mg", "PO/NG")


@pytest.fixture
def hospital(tmp_path: Path) -> VirtualHospital:
    return VirtualHospital(tmp_path)


def episodes_of(hospital: VirtualHospital, **windows: object) -> tuple[list[Episode], dict[str, int]]:
    hospital.write()
    rule = load_rule()
    return find_episodes(Hospital(hospital.clinical, hospital.ecg), {**rule, "windows": {**rule["windows"], **windows}})


def usual(hospital: VirtualHospital, subject: int = 10_000_001, **record: object) -> None:
    """ECG at -1 h, sotalol at 0, ECGs at 0.5 (too early) and 3 h."""
    hospital.person(subject)
    hospital.record(subject, -30)
    hospital.record(subject, -1)
    hospital.dose(subject, 0, *SOTALOL)
    hospital.record(subject, 0.5)
    hospital.record(subject, 3, **record)
    hospital.record(subject, 5)


def test_the_last_ecg_before_and_the_first_in_the_routes_window(hospital: VirtualHospital) -> None:
    usual(hospital)
    (episode,), attrition = episodes_of(hospital)
    assert episode.after.hours - episode.before.hours == pytest.approx(4.0)
    assert [(given.drug, given.dose) for given in episode.doses] == [("sotalol", Dose("sotalol", 80.0, "mg", "PO"))]
    assert (episode.arm, episode.control, episode.clock_hours) == ("sotalol", False, pytest.approx(-1.0))
    assert (attrition["ECGs"], attrition["with an ECG before"], attrition["episodes"]) == (5, 1, 1)


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda h, s: h.record(s, -25), "with an ECG before"),
        (lambda h, s: None, "with an ECG before"),
    ],
)
def test_an_old_ecg_before_does_not_count(hospital: VirtualHospital, change, step: str) -> None:
    subject = 10_000_002
    hospital.person(subject)
    change(hospital, subject)
    hospital.dose(subject, 0, *SOTALOL)
    hospital.record(subject, 3)
    episodes, attrition = episodes_of(hospital)
    assert not episodes
    assert (attrition["first doses of a drug in an admission"], attrition[step]) == (1, 0)


def test_each_exclusion_is_counted_at_its_step(hospital: VirtualHospital) -> None:
    usual(hospital, 10_000_001, report="Atrial-paced rhythm")
    usual(hospital, 10_000_002, rr=65535)
    usual(hospital, 10_000_003)
    hospital.tables["icu/procedureevents"].append([10_000_003, "", "", time(1), time(90), 225792, 1])
    usual(hospital, 10_000_004)
    hospital.tables["icu/procedureevents"].append([10_000_004, "", "", time(-90), time(90), 225792, 1])
    episodes, attrition = episodes_of(hospital)
    assert [episode.subject for episode in episodes] == ["10000004"], "steady ventilation is no reason"
    steps = ("with an ECG after", "without pacing", "measurable", "with steady ventilation", "episodes")
    assert [attrition[step] for step in steps] == [4, 3, 2, 1, 1]
    kept, _ = episodes_of(hospital, ventilation=False)
    assert len(kept) == 2, "every rule can be switched"


def test_windows_are_configurable(hospital: VirtualHospital) -> None:
    usual(hospital)
    (episode,), _ = episodes_of(hospital, after={"PO": [0.25, 1]})
    assert episode.after.hours - episode.before.hours == pytest.approx(1.5)
    assert not episodes_of(hospital, before=0.5)[0]


def test_other_drugs_join_with_their_own_hours(hospital: VirtualHospital) -> None:
    usual(hospital)
    hospital.dose(10_000_001, -6, "Metoprolol Tartrate", 25, "mg", "PO")
    hospital.dose(10_000_001, 2, "Ondansetron", 4, "mg", "IV")
    hospital.dose(10_000_001, 9, "Ondansetron", 4, "mg", "IV")
    hospital.tables["icu/inputevents"].append(
        [10_000_001, 30_000_001, 1, time(1), time(2), 221347, 60, "mg", 1, "mg/min", "FinishedRunning"]
    )
    episodes, _ = episodes_of(hospital)
    episode = next(e for e in episodes if "sotalol" in e.arm)
    doses = [(given.drug, round(given.hours - episode.before.hours, 3)) for given in episode.doses]
    assert doses == [("metoprolol", -5.0), ("sotalol", 1.0), ("amiodarone", 2.0), ("ondansetron", 3.0)]
    assert episode.doses[2].dose == Dose("amiodarone", 60.0, "mg", "IV", 1.0)
    assert episode.arm == "sotalol + amiodarone + ondansetron"


@pytest.mark.parametrize(
    ("name", "amount", "unit", "route", "reason"),
    [
        ("Lidocaine 5% Patch", 1, "PTCH", "TD", None),
        ("Lidocaine Jelly 2% (Urojet)", 1, "APPL", "TP", None),
        ("Maalox/Diphenhydramine/Lidocaine", 15, "ml", "PO", None),
        ("moxifloxacin eye drops", 1, "DROP", "BOTH EYES", None),
        ("Metoprolol Succinate XL", 50, "mg", "PO", None),
        ("Amoxicillin", 500, "mg", "PO", None),
        ("Sotalol", "___", "mg", "PO", "dose not understood"),
        ("Sotalol", 1, "TAB", "PO", "dose not understood"),
        ("Sotalol", 80, "mg", "PR", "route not understood"),
        ("Sotalol", 80, "mg", "IM", "route not understood"),
        ("Dofetilide", 500, "mcg", "IV", "dose that the formulary cannot convert"),
    ],
)
def test_what_is_no_dose_of_a_drug_is_no_episode(hospital: VirtualHospital, name, amount, unit, route, reason) -> None:
    hospital.person(10_000_001)
    hospital.record(10_000_001, -1)
    hospital.dose(10_000_001, 0, name, amount, unit, route)
    hospital.record(10_000_001, 3)
    episodes, attrition = episodes_of(hospital)
    assert not episodes
    lost = {step: n for step, n in attrition.items() if step.startswith("doses lost")}
    assert lost == ({f"doses lost: {reason}": 1} if reason else {})


def test_only_what_was_administered_counts(hospital: VirtualHospital) -> None:
    hospital.person(10_000_001)
    hospital.record(10_000_001, -1)
    hospital.dose(10_000_001, 0, *SOTALOL, event="Not Given")
    hospital.record(10_000_001, 3)
    episodes, attrition = episodes_of(hospital)
    assert (episodes, attrition["doses lost: not administered"]) == ([], 1)


def test_prescriptions_are_a_fallback_and_flagged(hospital: VirtualHospital) -> None:
    hospital.person(10_000_001)
    hospital.record(10_000_001, -1)
    hospital.record(10_000_001, 3)
    hospital.tables["hosp/prescriptions"].append(
        [10_000_001, 30_000_001, time(0), time(48), "MAIN", "Sotalol", 80, "mg", "PO/NG"]
    )
    (episode,), _ = episodes_of(hospital)
    assert episode.arm == "sotalol (prescribed)"
    hospital.dose(10_000_001, 1, *SOTALOL)
    (episode,), _ = episodes_of(hospital)
    assert (episode.arm, episode.doses[0].source) == ("sotalol", "emar")


def test_heparin_and_saline_are_negative_controls_where_nothing_else_was_given(hospital: VirtualHospital) -> None:
    for subject, name, unit in ((10_000_001, "Heparin", "UNIT"), (10_000_002, "0.9% Sodium Chloride", "mL")):
        hospital.person(subject)
        hospital.record(subject, -1)
        hospital.dose(subject, 0, name, 1000, unit, "IV")
        hospital.record(subject, 3)
    usual(hospital, 10_000_003)
    hospital.dose(10_000_003, 0, "Heparin", 1000, "UNIT", "IV")
    episodes, attrition = episodes_of(hospital)
    assert sorted((e.arm, e.control) for e in episodes) == [
        ("control: heparin", True), ("control: saline", True), ("sotalol", False)
    ]  # fmt: skip
    assert attrition["of them negative controls"] == 2


def test_facts_are_the_last_ones_known_and_not_too_old(hospital: VirtualHospital) -> None:
    usual(hospital)
    for hours, item, value in ((-20, 50971, 3.0), (-5, 50971, 4.4), (1, 50971, 9.0), (-2, 50960, 2.0), (-2, 50912, 1.0),
                               (-13, 50893, 8.0)):  # fmt: skip
        hospital.lab(10_000_001, hours, item, value)
    omr = hospital.tables["hosp/omr"]
    omr.append([10_000_001, DAY0.strftime("%Y-%m-%d"), 1, "Weight (Lbs)", 154])
    omr.append([10_000_001, "2179-01-01", 1, "Height (Inches)", 65])
    hospital.tables["hosp/admissions"].append(
        [10_000_001, 19_999_999, "2179-01-01 00:00:00", "2179-02-01 00:00:00", ""]
    )
    codes = hospital.tables["hosp/diagnoses_icd"]
    codes.append([10_000_001, 19_999_999, 1, "I5022", 10])
    codes.append([10_000_001, 30_000_001, 1, "J45909", 10])  # of this admission: coded at discharge
    (episode,), _ = episodes_of(hospital)
    own = episode.patient
    assert (own["sex"], own["age_years"], own["height_cm"], own["weight_kg"]) == ("F", 60, 165.1, 69.9)
    assert (own["potassium"], own["magnesium"]) == (4.4, 0.823)
    assert "calcium" not in own, "13 hours are too old"
    assert own["creatinine_clearance"] == pytest.approx((140 - 60) * 69.9 * 0.85 / 72, abs=0.1)
    assert own["conditions"] == "heart_failure"


def test_avf_comes_before_avl_and_each_lead_is_still_itself(hospital: VirtualHospital) -> None:
    usual(hospital)
    hospital.write()
    for path, signal in list(hospital.signals.items())[:2]:
        read = read_record(hospital.ecg / path).ecg
        np.testing.assert_allclose(read.signal, signal, atol=0.006)
        one, two = read.lead("I"), read.lead("II")
        np.testing.assert_allclose(read.lead("aVL"), one - two / 2, atol=0.02)
        np.testing.assert_allclose(read.lead("aVF"), two - one / 2, atol=0.02)


def test_from_a_hospital_to_shards_with_the_notices(hospital: VirtualHospital, tmp_path: Path) -> None:
    for subject in range(10_000_001, 10_000_007):
        usual(hospital, subject)
    broken = hospital.record(10_000_006, 2.5, lost="V3")
    hospital.write()
    assert broken in hospital.signals
    rule = tmp_path / "rule.yaml"
    rule.write_text(yaml.safe_dump({"windows": {"before": 12}}))
    pairs = tmp_path / "episodes" / "pairs.csv"
    words = ["data", "episodes", "--mimic", hospital.clinical, "--ecg", hospital.ecg, "--out", pairs, "--rule", rule]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert len(read_pairs(pairs)) == 6
    done = CliRunner().invoke(app, ["data", "shards", str(pairs), "--out", str(tmp_path / "shards")])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "shards")
    assert manifest.left_out["a lead is flat"] == 1, "the ECG whose V3 is all zero"
    assert [notice.split(" - ")[0] for notice in manifest.about["notices"]] == [
        "Episodes of patients are confounded", "MIMIC-IV is credentialed"
    ]  # fmt: skip
    trials, known = read_real(tmp_path / "shards")
    first = trials.strips[trials.patient == min(known)][0]
    path = next(t for t in read_pairs(pairs) if t.subject == known[min(known)].subject).strips[0].record
    expected = to_model_grid(read_record(path).ecg).signal
    np.testing.assert_allclose(limb_from_independent(first.astype(np.float32)), expected, atol=0.02)


def test_a_rule_of_ones_own_is_checked(tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text("window: {before: 3}\n")
    with pytest.raises(ValueError, match=r"has the keys \['window'\]; expected some of \["):
        load_rule(tmp_path / "rule.yaml")
    with pytest.raises(ValueError, match=r"is not there; expected a YAML file of the episode rule"):
        load_rule(tmp_path / "nowhere.yaml")


def test_nothing_is_written_without_episodes(hospital: VirtualHospital, tmp_path: Path) -> None:
    usual(hospital)
    hospital.tables["hosp/emar"].clear()
    hospital.write()
    words = ["data", "episodes", "--mimic", hospital.clinical, "--ecg", hospital.ecg, "--out", tmp_path / "pairs.csv"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 2
    assert "no episode is left" in done.output
    assert not (tmp_path / "pairs.csv").exists()


def test_written_pairs_carry_everything(hospital: VirtualHospital, tmp_path: Path) -> None:
    usual(hospital)
    hospital.lab(10_000_001, -1, 50971, 4.1)
    episodes, _ = episodes_of(hospital)
    write_episodes(episodes, load_rule(), hospital.ecg, tmp_path / "pairs.csv")
    (pair,) = read_pairs(tmp_path / "pairs.csv")
    assert (pair.patient.potassium, pair.patient.sex, pair.subject) == (4.1, "F", "mimic-10000001")
    assert [a.hours for a in pair.administrations] == [pytest.approx(0.0, abs=1e-3)]
    assert [strip.hours for strip in pair.strips] == [pytest.approx(-1.0), pytest.approx(3.0)]
