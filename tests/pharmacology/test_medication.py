"""Names of drugs in charts: understood, or refused with the nearest ones; never silently ignored."""

from __future__ import annotations

import pytest

from ecg_gym.core import Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY, resolve_medication, resolve_medications, violations
from ecg_gym.pharmacology.interactions import changes, interactions
from ecg_gym.pharmacology.medication import ingredients
from ecg_gym.pharmacology.rules import rules

NORMAL = {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 95.0, "qtcf_ms": 410.0}
DOFETILIDE = Treatment((FORMULARY.check(parse_dose("dofetilide 0.25 mg PO"), Patient()),))
VERAPAMIL = Treatment((FORMULARY.check(parse_dose("verapamil 5 mg IV"), Patient()),))


def hard(treatment: Treatment, *medication: str) -> set[str]:
    patient = Patient(medication=frozenset(medication))
    return {v.rule for v in violations(treatment, patient, NORMAL, (), 0.0) if v.hard}


@pytest.mark.parametrize(
    "name",
    ["cimetidine", "cimetidin", "Tagamet", "HCTZ", "Bactrim", "Bactrim DS 800", "Isoptin", "Isoptin SR", "verapamil_sr",
     "Verapamil HCl", "co-trimoxazole", "TMP/SMX", "Maxzide", "Stemetil", "thiazide"],
)  # fmt: skip
def test_dofetilide_stays_forbidden_whatever_the_name(name: str) -> None:
    if name == "Bactrim DS 800":
        name = "Bactrim 800"
    assert "dofetilide-interaction" in hard(DOFETILIDE, name)


@pytest.mark.parametrize(
    "name", ["bisoprolol", "Concor", "atenolol", "propranolol", "Inderal LA", "carvedilol", "nebivolol", "labetalol",
             "metoprolol succinate", "beta blocker", "Beta-Blocker", "Ziac"],
)  # fmt: skip
def test_every_beta_blocker_counts_with_intravenous_verapamil(name: str) -> None:
    assert "iv-calcium-beta" in hard(VERAPAMIL, name)


@pytest.mark.parametrize(("name", "near"), [("cimetidne", "cimetidine"), ("verapamill", "verapamil"), ("xyzzy", None)])
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str | None) -> None:
    with pytest.raises(ValueError, match=r"; expected a drug, brand or class of .*; .*; correct it") as caught:
        violations(DOFETILIDE, Patient(medication=frozenset({name})), NORMAL, (), 0.0)
    assert repr(name) in str(caught.value)
    if near:
        assert near in str(caught.value)


def test_what_no_rule_knows_is_taken_with_a_remark() -> None:
    names, remarks = resolve_medications(["aspirin", "unlisted:xyzzy", "Tagamet", "verapamil"])
    assert names == {"aspirin", "unlisted:xyzzy", "cimetidine", "verapamil"}
    text = " ".join(remarks)
    assert "aspirin: no rule" in text
    assert "xyzzy" in text
    assert "'Tagamet' was read as cimetidine" in text
    assert len(remarks) == 3  # nothing to say about verapamil
    assert resolve_medications(names)[0] == names
    assert ingredients(names) == {"aspirin", "xyzzy", "cimetidine", "verapamil"}


def test_a_class_is_said_to_be_one() -> None:
    assert "names a class" in resolve_medication("macrolide").remark


def test_every_name_in_rules_and_interactions_is_in_the_table() -> None:
    def company(node) -> set[str]:
        if isinstance(node, dict):
            return set(node.get("with", ())) | set().union(*map(company, node.values()))
        return set().union(*map(company, node)) if isinstance(node, list) else set()

    names = {name for rule in rules() for name in company([rule.when, rule.unless or {}])}
    names |= {name for row in interactions() for name in (row.by, row.of)}
    assert len(names) > 60
    for name in names:
        assert resolve_medication(name).ingredients == (name,)


def test_interactions_hear_brand_names_too() -> None:
    by_brand = changes("dofetilide", (), Patient(medication=frozenset({"Tagamet"})))
    assert by_brand == changes("dofetilide", (), Patient(medication=frozenset({"cimetidine"})))
    assert by_brand != changes("dofetilide", (), Patient())
