"""The tables and the entrance: every figure sourced, every wrong dose refused in three parts."""

from __future__ import annotations

import copy
import math

import pytest

from ecg_gym.core import WATCH, Dose, Patient, parse_dose
from ecg_gym.pharmacology import FORMULARY, Formulary
from ecg_gym.pharmacology.constants import CONFIDENCE, figures_in, read_table, sources
from ecg_gym.pharmacology.doses import milligrams

ADULT = Patient(weight_kg=80.0)
TABLES = ("formulary.yaml", "laws.yaml", "sensitivity.yaml", "interactions.yaml")


@pytest.mark.parametrize("table", TABLES)
def test_every_figure_has_unit_source_and_confidence(table: str) -> None:
    result = list(figures_in(read_table(table)))
    assert len(result) >= 10
    for path, figure in result:
        assert math.isfinite(figure.value), path
        assert figure.unit not in ("", "None"), path
        assert figure.source in sources(), path
        assert figure.confidence in CONFIDENCE, path


def test_every_source_is_cited_somewhere() -> None:
    cited = {figure.source for table in TABLES for _, figure in figures_in(read_table(table))}
    cited |= {row["source"] for row in read_table("rules.yaml")["rules"]}
    cited |= {drug["source"] for drug in read_table("formulary.yaml").values()}
    cited |= {check["source"] for check in read_table("checks.yaml")["checks"]}
    cited |= {row["source"] for row in read_table("conditions.yaml")["shown"].values()}
    cited |= {row["source"] for rows in read_table("indications.yaml")["drugs"].values() for row in rows}
    cited |= {read_table("medication.yaml")["source"]}
    assert set(sources()) == cited


def test_there_are_enough_treatments_and_the_menu_begins_with_waiting() -> None:
    assert len(FORMULARY) >= 28
    menu = FORMULARY.menu()
    assert menu[0] == WATCH
    assert len(set(menu)) == len(menu)
    assert FORMULARY.menu(["verapamil"]) == (WATCH, *(t for t in menu if t and t.doses[0].drug == "verapamil"))
    assert FORMULARY.menu() == menu


@pytest.mark.parametrize("treatment", FORMULARY.menu()[1:], ids=str)
def test_usual_doses_pass_unchanged(treatment) -> None:
    assert all(FORMULARY.check(dose, ADULT) == dose for dose in treatment.doses)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("dofetilide 500 mcg PO", Dose("dofetilide", 0.5, "mg", "PO")),
        ("Dofetilide .5 mg", Dose("dofetilide", 0.5, "mg", "PO")),
        ("magnesium 2000 mg IV", Dose("magnesium", 2.0, "g", "IV", 1 / 3)),
        ("amiodarone 150 mg IV", Dose("amiodarone", 150.0, "mg", "IV", 1 / 6)),
        ("esmolol 0.1 mg/kg/min IV over 30 min", Dose("esmolol", 100.0, "mcg/kg/min", "IV", 0.5)),
        ("potassium chloride 20 mmol", Dose("potassium_chloride", 20.0, "mmol", "IV", 1.0)),
    ],
)
def test_spellings_of_one_dose(written: str, expected: Dose) -> None:
    checked = FORMULARY.check(parse_dose(written), ADULT)
    assert checked == expected
    assert FORMULARY.check(checked, ADULT) == checked


@pytest.mark.parametrize(
    ("dose", "words"),
    [
        (Dose("snake_oil", 1, "mg", "PO"), "drug is 'snake_oil'"),
        (Dose("verapamil", 5, "U", "IV"), "unit of verapamil is 'U'"),
        (Dose("verapamil", 5, "mg", "SC"), "route of verapamil is 'SC'"),
        (Dose("dofetilide", 5, "mg", "PO"), "at most 0.5 mg"),
        (Dose("dofetilide", 501, "mcg", "PO"), "at most 0.5 mg"),
        (Dose("dofetilide", -0.1, "mg", "PO"), "amount of dofetilide is -0.1"),
        (Dose("dofetilide", float("nan"), "mg", "PO"), "amount of dofetilide is nan"),
        (Dose("amiodarone", 1, "mg/min", "IV", -1.0), "runs for -1"),
    ],
)
def test_wrong_doses_are_refused_in_three_parts(dose: Dose, words: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*; .+") as caught:
        FORMULARY.check(dose, ADULT)
    assert words in str(caught.value)


def test_doses_per_kg_follow_weight_and_infusions_their_duration() -> None:
    dose = FORMULARY.check(parse_dose("esmolol 100 mcg/kg/min IV over 30 min"), ADULT)
    assert milligrams(dose, FORMULARY["esmolol"], ADULT) == pytest.approx(0.1 * 80 * 30)
    assert milligrams(dose, FORMULARY["esmolol"], Patient()) == pytest.approx(0.1 * 70 * 30)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unbound": {"value": 0.4, "unit": "%"}}, "expected '1'"),
        ({"unbound": 0.4}, "expected {value: NUMBER"),
        ({"unbound": {"value": 0.4, "unit": "1", "source": "hearsay"}}, "cites 'hearsay'"),
        ({"unbound": {"value": 0.4, "unit": "1", "confidence": "sure"}}, "confidence 'sure'"),
        ({"chanels": {}}, "has ['chanels']"),
        ({"channels": {"IKr": {}}}, "lacks ic50"),
        ({"routes": {}}, "has no routes"),
        ({"laws": [{"target": "mood"}]}, "target is 'mood'"),
    ],
)
def test_a_wrong_table_names_the_place(change: dict, words: str) -> None:
    entry = {**read_table("formulary.yaml")["dofetilide"], **change}
    with pytest.raises(ValueError, match=r"dofetilide.*expected.*; ") as caught:
        Formulary({"dofetilide": entry}).names  # noqa: B018
    assert words in str(caught.value)


@pytest.mark.parametrize("name", FORMULARY.names)
def test_in_vivo_potency_stays_within_a_factor_of_three(name: str) -> None:
    drug = FORMULARY[name]
    for molecule in filter(None, (drug, drug.metabolite)):
        for channel, site in molecule.channels.items():
            assert 1 / 3 <= site.potency <= 3, (name, channel)


def test_a_channel_figure_outside_the_published_range_is_refused() -> None:
    table = {"x": copy.deepcopy(read_table("formulary.yaml")["ranolazine"])}
    table["x"]["channels"]["IKr"]["ic50"]["value"] = 20000
    with pytest.raises(ValueError, match=r"x\.channels\.IKr\.ic50 is 20000 nM; expected the published 2566 to 8270"):
        list(Formulary(table).values())


def test_the_trial_drugs_have_published_ranges_for_every_channel() -> None:
    for name in ("dofetilide", "quinidine", "ranolazine", "verapamil", "mexiletine", "sotalol", "ondansetron"):
        channels = read_table("formulary.yaml")[name]["channels"]
        for channel in FORMULARY[name].channels:
            assert {"low", "high"} <= set(channels[channel]["ic50"]), (name, channel)
            assert {"low", "high"} <= set(channels[channel]["hill"]), (name, channel)


@pytest.mark.parametrize(
    ("written", "hours"),
    [("lidocaine 2 mg/min IV over 120 min", 2.0), ("diltiazem 10 mg/h IV", 1.0), ("insulin 0.1 U/kg/h IV", 1.0)],
)
def test_what_is_run_in_has_limits_of_its_own(written: str, hours: float) -> None:
    dose = FORMULARY.check(parse_dose(written), ADULT)
    assert dose.duration_hours == hours
    assert FORMULARY.check(dose, ADULT) == dose
    with pytest.raises(ValueError, match="expected at most 4 mg/min of lidocaine IV at once"):
        FORMULARY.check(parse_dose("lidocaine 5 mg/min IV over 30 min"), ADULT)
