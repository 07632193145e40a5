"""Closed-loop tree search: what it finds, what it may spend, and what guides it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld, ResponderWorld, make_lock

from planners import TreeSearchPlanner, check_planner
from planners.baselines import episode_return
from planners.mdp import RandomMDP, optimality
from planners.tree_kernel import NONE, Growth, best_entries, forest, plant, put, select

PLAIN = Growth(100, 1.0, 1.0, 0.75, 1.0, 0.5, 1.0, 1.0, False)


def grown(rewards, growth=PLAIN, prior=(0.5, 0.5), steps=1, seen=None):
    """One tree of one step, whose entries earn what ``rewards[entry](rng)`` says."""
    rng, n = np.random.default_rng(0), len(rewards)
    trees, allowed = forest(1, growth.budget + 1, n, 1), np.ones((1, n), bool)
    plant(trees, 1, np.zeros((1, 1)), allowed, np.array([prior], float), np.zeros(1), np.array([steps]))
    ways = np.zeros((5, 8), np.int64)
    while count := select(trees, growth, 8, ways):
        tree, _, edge, _, _ = ways[:, :count]
        entries = trees.edge_entry[tree, edge]
        earned = np.array([rewards[entry](rng) for entry in entries])
        looks = (earned if seen is None else np.array([seen(rng) for _ in entries]))[:, None]
        put(trees, growth, tree, edge, earned, looks, np.repeat(allowed, count, 0) & False,
            np.zeros((count, n)), np.zeros(count), np.zeros(count, np.int64))  # fmt: skip
    return trees


def test_the_budget_is_spent_and_most_of_it_on_the_better_arms() -> None:
    arms = [lambda rng, mean=mean: mean + 0.3 * rng.normal() for mean in (0.0, 1.0, 0.1, 0.2, 0.9)]
    trees = grown(arms, prior=(0.2,) * 5)
    assert trees.requests[0] == PLAIN.budget
    per_entry = {int(entry): int(n) for entry, n in zip(trees.edge_entry[0], trees.edge_requests[0]) if entry != NONE}
    assert sum(per_entry.values()) == PLAIN.budget
    assert min(per_entry[1], per_entry[4]) > 1.5 * max(per_entry[0], per_entry[2])
    assert best_entries(trees)[0][0] == 1
    assert best_entries(trees)[1][0] == pytest.approx(1.0, abs=0.2)


def test_outcomes_that_look_alike_are_one_node_and_count_as_often_as_they_came() -> None:
    alike = grown([lambda rng: rng.normal(), lambda rng: -1.0], seen=lambda rng: 0.3 * rng.random())
    apart = grown([lambda rng: rng.normal(), lambda rng: -1.0], seen=lambda rng: 10 * rng.random())
    assert alike.nodes[0] == 3, "the root and one node below each entry"
    assert alike.like[0, 1:3].sum() == PLAIN.budget
    assert apart.nodes[0] > 12


def test_entries_take_turns_until_the_first_outcome_has_come_back() -> None:
    trees, allowed = forest(1, PLAIN.budget + 1, 4, 1), np.array([[True, True, False, True]])
    plant(trees, 1, np.zeros((1, 1)), allowed, np.full((1, 4), 0.25), np.zeros(1), np.array([1]))
    ways = np.zeros((5, 8), np.int64)
    count = select(trees, PLAIN, 8, ways)
    entries = trees.edge_entry[ways[0, :count], ways[2, :count]]
    assert np.bincount(entries, minlength=4).tolist() == [3, 3, 0, 2]


def test_a_value_is_the_mean_of_what_was_drawn() -> None:
    trees = grown([lambda rng: float(rng.random() < 0.25), lambda rng: -5.0])
    edge = trees.edge[0, 0, 0]
    assert trees.edge_value[0, edge] == pytest.approx(0.25, abs=0.15)


def test_known_optima_are_reached() -> None:
    result = optimality(lambda env: TreeSearchPlanner(env, budget=200), range(8), 5, states=6, actions=3, horizon=3)
    assert result.share >= 0.85
    assert result.model_calls == 200


@pytest.mark.parametrize("leaves", [1, 16])
def test_it_finds_the_two_doses_that_cure(leaves: int) -> None:
    env = make_lock(horizon=4)
    best = episode_return(env, TreeSearchPlanner(env, budget=120, leaves=leaves), 0)
    assert best > episode_return(env, TreeSearchPlanner(env, budget=3), 0) - 1e-9
    env.reset(seed=0)
    assert env.unwrapped.menu[2] == TreeSearchPlanner(env, budget=120, leaves=leaves).act()[1].treatment


def test_it_keeps_the_promises_of_a_planner() -> None:
    env = make_lock(horizon=3)
    check_planner(TreeSearchPlanner(env, budget=40), env)


@pytest.mark.parametrize("world", [AnalyticWorld(), ResponderWorld()])
def test_in_a_world_of_its_own_it_starts_from_what_was_seen(world) -> None:
    env = gym.make(
        "ecg_gym:ECGIntervention-v0", world=AnalyticWorld(), risk=AnalyticRisk(), drugs=["metoprolol"], horizon=3,
        scenario="healthy_volunteer",
    )  # fmt: skip
    check_planner(TreeSearchPlanner(env, world=world, budget=60, particles=4), env)


def test_patients_of_a_vector_env_are_searched_together_as_each_alone() -> None:
    envs = gym.make_vec(
        "ecg_gym:ECGIntervention-v0", num_envs=3, world=AnalyticWorld(), risk=AnalyticRisk(), drugs=["metoprolol"],
        horizon=3, scenario="healthy_volunteer",
    )  # fmt: skip
    envs.reset(seed=5)
    planner = TreeSearchPlanner(envs, budget=30, leaves=4)
    together = planner.choose_rows([0, 1, 2])
    alone = [planner.choose(env, env.state) for env in planner.envs]
    assert [one.treatment for one in together] == [one.treatment for one in alone]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone])
    assert planner.choose_rows([]) == []


def test_a_prior_decides_where_little_may_be_asked() -> None:
    problem = RandomMDP(3)
    env = problem.env()
    env.reset(seed=0)

    def prior(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        assert observations.shape == (len(masks), env.observation_space.shape[0])
        return np.where(np.arange(masks.shape[1]) == 2, 0.97, 0.01) * masks

    def value(observations: np.ndarray) -> np.ndarray:
        return np.zeros(len(observations))

    assert TreeSearchPlanner(env, budget=1, prior=prior, value=value).act()[0] == 2


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"leaves": 0}, {"discount": 0.0}])
def test_numbers_that_search_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        TreeSearchPlanner(RandomMDP().env(), **wrong)
