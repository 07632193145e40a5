"""The study that puts the virtual trial beside the real one: its arithmetic on known tables, and where it lands."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ecg_gym.clinical_trial import Protocol, load_protocol
from training.cli.app import app
from training.evaluation.virtual_patient import drug_effects

PEOPLE, HOURS = 6, (0.5, 1.0, 2.0, 2.5, 4.0)


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return replace(load_protocol("ecgrdvq"), endpoints=drug_effects.SHOWN, hours=HOURS)


def table(protocol: Protocol, between: float = 0.0, within: float = 0.0, drift: float = 0.0, effect: float = 0.0):
    """Rows of a trial in which QT has these SDs between people and within triplicates, drift per hour, and effect."""
    rng, rows = np.random.default_rng(0), []
    own = between * np.resize([-1.0, 1.0], PEOPLE) / np.std(np.resize([-1.0, 1.0], PEOPLE), ddof=1)
    for person in range(PEOPLE):
        for arm in protocol.arms:
            for hour in protocol.all_hours:
                after = 0.0 if hour in protocol.baseline_hours else hour
                moved = drift * after + (effect * after if arm.doses else 0.0)
                noise = within * rng.permutation([-1.0, 0.0, 1.0])
                for i in range(3):
                    qt = 400 + own[person] + moved + noise[i]
                    rows.append(
                        {"RANDID": person, "ARM": arm.name, "EXTRT": arm.label, "TPT": hour, "RR": 1000, "PR": 160,
                         "QRS": 90, "QT": qt, "JTPEAK": qt - 170, "TPEAKTEND": 80,
                         "PCSTRESN": 100 + person if arm.doses and after else None}
                    )  # fmt: skip
    return rows


def test_scatter_of_a_known_table(protocol: Protocol) -> None:
    result = drug_effects.scatter(protocol, table(protocol, between=12, within=5))
    qtcf = drug_effects.SHOWN.index("QTcF")
    assert result["between_subjects"][qtcf] == pytest.approx(12)
    assert result["within_triplicates"][qtcf] == pytest.approx(5)
    assert result["between_visits"][qtcf] == pytest.approx(0, abs=1e-9)
    assert result["within_triplicates"][drug_effects.SHOWN.index("HR")] == 0


def test_ratios_pool_variances_over_cohorts(protocol: Protocol) -> None:
    real = table(protocol, between=10, within=4)
    cohorts = [table(protocol, between=6, within=4), table(protocol, between=8, within=4)]
    rows = {(row["kind"], row["endpoint"]): row for row in drug_effects.spreads(protocol, real, cohorts)}
    row = rows["between_subjects", "QTcF"]
    assert row["ratio"] == pytest.approx(np.sqrt((36 + 64) / 2) / 10, abs=2e-3)
    assert row["inside"] is True
    assert rows["within_triplicates", "QTcF"]["ratio"] == 1


def test_drift_is_judged_beside_a_flat_line(protocol: Protocol) -> None:
    rows = drug_effects.placebo_drift(protocol, table(protocol, drift=2), [table(protocol, drift=1)])
    (qtcf,) = [row for row in rows if row["endpoint"] == "QTcF"]
    square = np.sqrt(np.mean(np.square(HOURS)))
    assert qtcf["rmse"] == pytest.approx(square, abs=0.01)
    assert qtcf["rmse_flat"] == pytest.approx(2 * square, abs=0.01)


def test_courses_and_levels_of_equal_tables_agree(protocol: Protocol) -> None:
    real = table(protocol, between=9, within=3, drift=2, effect=4)
    courses = drug_effects.time_courses(protocol, real, [real, real])
    assert all(row["inside"] for row in courses)
    (row,) = [r for r in courses if (r["drug"], r["endpoint"], r["hour"]) == ("verapamil", "QTcF", 2.0)]
    assert (row["real_mean"], row["virtual_mean"], row["virtual_n"]) == (8, 8, 2 * PEOPLE)
    levels = drug_effects.concentrations(protocol, real, [real])
    assert len(levels) == 4 * len(HOURS)
    assert {(row["real_mean"], row["virtual_mean"], row["inside"]) for row in levels} == {(102.5, 102.5, True)}


def test_it_says_where_to_find_its_tables(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "drug-effects", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "ECGRDVQ" in result.stderr
    result = CliRunner().invoke(app, ["study", "drug-effects", "--data", str(tmp_path), "--world", "flat"])
    assert result.exit_code == 2
    assert "flat" in result.stderr


def test_data_are_found_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ecgrdvq").mkdir()
    monkeypatch.setenv("ECG_GYM_DATA", str(tmp_path))
    assert drug_effects.default_data() == tmp_path / "ecgrdvq"


def test_our_arithmetic_gives_the_reference_effects_of_the_real_table(real_data) -> None:
    protocol = replace(load_protocol("ecgrdvq"), endpoints=drug_effects.SHOWN)
    rows, effects = (
        drug_effects.real_rows(real_data("ecgrdvq"), protocol),
        drug_effects.real_effects(real_data("ecgrdvq")),
    )
    ours = {(r["drug"], r["endpoint"], r["hour"]): r for r in drug_effects.time_courses(protocol, rows, [rows])}
    for drug, hour in drug_effects.PEAK_HOURS.items():
        for endpoint in drug_effects.SHOWN:
            row, reference = ours[drug, endpoint, hour], effects[protocol.arm(drug).label, endpoint]
            assert row["real_mean"] == pytest.approx(reference["mean"], abs=0.06), (drug, endpoint)
            assert row["real_ci_low"] == pytest.approx(reference["low"], abs=0.06), (drug, endpoint)
    assert len(drug_effects.real_people(rows)) == drug_effects.PEOPLE
    assert max(float(row["PR"]) for row in rows if row["PR"] == row["PR"]) < 600


def test_the_protocols_hours_are_the_tables(real_data) -> None:
    with open(real_data("ecgrdvq") / drug_effects.TABLE, newline="", encoding="utf-8") as file:
        hours = {float(row["TPT"]) for row in csv.DictReader(file)}
    assert sorted(hours) == sorted(load_protocol("ecgrdvq").all_hours)


@pytest.mark.slow
def test_the_virtual_trial_lands_where_the_real_one_landed(real_data, tmp_path: Path) -> None:
    done = drug_effects.study(real_data("ecgrdvq"), seeds=2)
    document = json.loads(json.dumps(done.document, allow_nan=False))
    assert document["of"] == 24
    assert document["inside_count"] >= 22  # saying "no effect" would be 10
    assert document["no_effect_inside_count"] < 12
    assert document["concentrations_inside"] == document["concentrations_of"] == 60
    assert document["spread_inside"] == document["spread_of"] == 12
    for row in document["placebo_drift"]:
        assert row["rmse"] < 0.7 * row["rmse_flat"], row["endpoint"]
    effect = {(pair["drug"], pair["endpoint"]): pair["virtual_mean"] for pair in document["pairs"]}
    assert effect["dofetilide", "QTcF"] > 50
    assert effect["verapamil", "PR"] > 15
    assert drug_effects.save_figure(done, tmp_path / "courses.png").stat().st_size < 250_000
