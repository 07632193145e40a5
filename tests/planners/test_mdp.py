"""Small problems of known optimum: their values are right, and every planner is measured on them."""

from __future__ import annotations

import numpy as np
import pytest

from planners import (
    AdaptivePlanner,
    BeamPlanner,
    CEMPlanner,
    ExhaustivePlanner,
    RandomPlanner,
    RandomShootingPlanner,
    RecedingHorizonPlanner,
    TreeSearchPlanner,
    WatchAndWait,
)
from planners.mdp import RandomMDP, optimality, place_of
from planners.two_stage import TwoStagePlanner

SMALL = {"states": 5, "actions": 3, "branching": 2, "horizon": 3}
SEQUENCES = {"horizon": 3, "k": 3, "budget": 150, "risk_aversion": 0.0}
PLANNERS = {
    "tree search": lambda env: TreeSearchPlanner(env, budget=150),
    "shooting": lambda env: RandomShootingPlanner(env, **SEQUENCES),
    "cem": lambda env: CEMPlanner(env, **SEQUENCES),
    "beam": lambda env: BeamPlanner(env, **SEQUENCES),
    "receding": lambda env: RecedingHorizonPlanner(env, **SEQUENCES),
    "exhaustive": lambda env: ExhaustivePlanner(env, k=8, risk_aversion=0.0),
    "adaptive": lambda env: AdaptivePlanner(env, budget=60, risk_aversion=0.0),
    "two stages": lambda env: TwoStagePlanner(env, k=8),
}
LEAST = {
    "exhaustive": 0.3,
    "adaptive": 0.3,
    "two stages": 0.3,
    "shooting": 0.4,
    "beam": 0.4,
    "cem": 0.4,
    "receding": 0.4,
}


def test_the_optimum_is_that_of_all_policies_tried() -> None:
    problem = RandomMDP(4, states=2, actions=2, branching=2, horizon=2)
    table, risks = problem.transitions, problem.risks
    returns = []
    for first in range(2):
        for then in np.ndindex(2, 2):  # an action for each state that may follow
            after = table[0, first]
            returns.append(sum(after[s] * (-risks[s] - table[s, then[s]] @ risks) for s in range(2)))
    assert problem.value()[0] == pytest.approx(max(returns))
    assert problem.value("random")[0] == pytest.approx(np.mean(returns))


def test_the_env_plays_the_problem() -> None:
    problem = RandomMDP(1, **SMALL)
    env = problem.env()
    counts = np.zeros(problem.states)
    for seed in range(300):
        env.reset(seed=seed)
        _, reward, *_ = env.step(1)
        place = int(place_of(env.unwrapped.state.ecg)[0])
        assert reward == pytest.approx(-problem.risks[place])
        counts[place] += 1
    assert counts / 300 == pytest.approx(problem.transitions[0, 1], abs=0.09)


@pytest.mark.parametrize("size", [{}, {"states": 12, "actions": 5, "branching": 4, "horizon": 6}])
def test_every_action_is_allowed_at_every_step(size: dict[str, int]) -> None:
    problem = RandomMDP(2, **size)
    env = problem.env()
    env.reset(seed=0)
    for step in range(problem.horizon):
        assert env.unwrapped.action_masks().tolist() == [True] * problem.actions
        env.step(1 + step % (problem.actions - 1))


def test_acting_at_random_is_nought_and_watching_is_not_the_optimum() -> None:
    random = optimality(RandomPlanner, range(20), 20, **SMALL)
    assert abs(random.share) < 4 * random.standard_error
    assert optimality(WatchAndWait, range(20), 4, **SMALL).share < 0.6


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_is_nearer_to_the_optimum_than_to_chance(name: str) -> None:
    result = optimality(PLANNERS[name], range(6), 4, **SMALL)
    assert result.share > LEAST.get(name, 0.75)
    assert 0 < result.model_calls <= 450


@pytest.mark.parametrize("wrong", [{"actions": 1}, {"actions": 9}, {"branching": 9}, {"horizon": 0}])
def test_sizes_that_make_no_problem_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 2 to 5 actions"):
        RandomMDP(**wrong)
