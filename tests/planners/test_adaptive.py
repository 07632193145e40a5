"""Adaptive sampling: it stops when it may, keeps its promise, and needs fewer draws than equal shares."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from planning import ATROPINE, DOFETILIDE, MENU, METOPROLOL, PLACEBO, no_rules, start
from scipy import stats
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from planners import AdaptivePlanner, CVaR, Entropic, Exceedance, MeanVariance, check_planner, plan, plan_adaptively
from planners.racing import Race, below, interval_of, paired, pseudo_values, uniform

MEAN = MeanVariance(0.0)


def correlated_risks(means, seed: int, k: int, shared: float = 0.1, own: float = 0.05) -> np.ndarray:
    """Losses ``(arms, k)``: noise that all arms share, and noise of their own."""
    rng = np.random.default_rng(seed)
    return np.asarray(means)[:, None] + rng.normal(0, shared, k) + rng.normal(0, own, (len(means), k))


def run(race: Race, table: np.ndarray) -> Race:
    while race.running:
        race.tell(table[np.ix_(race.left, race.columns)])
    return race


def test_the_paired_difference_of_means_is_the_paired_t_statistic() -> None:
    a, b = correlated_risks([0.3, 0.35], 0, 12)
    difference, error = paired(b, a, MEAN.score)
    truth = stats.ttest_rel(b, a)
    assert difference / error == pytest.approx(truth.statistic)
    assert below(difference, error, 11) == pytest.approx(truth.pvalue / 2)
    low, high = truth.confidence_interval(0.95)
    assert interval_of(b, a, MEAN.score) == pytest.approx((low, high))


def test_pseudo_values_of_a_mean_are_the_draws() -> None:
    draws = np.random.default_rng(0).random(7)
    np.testing.assert_allclose(pseudo_values(draws, MEAN.score), draws)


@pytest.mark.parametrize("measure", [MeanVariance(0.6), CVaR(0.5), Entropic(2.0)], ids=str)
def test_jackknifed_intervals_of_other_measures_cover(measure) -> None:
    hits = 0
    for seed in range(200):
        a, b = correlated_risks([0.3, 0.34], seed, 24)
        low, high = interval_of(b, a, measure.score)
        hits += low <= 0.04 <= high
    assert hits >= 180, "of 200 intervals that promise 190"


def test_a_clear_race_is_over_after_the_first_round() -> None:
    race = run(Race(4, MEAN.score, budget=400), correlated_risks([0.1, 0.6, 0.7, 0.8], 0, 100))
    assert race.left == [0]
    assert race.usage == 4 * race.start
    assert race.certainty() > 0.99


def test_what_is_the_same_leaves_and_what_cannot_be_told_goes_on_to_the_last_draw() -> None:
    table = correlated_risks([0.3, 0.3], 1, 60, own=0.0)
    same = run(Race(2, MEAN.score, budget=60), table)
    assert same.usage == 12, "identical arms are within any indifference"
    assert same.certainty() == 0.5
    close = run(Race(2, MEAN.score, budget=60, indifference=0.0), correlated_risks([0.3, 0.301], 2, 60))
    assert len(close.left) == 2
    assert 56 < close.usage <= 60


def test_the_promise_is_kept() -> None:
    wrong = 0
    ended = 0
    for seed in range(60):
        means = 0.3 + 0.04 * np.random.default_rng([seed, 1]).random(4)
        race = run(Race(4, MEAN.score, budget=160), correlated_risks(means, seed, 160, own=0.03))
        if len(race.left) == 1:
            ended += 1
            wrong += means[race.left[0]] - means.min() > 0.01
    assert ended > 15, "otherwise nothing was promised"
    assert wrong <= 3, "of 60 races at most 5 % may end more than the indifference above the best"


@pytest.mark.parametrize("budget", [160, 640])
def test_it_is_right_more_often_than_equal_shares_or_as_often_with_fewer_draws(budget: int) -> None:
    means, races = np.array([0.30, 0.33, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70]), 20
    spent, right, equally_right = 0, 0, 0
    for seed in range(races):
        table = correlated_risks(means, seed, budget, own=0.08)
        race = run(Race(8, MEAN.score, budget=budget, indifference=0.0), table)
        spent += race.usage
        right += race.leader == 0
        equally_right += int(np.argmin([row[:n].mean() for row, n in zip(table, uniform(8, budget))])) == 0
    if budget == 160:
        assert right > equally_right
    else:
        assert right >= equally_right
        assert spent / races < 0.75 * budget


@pytest.mark.parametrize("budget", [15, 16, 23, 40])
def test_a_race_never_overspends(budget: int) -> None:
    race = run(Race(5, MEAN.score, budget=budget, indifference=0.0), correlated_risks([0.3] * 5, 3, budget))
    assert race.usage <= budget


def test_bad_races_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 draws of each, 15"):
        Race(5, MEAN.score, budget=14)
    with pytest.raises(ValueError, match="start, batch, confidence"):
        Race(5, MEAN.score, budget=100, confidence=1.0)


# --- as a plan ------------------------------------------------------------------------------------------------------


def adaptively(candidates=MENU, **how):
    return plan_adaptively(AnalyticWorld(), start(), candidates, AnalyticRisk(), rules=no_rules, **how)


def test_an_adaptive_plan_agrees_with_the_full_one_and_is_cheaper() -> None:
    quick = adaptively(measure=MeanVariance(0.6), budget=240)
    full = plan(AnalyticWorld(), start(), MENU, AnalyticRisk(), k=40, rules=no_rules)
    assert quick.best.treatment == full.best.treatment == METOPROLOL
    assert quick.model_calls < full.model_calls / 3
    assert quick.separation > 0.95
    sizes = {c.treatment: len(c.risks) for c in quick.candidates}
    assert sizes[DOFETILIDE] == sizes[ATROPINE] == 6
    same = {c.treatment: c.risks for c in full.candidates}
    for row in quick.candidates:
        assert row.risks == pytest.approx(same[row.treatment][: len(row.risks)]), "the same seeds, the same futures"


def test_ties_are_told_and_watching_is_named_first() -> None:
    made = adaptively(candidates=(PLACEBO,), budget=60)
    assert made.best.treatment == WATCH
    assert len(made.tied) == 2
    assert made.to_json_dict()["separation"] == 0.5


@pytest.mark.parametrize("measure", [CVaR(), Entropic(), Exceedance(430.0)], ids=str)
def test_every_measure_can_be_raced(measure) -> None:
    made = adaptively(measure=measure, budget=100)
    assert made.model_calls <= 100
    assert made.measure == str(measure)


def test_the_planner_keeps_the_promises_and_its_budget() -> None:
    env = gym.make(
        "ecg_gym:ECGIntervention-v0", world="worlds:AnalyticWorld", risk="worlds:AnalyticRisk",
        scenario="healthy_volunteer", drugs=["dofetilide", "metoprolol"], max_episode_steps=2,
    )  # fmt: skip
    planner = AdaptivePlanner(env, budget=24, start=3, batch=2)
    check_planner(planner, env)
    env.reset(seed=0)
    _, decided = planner.act()
    assert decided.model_calls <= 24
    assert 0 <= decided.separation <= 1
