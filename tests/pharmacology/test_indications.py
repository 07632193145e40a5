"""Indications: nothing is given without one, and what is unknown is named."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import WATCH, Patient, Treatment
from ecg_gym.pharmacology import FORMULARY, indication_mask, indications
from ecg_gym.pharmacology.indications import table

NORMAL = {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 92.0, "qtcf_ms": 410.0, "p_present": 1.0, "regular": 1.0}
MENU = FORMULARY.menu()


def first(*drugs: str) -> Treatment:
    return Treatment(tuple(FORMULARY.usual_doses(drug)[0] for drug in drugs))


def test_every_row_of_the_formulary_has_indications_with_a_source() -> None:
    assert set(FORMULARY) <= set(table())
    for drug, rows in table().items():
        assert rows, drug
        for row in rows:
            assert len(row.says) > 5, drug
            assert row.source, drug


def test_a_normal_strip_indicates_nothing_but_watching() -> None:
    mask = indication_mask(MENU, Patient(), NORMAL, findings=frozenset({"Sinus rhythm"}))
    assert mask[0]
    assert not mask[1:].any()
    assert indications(WATCH, Patient(), NORMAL).indicated


def test_the_mask_is_what_the_sentences_say() -> None:
    strip = {**NORMAL, "hr_bpm": 140.0, "pr_ms": np.nan, "p_present": 0.0, "regular": 0.0}
    person, findings = Patient(potassium=3.0), frozenset({"Atrial fibrillation"})
    mask = indication_mask(MENU, person, strip, findings=findings)
    assert 5 < mask.sum() < len(MENU)
    for treatment, indicated in zip(MENU, mask):
        assert indicated == indications(treatment, person, strip, findings=findings).indicated


def test_an_unknown_electrolyte_is_named_only_where_it_could_decide() -> None:
    assert indications(first("potassium_chloride"), Patient(), NORMAL).missing == ("potassium",)
    assert indications(first("potassium_chloride"), Patient(potassium=4.4), NORMAL).missing == ()
    assert indications(first("calcium_gluconate"), Patient(potassium=4.4), NORMAL).missing == ("calcium",)
    assert indications(first("dofetilide"), Patient(), NORMAL).missing == ()
    assert "unknown: potassium" in indications(first("insulin"), Patient(), NORMAL).sentence


def test_a_combination_is_indicated_when_each_of_its_drugs_is() -> None:
    person = Patient(potassium=3.0, conditions=frozenset({"torsade"}), magnesium=0.9)
    strip = {**NORMAL, "qtcf_ms": 520.0}
    both = indications(first("potassium_chloride", "magnesium"), person, strip)
    assert both.indicated
    assert len(both.present) >= 2
    one = indications(first("potassium_chloride", "dofetilide"), person, strip)
    assert one.absent == ("dofetilide",)
    assert one.sentence.startswith("no indication: dofetilide")
