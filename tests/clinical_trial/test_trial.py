"""Virtual trials: protocols and their errors, exact effects, tables, resuming. Real trials are a study's business."""

from __future__ import annotations

import copy
import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from ecg_gym.clinical_trial import load_protocol, parse_protocol, run_trial, shipped_protocols, summarise
from ecg_gym.clinical_trial.effects import difference, interval
from ecg_gym.clinical_trial.population import move
from ecg_gym.clinical_trial.randomisation import assign, latin, williams
from ecg_gym.clinical_trial.trial import subject_rows
from ecg_gym.core import Patient
from ecg_gym.datasets import read_record
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.virtual_patient import draw_heart
from training.cli.app import app

SMALL = yaml.safe_load(
    """
subjects: 3
design: crossover
arms:
  active: [{drug: dofetilide, dose: 0.5, unit: mg, route: PO, time_h: 0}]
  placebo: []
ecg: {baseline_h: [-0.5], hours: [2.5], replicates: 2}
population: {potassium: 4.2}
"""
)
COLUMNS = {  # of the table of SCR-002, what a virtual person cannot have (blood pressure, race) left out
    "EGREFID", "RANDID", "SEX", "AGE", "HGHT", "WGHT", "ARMCD", "VISIT", "EXTRT", "EXDOSE", "EXDOSU", "TPT", "BASELINE",
    "PCTEST", "PCSTRESN", "PCSTRESU", "RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND", "TPEAKTPEAKP", "ERD_30", "LRD_30",
    "Twave_amplitude", "Twave_asymmetry", "Twave_flatness",
}  # fmt: skip


def changed(path: str, value) -> dict:
    """SMALL with one place changed, such as ``arms.active.0.dose``; the value None takes the key out."""
    data = copy.deepcopy(SMALL)
    *way, last = path.split(".")
    place = data
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize("name", shipped_protocols())
def test_shipped_protocols_are_right_by_name_and_by_path(name: str) -> None:
    assert load_protocol(name) == load_protocol(shipped_protocols()[name])
    assert load_protocol(name).placebo == "placebo"


def test_the_ecgrdvq_protocol_is_the_trials() -> None:
    protocol = load_protocol("ecgrdvq")
    doses = {arm.name: [(g.dose.drug, g.dose.amount, g.dose.unit) for g in arm.doses] for arm in protocol.arms}
    assert doses == {
        "ranolazine": [("ranolazine", 1500, "mg")],
        "dofetilide": [("dofetilide", 0.5, "mg")],
        "verapamil": [("verapamil", 120, "mg")],
        "quinidine": [("quinidine", 400, "mg")],
        "placebo": [],
    }
    assert (protocol.subjects, protocol.replicates, len(protocol.all_hours)) == (22, 3, 16)
    assert sum(sex == "F" for sex, _ in assign(protocol, 22, np.random.default_rng(0))) == 11


def test_combinations_keep_their_hours() -> None:
    arm = load_protocol("scr003").arm("mexiletine_dofetilide")
    assert arm.drugs == ("mexiletine", "dofetilide")
    assert arm.label == "Mexiletine + Dofetilide"
    assert [a.hours for a in arm.administrations] == sorted(g.hours for g in arm.doses)


def test_groups_and_crossover_in_one_trial_with_doses_over_days() -> None:
    protocol = load_protocol("ecgcipa")  # the release's name for scr004
    orders = [order for _, order in assign(protocol, 60, np.random.default_rng(0))]
    alone = [order[0] for order in orders if len(order) == 1]
    assert sorted(alone) == sorted(10 * ["ranolazine", "verapamil", "lopinavir_ritonavir", "chloroquine", "placebo"])
    assert sum(set(order) == {"dofetilide", "diltiazem_dofetilide"} for order in orders) == 10
    assert [a.hours for a in protocol.arm("ranolazine").administrations] == [0, 12, 24, 36, 48]
    assert {given.confidence for arm in protocol.arms for given in arm.doses} == {"M", "L"}
    rows = [
        {"RANDID": i, "ARM": order[0], "TPT": hour, "RR": 1000, "QT": 400 + (hour > 0) * 10 * (order[0] != "placebo")}
        for i, order in enumerate(orders) if len(order) == 1 for hour in (-1.0, 51.0)
    ]  # fmt: skip
    corrected = [row for row in summarise(protocol, rows) if row["effect"] == "placebo_corrected"]
    effects = {(row["arm"], row["hour"]): row for row in corrected if row["endpoint"] == "QTcF"}
    assert (effects["ranolazine", 51.0]["mean"], effects["ranolazine", 51.0]["n"]) == (10.0, 10)
    assert effects["dofetilide", 51.0]["n"] == 0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("design", "factorial", "protocol: design is 'factorial'"),
        ("subject", 3, "protocol: subject is an unknown key"),
        ("subjects", 2.5, "protocol: subjects is 2.5; expected a whole number"),
        ("subjects", 0, "protocol: subjects is 0"),
        ("arms", {}, "protocol: arms is {}"),
        ("arms.active", "dofetilide", "protocol: arms.active is 'dofetilide'; expected a list of doses"),
        ("arms.active.0.drug", "snake oil", "protocol: arms.active[0].drug is 'snake oil'"),
        ("arms.active.0.drug", None, "protocol: arms.active[0] is without drug"),
        ("arms.active.0.unit", "U", "unit of dofetilide is 'U'"),
        ("arms.active.0.unit", "mcg/kg/min", "a rate without a duration"),
        ("arms.active.0.route", "IV", "protocol: arms.active[0].route is 'IV'; expected PO for dofetilide"),
        ("arms.active.0.dose", "half", "protocol: arms.active[0].dose is 'half'; expected a number"),
        ("arms.active.0.dose", -1, "protocol: arms.active[0].dose is -1"),
        ("arms.active.0.dosage", 1, "protocol: arms.active[0].dosage is an unknown key"),
        ("placebo", "sugar", "protocol: placebo is 'sugar'; expected one of the arms"),
        ("ecg.hours", [2, 1], "protocol: ecg.hours[1] is 1 after 2; expected hours in order"),
        ("ecg.hours", None, "protocol: ecg is without hours"),
        ("ecg.baseline_h", [3], "protocol: ecg is baseline [3.0]"),
        ("ecg.replicates", 0, "protocol: ecg.replicates is 0"),
        ("population.female", 2, "protocol: population.female is 2"),
        ("population.age_years", [40, 20], "protocol: population.age_years is [40, 20]"),
        ("population.weight_kg", {"mean": 70}, "protocol: population.weight_kg is without sd"),
        ("population.height_cm", {"F": 170}, "population.height_cm.F is an unknown key"),
        ("population.conditions", ["astma"], "protocol: population.conditions is ['astma']"),
        ("population.rhythm", "waltz", "protocol: population.rhythm is 'waltz'"),
        ("population.scar", "deep", "protocol: population.scar is 'deep'"),
        ("population.healthy", "yes", "protocol: population.healthy is 'yes'; expected true or false"),
        ("population.heart", {"rate": 60}, "population.heart.rate is an unknown key"),
        ("endpoints", ["QTc"], "protocol: endpoints is ['QTc']"),
        ("sequences", [["active", "rest"]], "protocol: sequences[0] is"),
        ("sequences", "zigzag", "sequences is 'zigzag'"),
        ("concentration_units", {"dofetilide": "mol"}, "concentration_units.dofetilide is 'mol'"),
        ("concentration_units", {"digoxin": "ng/mL"}, "concentration_units.digoxin is an unknown key"),
    ],
)
def test_mistakes_name_their_place_in_three_parts(path: str, value, words: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).+; .+") as caught:
        parse_protocol(changed(path, value))
    assert words in str(caught.value)
    assert "expected" in str(caught.value)


def test_doses_out_of_order_are_named() -> None:
    dose = SMALL["arms"]["active"][0]
    with pytest.raises(ValueError, match=r"arms\.active\[1\] is time_h 1 after 2; expected doses in order of time"):
        parse_protocol(changed("arms.active", [{**dose, "time_h": 2}, {**dose, "time_h": 1}]))


def test_a_trial_may_exceed_the_clinics_largest_dose_and_says_so() -> None:
    protocol = parse_protocol(changed("arms.active.0.dose", 1.0))
    assert protocol.arm("active").doses[0].dose.amount == 1.0
    assert "above the formulary's largest single dose" in protocol.remarks[0]
    assert not parse_protocol(SMALL).remarks


@pytest.mark.parametrize("k", range(1, 9))
def test_squares_are_balanced(k: int) -> None:
    for square in (latin(k), williams(k)):
        for period in zip(*square):
            assert all(period.count(arm) == len(square) // k for arm in range(k))
    after = [pair for row in williams(k) for pair in pairwise(row)]
    assert len({after.count((a, b)) for a in range(k) for b in range(k) if a != b}) <= 1


def test_parallel_arms_are_balanced_and_have_one_period() -> None:
    protocol = parse_protocol(changed("design", "parallel"))
    orders = [order for _, order in assign(protocol, 7, np.random.default_rng(1))]
    assert all(len(order) == 1 for order in orders)
    assert abs(orders.count(("active",)) - orders.count(("placebo",))) == 1


def ecg_row(person: int, arm: str, hour: float, qt: float, rr: float = 1000.0) -> dict:
    row = {"RR": rr, "PR": 160.0, "QT": qt, "QRS": 90.0, "JTPEAK": 230.0, "TPEAKTEND": 80.0}
    truth = {f"truth_{name}": value for name, value in row.items()} | {"truth_QT": qt - 2}
    return {"RANDID": person, "ARM": arm, "TPT": hour, **row, **truth}


def row_of(rows: list[dict], protocol, effect: str, endpoint: str = "QTcF", arm: str = "active") -> dict:
    summary = summarise(protocol, rows)
    (row,) = [r for r in summary if (r["effect"], r["endpoint"], r["arm"]) == (effect, endpoint, arm)]
    return row


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(350, 480)] * 4), min_size=2, max_size=6))
def test_crossover_effects_are_paired_double_differences(people) -> None:
    protocol = parse_protocol(SMALL)
    rows = []
    for i, (a0, a1, p0, p1) in enumerate(people):
        for shift in (-1, 1):  # replicates average out
            rows += [ecg_row(i, "active", -0.5, a0 + shift), ecg_row(i, "active", 2.5, a1 + shift)]
            rows += [ecg_row(i, "placebo", -0.5, p0 - shift), ecg_row(i, "placebo", 2.5, p1 - shift)]
    double = np.array([(a1 - a0) - (p1 - p0) for a0, a1, p0, p1 in people])
    row = row_of(rows, protocol, "placebo_corrected")
    assert row["mean"] == pytest.approx(double.mean(), abs=2e-3)
    half = stats.sem(double) * stats.t.ppf(0.975, len(double) - 1)
    assert row["ci_high"] - row["mean"] == pytest.approx(half, abs=3e-3)
    assert row["truth_mean"] == pytest.approx(row["mean"], abs=2e-3)
    single = np.mean([a1 - a0 for a0, a1, _, _ in people])
    assert row_of(rows, protocol, "change_from_baseline")["mean"] == pytest.approx(single, abs=2e-3)


def test_parallel_effects_are_unpaired_with_welchs_interval() -> None:
    protocol = parse_protocol(changed("design", "parallel"))
    active, placebo = [10.0, 14.0, 18.0], [1.0, 2.0, 3.0, 6.0]
    rows = [ecg_row(i, "active", h, 400 + (v if h > 0 else 0)) for i, v in enumerate(active) for h in (-0.5, 2.5)]
    rows += [
        ecg_row(9 + i, "placebo", h, 400 + (v if h > 0 else 0)) for i, v in enumerate(placebo) for h in (-0.5, 2.5)
    ]
    row = row_of(rows, protocol, "placebo_corrected")
    expected = stats.ttest_ind(active, placebo, equal_var=False).confidence_interval(0.95)
    assert (row["n"], row["mean"]) == (3, 11.0)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_endpoints_follow_their_formulas() -> None:
    protocol = replace(parse_protocol(SMALL), placebo="")
    rows = [ecg_row(0, "active", -0.5, 400), ecg_row(0, "active", 2.5, 360, rr=640)]
    change = {row["endpoint"]: row["mean"] for row in summarise(protocol, rows) if row["arm"] == "active"}
    assert change["HR"] == pytest.approx(60 / 0.64 - 60, abs=1e-3)
    assert change["QTcF"] == pytest.approx(360 / 0.64 ** (1 / 3) - 400, abs=1e-3)
    assert change["QTcB"] == pytest.approx(360 / 0.8 - 400, abs=1e-3)
    assert change["JTpeakc"] == pytest.approx(230 / 0.64**0.58 - 230, abs=1e-3)
    assert (change["PR"], change["QRS"], change["TpTe"]) == (0, 0, 0)


def test_what_cannot_be_said_is_none() -> None:
    nothing, one = interval(np.array([np.nan])), interval(np.array([3.0]))
    assert (nothing["n"], nothing["mean"]) == (0, None)
    assert (one["mean"], one["ci_low"]) == (3.0, None)
    assert difference(np.array([3.0, 4.0]), np.array([np.nan]))["mean"] is None
    json.dumps([nothing, one], allow_nan=False)


def test_records_table_and_summary_of_a_small_trial(tmp_path: Path) -> None:
    protocol = parse_protocol(SMALL)
    result = run_trial(protocol, n=2, seed=3, out=tmp_path)
    with open(tmp_path / "ecgs.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert set(table[0]) >= COLUMNS
    assert len(table) == 2 * 2 * 2 * 2
    assert len({row["EGREFID"] for row in table}) == len(table)
    for row in table:
        record = read_record(tmp_path / "records" / row["RANDID"] / row["EGREFID"])
        assert record.ecg.rate_hz == 500
        assert float(row["QT"]) == pytest.approx(float(row["truth_QT"]), abs=25)
        on_board = row["ARM"] == "active" and float(row["TPT"]) > 0
        assert (row["conc_dofetilide_ng_mL"] == "NA") != on_board
        assert row["Twave_flatness"] == "NA"
        assert row["BASELINE"] == ("Y" if float(row["TPT"]) < 0 else "N")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == json.loads(json.dumps(result.to_json_dict()))
    effect = row_of(result.rows, protocol, "placebo_corrected")
    assert effect["mean"] > 20
    assert not list(tmp_path.rglob(".*part"))


def test_what_a_killed_run_left_half_written_is_cleared(tmp_path: Path) -> None:
    half = tmp_path / "records" / "1001" / ".writing-xyz"
    half.mkdir(parents=True)
    protocol = replace(parse_protocol(SMALL), replicates=1)
    run_trial(protocol, n=1, seed=0, out=tmp_path)
    assert not half.exists()
    assert len(list((tmp_path / "records" / "1001").glob("*.hea"))) == 4


def test_the_same_seed_is_the_same_trial_and_people_do_not_depend_on_each_other() -> None:
    protocol = replace(parse_protocol(SMALL), sequences=(("active", "placebo"),))
    first, again = (run_trial(protocol, n=2, seed=5, waveforms=False).rows for _ in range(2))
    assert first == again
    assert run_trial(protocol, n=2, seed=6, waveforms=False).rows != first
    second = [row for row in first if row["RANDID"] == 1002]
    assert subject_rows(protocol, 1, second[0]["SEX"], ("active", "placebo"), 5) == second


def test_it_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """Killed by SIGKILL after the first person; the rest is made by another process, and nothing differs."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    whole = run_trial(load_protocol(path), seed=1, out=tmp_path / "whole", waveforms=False)
    command = [sys.executable, "-m", "ecg_gym.clinical_trial", str(path), str(tmp_path / "cut"), "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    first = tmp_path / "cut" / "subjects" / "1001.json"
    for _ in range(600):
        if first.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert first.exists()
    stamp = first.stat().st_mtime_ns
    resumed = run_trial(load_protocol(path), seed=1, out=tmp_path / "cut", waveforms=False)
    assert first.stat().st_mtime_ns == stamp
    assert resumed.rows == whole.rows
    for name in ("ecgs.csv", "summary.csv", "summary.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(ValueError, match=r"holds another trial \(seed 1\); expected an empty folder"):
        run_trial(load_protocol(path), seed=2, out=tmp_path / "cut", waveforms=False)


@pytest.mark.parametrize("name", FORMULARY.names)
def test_any_drug_of_the_formulary_can_be_on_trial(name: str) -> None:
    dose = FORMULARY.usual_doses(name)[0]
    given_dose = {"drug": name, "dose": dose.amount, "unit": dose.unit, "route": dose.route, "time_h": 0}
    if dose.duration_hours:
        given_dose["infusion_h"] = dose.duration_hours
    protocol = parse_protocol(changed("arms.active", [given_dose]))
    short = replace(protocol, hours=(1.0,), replicates=1)
    result = run_trial(short, n=1, seed=0, waveforms=False)
    assert len(result.rows) == 4
    level = [row[f"conc_{name}_ng_mL"] for row in result.rows if row["ARM"] == "active" and row["TPT"] == 1]
    assert level[0] >= 0
    assert all(row["truth_RR"] is not None for row in result.rows)


def test_late_sodium_block_takes_j_tpeak_off_dofetilide() -> None:
    """Johannesen 2016: mexiletine with dofetilide shortens J-Tpeak against dofetilide alone and leaves Tpeak-Tend."""
    dofetilide = {"drug": "dofetilide", "dose": 0.5, "unit": "mg", "route": "PO", "time_h": 0}
    mexiletine = {"drug": "mexiletine", "dose": 400, "unit": "mg", "route": "PO", "time_h": 0}
    data = changed("arms", {"alone": [dofetilide], "both": [dofetilide, mexiletine], "none": []})
    protocol = replace(parse_protocol(data), replicates=1)
    rows = run_trial(protocol, n=8, seed=0, waveforms=False).rows
    jtpeak, tpeak_tend = (
        {arm: row_of(rows, protocol, "placebo_corrected", e, arm)["truth_mean"] for arm in ("alone", "both")}
        for e in ("JTpeakc", "TpTe")
    )
    assert jtpeak["both"] < jtpeak["alone"] - 5
    assert abs(tpeak_tend["both"] - tpeak_tend["alone"]) < 6


def test_people_are_as_the_protocol_says() -> None:
    population = {
        "female": 0.25, "age_years": [60, 70], "weight_kg": {"mean": {"F": 60, "M": 80}, "sd": 0},
        "creatinine_clearance": 40, "rhythm": "af_rapid", "healthy": False, "poor_metaboliser_cyp2d6": 1,
        "conditions": ["atrial_fibrillation"], "conduction": "lbbb", "scar": "none", "heart": {"rate_bpm": [120, 130]},
    }  # fmt: skip
    protocol = replace(parse_protocol(changed("population", population)), replicates=1)
    rows = run_trial(protocol, n=4, seed=0, waveforms=False).rows
    people = {row["RANDID"]: row for row in rows}.values()
    assert sorted(row["SEX"] for row in people) == ["F", "M", "M", "M"]
    assert all(60 <= row["AGE"] <= 70 for row in people)
    assert {(row["SEX"], row["WGHT"]) for row in people} == {("F", 60), ("M", 80)}
    assert {row["truth_rhythm"] for row in rows} == {"af_rapid"}
    assert min(row["truth_QRS"] for row in rows) > 120
    assert np.mean([60000 / row["truth_RR"] for row in rows]) == pytest.approx(125, abs=25)


def test_days_hours_and_minutes_move_a_heart_as_the_table_says() -> None:
    heart, rng = draw_heart(np.random.default_rng(0), Patient(sex="F"), healthy=True), np.random.default_rng(1)
    for part, same in (("visit", False), ("replicate", True)):
        others = [move(heart, part, rng) for _ in range(400)]
        qrs = np.array([h.qrs_ms for h in others])
        assert qrs.mean() == pytest.approx(heart.qrs_ms, abs=1)
        assert (len({h.qtcf_ms for h in others}) == 1) is same


def test_the_command_prints_one_document(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    arguments = ["trial", str(path), "--out", str(tmp_path / "out"), "--n", "1", "--no-waveforms", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["subjects"] == 1
    assert (tmp_path / "out" / "effects.png").stat().st_size > 10_000
    assert not (tmp_path / "out" / "records").exists()
    refused = CliRunner().invoke(app, ["trial", "nowhere", "--out", str(tmp_path / "out2")])
    assert refused.exit_code == 2
    assert "ecgrdvq" in refused.stderr
