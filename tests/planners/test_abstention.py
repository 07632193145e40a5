"""Deferring: when, why, and what it buys."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH, Dose, Treatment
from planners import (
    Abstention,
    AdaptivePlanner,
    BeamPlanner,
    DeferringPlanner,
    ExhaustivePlanner,
    PlanInfo,
    RandomShootingPlanner,
    check_planner,
    selective_risk,
)

ACTING = PlanInfo(Treatment((Dose("metoprolol", 50.0, "mg", "PO"),)), better=0.7, spread=0.1, n_nonfinite=1)


def make(**kwargs) -> gym.Env:
    named = {"world": AnalyticWorld(), "risk": AnalyticRisk(), "drugs": ["dofetilide", "metoprolol"],
             "scenario": "healthy_volunteer"}  # fmt: skip
    return gym.make("ecg_gym:ECGIntervention-v0", max_episode_steps=2, **{**named, **kwargs})


@pytest.mark.parametrize(
    ("when", "unreadable", "words"),
    [
        (Abstention(), False, ""),
        (Abstention(), True, "cannot be read"),
        (Abstention(readable=False), True, ""),
        (Abstention(better=0.6), False, ""),
        (Abstention(better=0.8), False, "probability 0.70"),
        (Abstention(spread=0.2), False, ""),
        (Abstention(spread=0.05), False, "SD of 0.100"),
        (Abstention(nonfinite=0), False, "1 futures were not finite"),
        (Abstention(nonfinite=1), False, ""),
    ],
)
def test_each_reason(when: Abstention, unreadable: bool, words: str) -> None:
    reason = when.reason(ACTING, unreadable)
    assert words in reason
    assert bool(reason) == bool(words)


def test_what_is_not_known_defers_and_watching_is_never_an_abstention() -> None:
    assert "nan" in Abstention(better=0.8).reason(replace(ACTING, better=np.nan))
    assert Abstention(spread=1.0).reason(replace(ACTING, spread=np.nan))
    assert Abstention(better=0.8).reason(replace(ACTING, treatment=WATCH, better=0.0)) == ""


@pytest.mark.parametrize(
    "made",
    [
        lambda env: ExhaustivePlanner(env, k=4),
        lambda env: AdaptivePlanner(env, budget=100),
        lambda env: BeamPlanner(env, horizon=2, k=2, budget=100),
        lambda env: RandomShootingPlanner(env, horizon=2, k=2, budget=100),
    ],
    ids=["exhaustive", "adaptive", "beam", "shooting"],
)
def test_planners_defer_where_drugs_do_nothing_and_act_where_one_helps(made) -> None:
    idle = make(drugs=["placebo"])
    idle.reset(seed=0)
    _, decided = DeferringPlanner(idle, made(idle), Abstention(better=0.9)).act()
    assert decided.treatment == WATCH
    helpful = make(drugs=["metoprolol"], world=AnalyticWorld())
    helpful.reset(seed=0)
    _, decided = DeferringPlanner(helpful, made(helpful), Abstention(better=0.9)).act()
    assert decided.treatment != WATCH
    assert decided.abstained == ""
    assert decided.better > 0.9
    harmful = make(drugs=["dofetilide"])
    harmful.reset(seed=0)
    _, decided = made(harmful).act()
    assert decided.treatment == WATCH


def test_an_unreadable_strip_is_no_ground_to_act_on() -> None:
    env = make(drugs=["metoprolol"])
    env.reset(seed=0)
    inner = env.unwrapped
    blind = {**inner.episode.now, "hr_bpm": np.array([np.nan])}
    inner.episode = replace(inner.episode, now=blind)
    _, decided = DeferringPlanner(env, ExhaustivePlanner(env, k=4), Abstention()).act()
    assert (decided.treatment, decided.sequence) == (WATCH, ())
    assert "cannot be read" in decided.abstained


def test_a_deferring_planner_keeps_the_promises() -> None:
    env = make()
    check_planner(DeferringPlanner(env, ExhaustivePlanner(env, k=3)), env)


# --- the curve ------------------------------------------------------------------------------------------------------


def test_the_curve_of_a_few_decisions_by_hand() -> None:
    curve = selective_risk(np.array([0.9, 0.5, 0.7, 0.1]), np.array([0.0, 0.2, 0.1, 0.5]))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.regret, [0.0, 0.05, 0.1, 0.2])
    assert curve.area == pytest.approx(np.mean([0.0, 0.05, 0.1, 0.2]))
    assert curve.ideal == curve.area
    assert curve.gained == 1.0


def test_confidence_that_says_nothing_is_blind() -> None:
    regret = np.random.default_rng(0).random(50)
    curve = selective_risk(np.ones(50), regret)
    assert curve.coverage.tolist() == [1.0]
    assert curve.area == pytest.approx(curve.blind)
    assert curve.gained == pytest.approx(0)
    samples = [selective_risk(np.random.default_rng(i).random(50), regret).area for i in range(300)]
    assert np.mean(samples) == pytest.approx(curve.blind, abs=0.01)


def test_bad_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        selective_risk(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="not finite"):
        selective_risk(np.array([np.nan, 1.0]), np.ones(2))
    with pytest.raises(ValueError, match="better is 1"):
        Abstention(better=1.0)
