"""Guessing the drug: places, chance, and a ceiling that tells drugs apart which do the opposite."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ecg_gym.core import Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY
from training.evaluation.planning import inverse_dynamics as module
from training.evaluation.planning.inverse_dynamics import places, scatter, study, summary
from training.evaluation.result import Size

ITEMS = [
    Treatment((FORMULARY.check(parse_dose(words), Patient()),))
    for words in ("dofetilide 0.5 mg PO", "dofetilide 0.25 mg PO", "metoprolol 50 mg PO", "moxifloxacin 400 mg PO")
]
DRUGS = ["dofetilide", "metoprolol", "moxifloxacin"]


def test_a_drug_counts_by_its_best_dose() -> None:
    row = places(np.array([0.0, 5.0, 4.0, 3.0]), ITEMS, DRUGS, "metoprolol")
    assert (row["top 1"], row["top 3"]) == (0.0, 1.0)
    assert places(np.array([0.0, 5.0, 4.0, 3.0]), ITEMS, DRUGS, "dofetilide")["top 1"] == 1.0
    assert places(np.array([9.0, 9.0, 0.0, 0.0]), ITEMS, DRUGS, "dofetilide")["class"] == 1.0


def test_the_scatter_is_about_the_mean_of_each_treatment() -> None:
    rng = np.random.default_rng(0)
    simulated = np.array([0.0, 100.0])[:, None, None] + rng.normal(0, 3, (2, 4000, 2))
    np.testing.assert_allclose(scatter(simulated), np.diag([10.0, 10.0]), atol=0.6)


def test_the_ceiling_beats_chance_and_chance_is_known() -> None:
    document = study(Size(6, 3), menu=ITEMS)
    rows = {row["by"]: row for row in summary(document)}
    assert list(rows) == ["pharmacology", "ceiling", "chance"]
    assert rows["chance"]["top 1"] == pytest.approx(1 / 3)
    assert rows["ceiling"]["top 3"] == 1.0
    assert rows["ceiling"]["top 1"] > 1 / 3
    assert json.loads(json.dumps(document, allow_nan=False))["settings"]["drugs"] == 3
    assert module.figure(document).axes
