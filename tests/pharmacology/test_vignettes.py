"""Clinical vignettes: what is a candidate, what is forbidden, and that nothing else is offered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ecg_gym.core import Administration, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY, indications, violations
from ecg_gym.pharmacology.conditions import known_conditions
from ecg_gym.pharmacology.constants import sources
from ecg_gym.risk import FINDINGS

TABLE = yaml.safe_load(Path(__file__).with_name("vignettes.yaml").read_text(encoding="utf-8"))
VIGNETTES = TABLE["vignettes"]
KEYS = {"name", "strip", "patient", "given", "first", "accepts", "forbids", "source"}


def strip_of(row: Mapping[str, Any]) -> tuple[dict[str, float], frozenset[str]]:
    """Intervals and findings of a vignette."""
    given_row = row["strip"] if isinstance(row["strip"], dict) else {"as": row["strip"]}
    strip = {**TABLE["strips"][given_row["as"]], **{name: value for name, value in given_row.items() if name != "as"}}
    findings = frozenset(strip.pop("findings"))
    return {name: np.nan if value is None else float(value) for name, value in strip.items()}, findings


def patient_of(row: Mapping[str, Any]) -> Patient:
    facts = dict(row.get("patient", {}))
    return Patient(**{k: frozenset(v) if isinstance(v, list) else v for k, v in facts.items()})


def judged(row: Mapping[str, Any], drug: str) -> list[tuple[bool, bool]]:
    """For each usual dose of a drug: forbidden by a rule, and indicated."""
    intervals, findings = strip_of(row)
    patient = patient_of(row)
    given = [
        Administration(hours, FORMULARY.check(parse_dose(words), patient)) for hours, words in row.get("given", [])
    ]
    rows = []
    for dose in FORMULARY.usual_doses(drug):
        about = (Treatment((dose,)), patient, intervals, given, 0.0, findings)
        rows.append((any(v.hard for v in violations(*about)), indications(*about).indicated))
    return rows


def candidates(row: Mapping[str, Any]) -> set[str]:
    return {drug for drug in FORMULARY if any(not hard and indicated for hard, indicated in judged(row, drug))}


@pytest.mark.parametrize("row", VIGNETTES, ids=[row["name"] for row in VIGNETTES])
def test_what_is_offered_is_what_a_guideline_accepts(row: Mapping[str, Any]) -> None:
    offered = candidates(row)
    assert set(row.get("first", ())) <= offered
    assert offered <= set(row.get("first", ())) | set(row.get("accepts", ()))


@pytest.mark.parametrize("row", VIGNETTES, ids=[row["name"] for row in VIGNETTES])
def test_what_a_guideline_forbids_is_forbidden_even_by_name(row: Mapping[str, Any]) -> None:
    allowed = {drug for drug in row["forbids"] if not all(hard for hard, _ in judged(row, drug))}
    assert allowed == set()


def test_the_table_is_sound_and_large_enough() -> None:
    assert len(VIGNETTES) >= 40
    assert len({row["name"] for row in VIGNETTES}) == len(VIGNETTES)
    for row in VIGNETTES:
        assert set(row) <= KEYS, row["name"]
        assert row["source"] in sources(), row["name"]
        assert {*row.get("first", ()), *row.get("accepts", ()), *row["forbids"]} <= set(FORMULARY), row["name"]
        assert patient_of(row).conditions <= set(known_conditions()), row["name"]
        assert strip_of(row)[1] <= set(FINDINGS), row["name"]
        assert not set(row.get("first", ())) & set(row["forbids"]), row["name"]


def test_a_condition_on_the_strip_forbids_what_the_same_condition_by_name_forbids() -> None:
    strip = {"hr_bpm": 55.0, "pr_ms": np.nan, "qrs_ms": 95.0, "qtcf_ms": 420.0, "p_present": 1.0, "regular": 1.0}
    on_the_strip = {
        "av_block_2_3": {"Atrioventricular block"},
        "bifascicular_block": {"Bifascicular block"},
        "pre_excitation": {"Accessory pathway conduction"},
        "atrial_fibrillation": {"Atrial fibrillation"},
        "atrial_flutter": {"Atrial flutter"},
        "myocardial_infarction": {"Infarction"},
        "ventricular_tachycardia": {"Ventricular tachycardia"},
        "pacemaker": {"Electronic pacemaker"},
    }
    for condition, findings in on_the_strip.items():
        patient = Patient(conditions=frozenset({condition}))
        for drug in FORMULARY:
            treatment = Treatment(FORMULARY.usual_doses(drug)[:1])
            by_name = {v.rule for v in violations(treatment, patient, strip, (), 0.0) if v.hard}
            by_strip = {v.rule for v in violations(treatment, Patient(), strip, (), 0.0, frozenset(findings)) if v.hard}
            # a rhythm that is only a history leaves nothing to end; a strip that shows it does
            ended = {"ibutilide-rhythm", "procainamide-rhythm", "cardioversion-without-tachyarrhythmia"}
            assert by_name - ended <= by_strip, (condition, drug)
