"""Planners inside an env: what they choose, that they keep the promises, and that SB3 takes them unchanged."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from planners import BestConstant, ExhaustivePlanner, PlanInfo, Planner, RandomPlanner, WatchAndWait, check_planner
from planners.base import believe
from planners.baselines import episode_return


def make(**kwargs) -> gym.Env:
    named = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide", "metoprolol"],
         "scenario": "healthy_volunteer"}  # fmt: skip
    return gym.make("ecg_gym:ECGIntervention-v0", **{**named, **kwargs})


PLANNERS = {
    "exhaustive": lambda env: ExhaustivePlanner(env, k=3),
    "exhaustive in another world": lambda env: ExhaustivePlanner(env, AnalyticWorld(noise_mv=0.001), k=2, particles=2),
    "random": RandomPlanner,
    "watch": WatchAndWait,
    "constant": lambda env: BestConstant(env, env.unwrapped.menu[-1]),
}


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("kwargs", [{}, {"actions": "multidiscrete"}, {"obs": "waveform"}], ids=str)
def test_every_planner_keeps_the_promises(name: str, kwargs: dict) -> None:
    env = make(max_episode_steps=3, **kwargs)
    check_planner(PLANNERS[name](env), env)


class Meddler(WatchAndWait):
    def choose(self, env, state):
        env.np_random.random()
        return PlanInfo(WATCH)


class Fickle(Planner):
    turn = 0

    def choose(self, env, state):
        self.turn = (self.turn + 1) % len(env.menu)
        return PlanInfo(env.menu[self.turn])


class Thoughtless(Planner):
    def choose(self, env, state):
        return PlanInfo(env.menu[-1])


@pytest.mark.parametrize(("planner", "words"), [(Meddler, "thinking changed the env"), (Fickle, "and then")])
def test_a_planner_that_breaks_a_promise_is_told_which(planner, words) -> None:
    env = make()
    with pytest.raises(AssertionError, match=words):
        check_planner(planner(env), env)


def test_a_planner_that_ignores_the_mask_is_caught(monkeypatch) -> None:
    env = make()
    reset = env.unwrapped.reset

    def forbidding(**kwargs):
        out = reset(**kwargs)
        allowed = env.unwrapped.episode.allowed.copy()
        allowed[0, -1] = False
        env.unwrapped.episode = replace(env.unwrapped.episode, allowed=allowed)
        return out

    monkeypatch.setattr(env.unwrapped, "reset", forbidding)
    with pytest.raises(AssertionError, match="not allowed now"):
        check_planner(Thoughtless(env), env)


def test_looking_ahead_beats_the_anchors() -> None:
    env = make()
    mean = {
        name: np.mean([episode_return(env, planner, seed) for seed in range(3)])
        for name, planner in {
            "exhaustive": ExhaustivePlanner(env, k=3),
            "random": RandomPlanner(env),
            "watch": WatchAndWait(env),
        }.items()
    }
    assert mean["exhaustive"] > max(mean["watch"], mean["random"])


def test_best_constant_finds_the_drug_that_helps() -> None:
    env = make(drugs=["dofetilide", "metoprolol"])
    assert BestConstant.search(env, episodes=1).treatment.doses[0].drug == "metoprolol"


def test_planning_elsewhere_starts_from_what_can_be_observed() -> None:
    env, other = make(), AnalyticWorld(half_life_hours=2.0)
    env.reset(seed=0)
    env.step(1)
    inner = env.unwrapped
    assert believe(inner.world, inner, inner.state) is inner.state
    belief = believe(other, inner, inner.state)
    np.testing.assert_array_equal(belief.ecg, inner.state.ecg)
    assert (belief.hours[0], belief.doses[0][0].hours) == (0.0, -1.0)


def test_lethal_and_broken_choices_are_avoided() -> None:
    env = make(world=AnalyticWorld(lethal=("dofetilide",), broken=("metoprolol",)), risk=AnalyticRisk())
    obs, info = env.reset(seed=0)
    _, decided = ExhaustivePlanner(env, k=2).act(obs, info)
    assert decided.treatment == WATCH
    assert decided.n_nonfinite > 0
    assert decided.model_calls == 2 * len(decided.plan.candidates)


def test_stable_baselines_evaluates_a_planner_as_a_policy() -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation", reason="stable-baselines3 is not installed")
    common = pytest.importorskip("stable_baselines3.common.env_util")
    env = common.make_vec_env(make, n_envs=2, seed=0)
    rewards, lengths = evaluation.evaluate_policy(
        ExhaustivePlanner(env, k=2), env, n_eval_episodes=2, return_episode_rewards=True
    )
    assert lengths == [8, 8]
    assert all(-8 <= r <= 0 for r in rewards)


class Spendthrift(WatchAndWait):
    budget = 10

    def choose(self, env, state):
        return PlanInfo(WATCH, model_calls=11)


class Turncoat(WatchAndWait):
    def choose(self, env, state):
        return PlanInfo(WATCH, sequence=(env.menu[1],))


class Unsure(WatchAndWait):
    def choose(self, env, state):
        return PlanInfo(env.menu[1], abstained="who knows")


class Peeping(WatchAndWait):
    world = AnalyticWorld()  # not the env's

    def choose(self, env, state):
        return PlanInfo(env.menu[int(state.ecg.mean() > 0.25)])


@pytest.mark.parametrize(
    ("planner", "words"),
    [
        (Spendthrift, "the budget is 10"),
        (Turncoat, "begins otherwise"),
        (Unsure, "treats all the same"),
        (Peeping, "looks at the true strip"),
    ],
)
def test_new_promises_are_checked_too(planner, words) -> None:
    env = make(max_episode_steps=1)
    with pytest.raises(AssertionError, match=words):
        check_planner(planner(env), env)
