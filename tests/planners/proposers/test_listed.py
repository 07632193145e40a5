"""The menu, its pairs, chance, and the guideline's list."""

from __future__ import annotations

import numpy as np
from planning import start
from worlds import AnalyticRisk

from ecg_gym.core import WATCH, Patient
from ecg_gym.pharmacology import FORMULARY
from planners.guideline import Bedside, decide, suggestions
from planners.proposers.listed import Enumeration, Guideline, Shuffled

RNG = np.random.default_rng(0)


def test_the_menu_is_everything_but_watching() -> None:
    items = Enumeration().propose(start(), RNG)
    assert items == [treatment for treatment in FORMULARY.menu() if treatment]
    assert len(Enumeration(["atropine"]).propose(start(), RNG)) == len(FORMULARY.usual_doses("atropine"))


def test_pairs_are_of_different_drugs_and_come_after_the_single_ones() -> None:
    drugs = ["atropine", "metoprolol"]
    single, items = Enumeration(drugs).propose(start(), RNG), Enumeration(drugs, pairs=True).propose(start(), RNG)
    assert items[: len(single)] == single
    assert all({dose.drug for dose in pair.doses} == set(drugs) for pair in items[len(single) :])
    n = [len(FORMULARY.usual_doses(drug)) for drug in drugs]
    assert len(items) == len(single) + n[0] * n[1]


def test_a_shuffled_list_has_the_same_items_and_comes_again_with_its_seed() -> None:
    base = Enumeration()
    first, again, other = (Shuffled(base).propose(start(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert set(first) == set(base.propose(start(), RNG))


def test_suggestions_begin_with_what_the_guideline_decides() -> None:
    slow = Bedside({"hr_bpm": 34.0, "qrs_ms": 95.0, "qtcf_ms": 410.0}, Patient(age_years=70), (), 0.0)
    items = suggestions(slow, FORMULARY.menu())
    assert items
    assert items[0][0] == decide(slow, FORMULARY.menu())[0] != WATCH
    calm = Bedside({"hr_bpm": 70.0, "qrs_ms": 95.0, "qtcf_ms": 410.0}, Patient(age_years=70), (), 0.0)
    assert suggestions(calm, FORMULARY.menu()) == []


def test_the_guideline_reads_the_strip_by_the_risk_model() -> None:
    assert Guideline(AnalyticRisk()).propose(start(hr_bpm=70.0), RNG) == []
    items = Guideline(AnalyticRisk()).propose(start(hr_bpm=33.0), RNG)
    assert items
    assert all(items)
