"""Risk measures: closed forms, what they look at, and that every planner takes every one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import DOFETILIDE, METOPROLOL, MOXIFLOXACIN, planned, start
from scipy import stats
from worlds import AnalyticWorld

from ecg_gym.core import WATCH
from planners import CVaR, Entropic, Exceedance, MeanVariance, Measure, measure_named

MEASURES = {"mean-variance": MeanVariance(), "cvar": CVaR(), "entropic": Entropic(), "p-qtcf": Exceedance()}


@dataclass(frozen=True)
class ArmSamples:
    """Outcomes of our own."""

    risks: np.ndarray
    lost: np.ndarray
    peaks: dict = field(default_factory=dict)


def test_each_measure_of_normal_risks_is_its_closed_form() -> None:
    mean, sd = 0.4, 0.1
    draws = np.random.default_rng(0).normal(mean, sd, size=400_000)
    tail = stats.norm.ppf(0.75)
    closed = {
        MeanVariance(0.6): mean + 0.6 * sd,
        CVaR(0.75): mean + sd * stats.norm.pdf(tail) / 0.25,
        CVaR(0.0): mean,
        Entropic(2.0): mean + 2.0 * sd**2 / 2,
        Entropic(1e-6): mean,
    }
    for measure, truth in closed.items():
        assert float(measure.score(draws)) == pytest.approx(truth, abs=1e-3), measure


def test_cvar_of_few_futures_counts_the_last_of_the_worst_in_part() -> None:
    risks = np.array([0.1, 0.9, 0.5, 0.3])
    assert CVaR(0.5).score(risks) == pytest.approx((0.9 + 0.5) / 2)
    assert CVaR(0.6).score(risks) == pytest.approx((0.9 + 0.6 * 0.5) / 1.6)
    assert CVaR(0.9).score(risks) == 0.9, "less than one future is the worst one"


def test_the_entropic_measure_does_not_overflow() -> None:
    assert Entropic(5000.0).score(np.array([0.2, 0.7])) == pytest.approx(0.7, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0, 0.5))
def test_coherent_measures_follow_a_shift_and_lie_between_mean_and_worst(risks, shift) -> None:
    x = np.array(risks)
    for measure in (CVaR(0.75), Entropic(2.0)):
        assert measure.score(x + shift) == pytest.approx(measure.score(x) + shift, abs=1e-9)
        assert x.mean() - 1e-9 <= measure.score(x) <= x.max() + 1e-9


def test_exceedance_counts_what_is_above_lost_or_not_measurable() -> None:
    qtcf = np.array([480.0, 500.0, 501.0, math.nan, 430.0])
    lost = np.array([False, False, False, False, True])
    outcomes = ArmSamples(np.zeros(5), lost, {"qtcf_ms": qtcf})
    np.testing.assert_array_equal(Exceedance().losses(outcomes), [0, 0, 1, 1, 1])
    assert Exceedance().score(Exceedance().losses(outcomes)) == pytest.approx(0.6)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=str)
def test_a_plan_takes_every_measure_and_its_differences_stay_paired(measure: Measure) -> None:
    made = planned(measure=measure, k=12)
    assert made.measure == str(measure)
    scores = [c.score for c in made.candidates]
    assert scores == sorted(scores)
    for row in made.candidates:
        assert row.difference == pytest.approx(row.score - made.best.score)
        low, high = row.difference_ci
        assert low - 1e-9 <= row.difference <= high + 1e-9
        own = row.score_ci[1] - row.score_ci[0]
        if row.treatment == MOXIFLOXACIN and own > 0:  # shares its noise with the best
            assert high - low < own


def test_p_qtcf_prefers_the_short_qt_where_the_mean_would_not() -> None:
    state = start(qtcf_ms=478.0, hr_bpm=100.0)
    world = AnalyticWorld(responses={**AnalyticWorld().responses})
    exceeding = planned(world, candidates=(DOFETILIDE, METOPROLOL), state=state, measure="p-qtcf:500", k=16)
    rows = {c.treatment: c for c in exceeding.candidates}
    assert rows[DOFETILIDE].score == 1.0, "478 + 40 ms"
    assert rows[WATCH].score == rows[METOPROLOL].score == 0.0
    assert exceeding.best.treatment == METOPROLOL, "of equals the lower mean risk"


def test_words_become_measures_and_wrong_ones_are_refused() -> None:
    assert measure_named("cvar:0.9") == CVaR(0.9)
    assert measure_named("mean-variance") == MeanVariance(0.6)
    assert measure_named("p-qtcf") == Exceedance(500.0)
    for words, part in (("cvr", "expected one of"), ("cvar:1.5", "alpha is 1.5"), ("entropic:x", "entropic:x")):
        with pytest.raises(ValueError, match=part):
            measure_named(words)
    for make in (lambda: MeanVariance(-1), lambda: CVaR(1.0), lambda: Entropic(0.0)):
        with pytest.raises(ValueError, match="expected"):
            make()
