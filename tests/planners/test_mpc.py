"""Planners that look ahead, in a world that value iteration solves: they find the optimum, greedy ones do not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from worlds import RATES, START, AnalyticRisk, AnalyticWorld, LockWorld, make_lock, moved

from ecg_gym.core import WATCH, Dose, Treatment
from planners import (
    Beam,
    BeamPlanner,
    CEMPlanner,
    CrossEntropy,
    CVaR,
    MeanVariance,
    RandomShooting,
    RandomShootingPlanner,
    RecedingHorizonPlanner,
    check_planner,
)
from planners.baselines import episode_return
from planners.rollout import common_seeds
from planners.rollout_tree import RolloutTree

MENU = (WATCH, *(Treatment((Dose(drug, 1.0, "mg", "IV"),)) for drug in ("placebo", "magnesium", "ibutilide")))
DRUGS = tuple(t.doses[0].drug if t else "" for t in MENU)
SEARCHES = {"shooting": RandomShooting(), "cem": CrossEntropy(), "beam": Beam(8)}
PLANNERS = {
    "shooting": RandomShootingPlanner,
    "cem": CEMPlanner,
    "beam": BeamPlanner,
    "receding": RecedingHorizonPlanner,
}


def everything(menu, *_: object, **__: object) -> np.ndarray:
    return np.ones(len(menu), bool)


def imagine(horizon: int, *, world=None, k: int = 2, budget: int = 600, **how) -> RolloutTree:
    world = LockWorld() if world is None else world
    state = world.initial(1, np.random.default_rng(0))
    how = {"mask": everything, "allowed": np.ones(len(MENU), bool), "menu": MENU, "risk": AnalyticRisk(), **how}
    return RolloutTree(
        world, state.repeat(k), state.ecg, seeds=common_seeds(0, k), horizon=horizon, budget=budget, **how
    )


@cache
def value(place: int, left: int, horizon: int) -> tuple[float, tuple[int, ...]]:
    """Value iteration: the lowest cost of the steps left, and the entries that reach it."""
    if left == 0:
        return 0.0, ()
    options = []
    for entry, drug in enumerate(DRUGS):
        then = moved(place, drug)
        if then < 0:
            options.append((float(horizon + left), (entry, *(0,) * (left - 1))))
        else:
            cost, rest = value(then, left - 1, horizon)
            options.append((abs(RATES[then] - 60) / 60 + cost, (entry, *rest)))
    return min(options)


def test_the_lock_world_is_what_the_tests_need() -> None:
    assert value(START, 1, 1)[1] == (3,), "one step ahead ibutilide looks best"
    assert value(START, 2, 2)[1] == (0, 3), "two steps ahead it looks best to put that off"
    assert value(START, 3, 3)[1][:2] == (2, 2), "three steps ahead the cure"


@pytest.mark.parametrize("horizon", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_finds_what_value_iteration_finds(name: str, horizon: int) -> None:
    imagination = imagine(horizon)
    best = SEARCHES[name](imagination, MeanVariance(0.0), np.random.default_rng(1))[0]
    truth, _ = value(START, horizon, horizon)
    assert best.risks.mean() == pytest.approx(truth / horizon, abs=0.02)
    walked = sum(cost(best.entries, horizon))
    assert walked == pytest.approx(truth, abs=1e-9), f"{best.entries} is not optimal"


def cost(entries: tuple[int, ...], horizon: int) -> list[float]:
    place, costs = START, []
    for step, entry in enumerate(entries):
        place = moved(place, DRUGS[entry])
        if place < 0:
            return [*costs, float(2 * horizon - step)]
        costs.append(abs(RATES[place] - 60) / 60)
    return costs


def test_a_greedy_beam_takes_the_bait() -> None:
    greedy = Beam(1)(imagine(3), MeanVariance(0.0), np.random.default_rng(0))[0]
    assert greedy.entries[0] == 3, "ibutilide shows the best strip after one step"
    assert sum(cost(greedy.entries, 3)) > value(START, 3, 3)[0]


def test_dying_is_worse_than_every_way_to_survive() -> None:
    imagination = imagine(3)
    died, stuck, ready = imagination.walk([(3, 0, 0), (1, 0, 0), (2, 1, 2)])
    assert died.lost.all()
    assert not stuck.lost.any()
    assert died.risks.min() > 1 >= max(stuck.risks.max(), ready.risks.max())
    assert died.risks.mean() == pytest.approx((abs(62 - 60) / 60 + 3 + 2) / 3, abs=0.02)


def test_no_step_is_paid_for_twice_and_the_budget_is_law() -> None:
    imagination = imagine(3, k=2, budget=2 * (1 + 1 + 1 + 1))
    assert imagination.cost([(2, 2, 0), (2, 2, 1)]) == 2 * 4
    imagination.walk([(2, 2, 0)])
    assert imagination.calls == 2 * 3
    assert imagination.affordable([(2, 2, 0), (2, 2, 1), (2, 2, 2), (0, 0, 0)]) == [(2, 2, 0), (2, 2, 1)]
    with pytest.raises(ValueError, match="4 row-steps are needed, 2 are left"):
        imagination.walk([(2, 2, 1), (2, 2, 2)])
    imagination.walk([(2, 2, 1)])
    assert (imagination.calls, imagination.left) == (8, 0)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("budget", [6, 7, 23, 60])
def test_searches_stay_within_any_budget(name: str, budget: int) -> None:
    imagination = imagine(3, k=2, budget=budget)
    result = SEARCHES[name](imagination, CVaR(), np.random.default_rng(0))
    assert result
    assert all(len(paths.entries) == 3 for paths in result)
    assert imagination.calls <= budget


def test_futures_are_drawn_with_common_random_numbers_whatever_is_asked_beside_them() -> None:
    world = AnalyticWorld()
    kwargs = {"world": world, "k": 3}
    alone = imagine(3, **kwargs).walk([(1, 0, 0)])[0]
    beside = imagine(3, batch_rows=2, **kwargs).walk([(2, 0, 0), (1, 0, 0), (1, 0, 2)])[1]
    np.testing.assert_allclose(alone.risks, beside.risks, atol=1e-9)
    watching = imagine(3, **kwargs).walk([(0, 0, 0)])[0]
    np.testing.assert_allclose(alone.risks, watching.risks, atol=1e-9)  # this world does not know placebo


def test_what_the_rules_refuse_in_imagination_is_not_given() -> None:
    def once(menu, patient, intervals, given, hours, findings=frozenset()):
        return np.array([not t or not any(a.dose.drug == t.doses[0].drug for a in given) for t in menu])

    imagination = imagine(3, mask=once)
    twice, watched = imagination.walk([(2, 2, 0), (2, 0, 0)])
    assert twice.refused == 2
    np.testing.assert_array_equal(twice.risks, watched.risks)
    assert imagination.calls == 2 * 3, "they are the same futures"
    result = Beam(8)(imagine(3, mask=once), MeanVariance(0.0), np.random.default_rng(0))
    assert all(paths.refused == 0 for paths in result), "a beam does not even try"


def test_a_first_treatment_that_is_not_allowed_is_refused_aloud() -> None:
    with pytest.raises(ValueError, match="begin with an allowed one"):
        imagine(2, allowed=np.array([True, True, False, True])).walk([(2, 2)])


def test_discounting_prefers_early_relief() -> None:
    patient = imagine(3, discount=1.0)
    hasty = imagine(3, discount=0.05)
    how = (MeanVariance(0.0), np.random.default_rng(0))
    assert Beam(8)(patient, *how)[0].entries[0] == 2
    kept = [p for p in RandomShooting()(hasty, *how) if not p.lost.any()]
    assert kept[0].entries[0] == 1


def test_broken_futures_are_counted_and_rank_last() -> None:
    world = AnalyticWorld(broken=("magnesium",))
    imagination = imagine(2, world=world)
    result = RandomShooting()(imagination, MeanVariance(), np.random.default_rng(0))
    assert imagination.n_nonfinite > 0
    broken = [i for i, paths in enumerate(result) if not paths.finite.all()]
    assert broken == list(range(len(result) - len(broken), len(result)))
    assert all(result[i].risks.min() > 1 for i in broken)


# --- inside an env --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_unlocks_the_cure_in_the_env(name: str) -> None:
    env = make_lock(max_episode_steps=4, horizon=4)
    planner = PLANNERS[name](env, horizon=3, k=1, budget=60, risk_aversion=0.0)
    assert episode_return(env, planner, 0) == pytest.approx(-5 / 6, abs=0.05)


def test_a_greedy_planner_takes_the_bait_in_the_env() -> None:
    env = make_lock(max_episode_steps=4, horizon=4)
    greedy = BeamPlanner(env, horizon=1, k=1, budget=60, risk_aversion=0.0)
    assert episode_return(env, greedy, 0) == pytest.approx(-(0.25 + 3 * 0.5), abs=0.05)


@pytest.mark.parametrize("name", PLANNERS)
def test_sequence_planners_keep_the_promises(name: str) -> None:
    env = make_lock(max_episode_steps=2)
    check_planner(PLANNERS[name](env, horizon=2, k=1, budget=20), env)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_decision_says_what_it_cost_and_what_is_meant_to_follow(name: str) -> None:
    env = make_lock()
    env.reset(seed=0)
    planner = PLANNERS[name](env, horizon=3, k=2, budget=120, risk_aversion=0.0)
    _, decided = planner.act()
    assert 0 < decided.model_calls <= 120
    assert len(decided.sequence) == 3
    assert decided.sequence[0] == decided.treatment
    assert decided.samples > 2, "the best meet again in fresh futures"
    assert decided.separation > 0.9


def test_receding_horizon_begins_from_the_rest_of_its_plan_and_forgets_at_reset() -> None:
    class Curious:
        warm: list = []  # noqa: RUF012

        def __call__(self, imagination, measure, rng, warm=()):
            self.warm.append(warm)
            return Beam(8)(imagination, measure, rng, warm)

    env = make_lock()
    env.reset(seed=0)
    planner = RecedingHorizonPlanner(env, search=(search := Curious()), horizon=3, k=1, budget=200)
    action, decided = planner.act()
    entries = tuple(env.unwrapped.menu.index(t) for t in decided.sequence)
    env.step(action)
    planner.act()
    planner.act()  # asked twice: the same beginning
    assert search.warm == [(), (*entries[1:], 0), (*entries[1:], 0)]
    planner.reset()
    planner.act()
    env.reset(seed=1)
    planner.act()
    assert search.warm[3:] == [(), ()], "another episode, or a reset, begins from nothing"


def test_the_horizon_ends_with_the_episode() -> None:
    env = make_lock(max_episode_steps=2, horizon=2)
    obs, _ = env.reset(seed=0)
    planner = BeamPlanner(env, horizon=5, k=1, budget=200)
    _, decided = planner.act(obs)
    assert len(decided.sequence) == 2


def test_bad_settings_are_refused() -> None:
    env = make_lock()
    with pytest.raises(ValueError, match="budget whose first part pays"):
        BeamPlanner(env, horizon=3, k=4, budget=10)
    with pytest.raises(ValueError, match="belief is 'hearsay'"):
        BeamPlanner(env, belief="hearsay")
    with pytest.raises(ValueError, match="'truth' in another world"):
        BeamPlanner(env, world=AnalyticWorld(), belief="truth")
