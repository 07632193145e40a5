"""Aggregates on probabilities written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_gym.risk import aggregate
from ecg_gym.risk.aggregate import FINDINGS, adverse

SEVERITY = {row.name: row.severity for row in aggregate.ROWS}


def certain(*names: str) -> np.ndarray:
    """One strip ``(1, 17)`` that surely shows these findings and no other."""
    return np.array([[float(name in names) for name in FINDINGS]])


def test_seventeen_findings_in_the_published_order() -> None:
    assert len(FINDINGS) == 17
    assert FINDINGS[0] == "Poor data quality"
    assert FINDINGS[1] == "Sinus rhythm"
    assert FINDINGS[4] == "Ventricular tachycardia"
    assert FINDINGS[6] == "Atrial fibrillation"
    assert FINDINGS[15:] == ("Infarction", "Electronic pacemaker")


def test_sinus_rhythm_and_noise_are_no_risk() -> None:
    assert adverse(certain("Sinus rhythm", "Poor data quality"))[0] == 0
    assert aggregate.mean(certain("Sinus rhythm"))[0] == pytest.approx(1 / 17)  # the paper's counts it, literally
    assert not aggregate.readable(certain("Poor data quality"))[0]
    assert aggregate.readable(certain("Sinus rhythm"))[0]


def test_implied_findings_count_once() -> None:
    block = "Atrioventricular block"
    assert adverse(certain(block, "1st degree atrioventricular block"))[0] == pytest.approx(SEVERITY[block])
    vt = ("Tachycardia", "Ventricular tachycardia", "Supraventricular tachycardia with aberrancy")
    assert adverse(certain(*vt))[0] == pytest.approx(SEVERITY["Ventricular tachycardia"])
    bundles = ("Bifascicular block", "Right bundle branch block", "Left bundle branch block")
    assert adverse(certain(*bundles))[0] == pytest.approx(max(SEVERITY[name] for name in bundles))


def test_unrelated_findings_add_up_below_one() -> None:
    af, mi = SEVERITY["Atrial fibrillation"], SEVERITY["Infarction"]
    assert adverse(certain("Atrial fibrillation", "Infarction"))[0] == pytest.approx(1 - (1 - af) * (1 - mi))
    assert adverse(np.ones((1, 17)))[0] < 1


def test_ventricular_tachycardia_weighs_most() -> None:
    alone = {name: adverse(certain(name))[0] for name in FINDINGS}
    assert max(alone, key=alone.__getitem__) == "Ventricular tachycardia"


def test_the_papers_three_by_hand() -> None:
    p = np.zeros((2, 17))
    p[0, [1, 3, 8]] = 0.9, 0.6, 0.3
    p[1] = 0.5
    np.testing.assert_allclose(aggregate.mean(p), [1.8 / 17, 0.5])
    np.testing.assert_allclose(aggregate.maximum(p), [0.9, 0.5])
    np.testing.assert_allclose(aggregate.top3(p), [0.6, 0.5])


@given(st.lists(st.floats(0, 1), min_size=17, max_size=17), st.integers(0, 16), st.floats(0, 1))
def test_more_of_a_finding_is_never_less_risk(p: list[float], index: int, share: float) -> None:
    less, more = np.array([p]), np.array([p])
    more[0, index] += share * (1 - more[0, index])
    for name in aggregate.AGGREGATES:
        function = aggregate.aggregate_named(name)
        assert 0 <= function(less)[0] <= function(more)[0] + 1e-12 <= 1 + 2e-12


def test_rows_stay_apart() -> None:
    p = np.random.default_rng(0).random((6, 17))
    order = [4, 2, 0, 5, 1, 3]
    for function in aggregate.AGGREGATES.values():
        np.testing.assert_array_equal(function(p[order]), function(p)[order])


def test_an_unknown_aggregate_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        aggregate.aggregate_named("median")
