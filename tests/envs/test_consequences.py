"""Harm by treatment against the untreated twin, and that nothing is told before or better than it is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.columns import Choice
from ecg_gym.envs import dynamics
from ecg_gym.envs.consequences import deliver
from ecg_gym.envs.observations import describe
from ecg_gym.registration import SCENARIOS
from ecg_gym.streams import Streams

TRUTH = "ecg_gym:ECGInterventionOracle-v0"


def truth(**kwargs: Any) -> Any:
    return gym.make(TRUTH, **{"risk": "limits", "fidelity": "vitals", **kwargs}).unwrapped


def batch(n: int, **kwargs: Any) -> Any:
    named = {"risk": "limits", "fidelity": "vitals", "autoreset_mode": "Disabled", **kwargs}
    return gym.make_vec(TRUTH, num_envs=n, **named).unwrapped


def poisoned(**kwargs: Any) -> Any:
    """An env in which ibutilide kills at once, and the untreated never die."""
    named = {"world": AnalyticWorld(lethal=("ibutilide",)), "risk": AnalyticRisk(), "scenario": "healthy_volunteer",
             "drugs": ["dofetilide", "ibutilide"], **kwargs}  # fmt: skip
    return gym.make("ecg_gym:ECGIntervention-v0", **named).unwrapped


# --- cost ------------------------------------------------------------------------------------------------------------


def test_watching_costs_nothing_in_any_scenario() -> None:
    envs = batch(40, autoreset_mode="SameStep")
    envs.reset(seed=0)
    for _ in range(4):
        *_, info = envs.step(np.zeros(40, int))
        assert not info["cost"].any()
        assert all(not values.any() for name, values in info["costs"].items() if not name.startswith("_"))


def test_the_cost_of_a_dose_is_its_excess_over_the_untreated_twin() -> None:
    envs, twins = (batch(30, scenario="acquired_long_qt", mask="contraindications") for _ in range(2))
    envs.reset(seed=1)
    twins.reset(seed=1)
    ondansetron = next(i for i, t in enumerate(envs.menu) if str(t).startswith("ondansetron 4 mg"))
    gained = np.zeros(30)
    for action in (ondansetron, 0, 0):
        *_, info = envs.step(np.full(30, action))
        twins.step(np.zeros(30, int))
        ours, theirs = envs.episode.truth["cost"], twins.episode.truth["cost"]
        both = envs.episode.state.alive & twins.episode.state.alive
        np.testing.assert_allclose(info["cost"][both], np.maximum(ours - theirs, 0)[both], atol=1e-12)
        gained += info["cost"]
    assert (gained > 0).any()


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_dying_costs_the_steps_that_were_left_and_never_saves_any(dies_at) -> None:
    def total(kill: int) -> float:
        env, sum_ = poisoned(), 0.0
        env.reset(seed=3)
        last = len(env.menu) - 1
        for step in range(8):
            *_, over, _, info = env.step(last if step == kill else 1)
            sum_ += info["cost"]
            if over:
                break
        return sum_

    assert total(dies_at) >= total(99), "no survivor of the same doses pays more"
    assert total(0) == 8.0
    assert total(dies_at - 1) >= total(dies_at)


def test_a_death_that_the_twin_dies_as_well_is_not_the_treatments() -> None:
    env = truth(scenario="healthy_volunteer")
    env.reset(seed=0)
    placebo = next(i for i, t in enumerate(env.menu) if str(t).startswith("placebo"))
    env.step(placebo)
    doomed = env.episode.state
    hopeless = doomed.inner["heart"].copy()
    from ecg_gym.virtual_patient.columns import RHYTHM, words

    hopeless[:, RHYTHM] = words()["rhythm"].index("asystole")
    dead = doomed.replaced(inner={**doomed.inner, "heart": hopeless}, alive=np.zeros(1, bool))
    env.episode = replace(env.episode, twin=dead)
    *_, info = env.step(placebo)
    assert info["cost"] == 0.0


def test_an_env_may_do_without_the_twin() -> None:
    env = truth(scenario="svt", cost=False)
    _, info = env.reset(seed=0)
    assert not {"cost", "costs"} & info.keys()
    assert env.step(0)[4].keys() == info.keys()


# --- when it arrives -------------------------------------------------------------------------------------------------


def test_delivery_by_hand() -> None:
    due, owed, over = np.array([[3.0], [5.0]]), np.array([[1.0], [2.0]]), np.array([False, True])
    for timing, late, now, left in (
        ("seen", False, [[3.0], [5.0]], [[0.0], [0.0]]),
        ("seen", True, [[1.0], [7.0]], [[3.0], [0.0]]),
        ("end", False, [[0.0], [7.0]], [[4.0], [0.0]]),
    ):
        arrived, pending = deliver(timing, late, owed, due, over)
        assert (arrived.tolist(), pending.tolist()) == (now, left)


@pytest.mark.parametrize("tier", ["variation", "noisy", "delayed"])
def test_rewards_at_the_end_are_those_of_the_true_strips_in_every_tier(tier) -> None:
    words = {"scenario": "bradycardia", "horizon": 5}
    now, later = truth(**words), truth(**words, tier=tier, reward_timing="end")
    now.reset(seed=4)
    later.reset(seed=4)
    paid = [(now.step(0)[1], later.step(0)[1]) for _ in range(5)]
    assert [late for _, late in paid[:-1]] == [0.0] * 4
    assert paid[-1][1] == pytest.approx(sum(reward for reward, _ in paid))


def test_rewards_of_late_strips_all_arrive_by_the_end() -> None:
    env = truth(scenario="bradycardia", horizon=4, tier="delayed")
    env.reset(seed=2)
    rewards, risks = [], []
    for _ in range(4):
        rewards.append(env.step(0)[1])
        risks.append(float(env.episode.last["risk"][0]))
    assert rewards == pytest.approx([0.0, -risks[0], -risks[1], -risks[2] - risks[3]])


# --- what must not be told -------------------------------------------------------------------------------------------


@pytest.fixture(params=["noisy", "missing", "delayed"])
def spoilt(request) -> Any:
    """Many episodes after two steps in a tier that hides something, some of them treated."""
    envs = batch(60, tier=request.param)
    envs.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(2):
        allowed = envs.action_masks()
        envs.step(np.where(allowed, rng.random(allowed.shape), -1).argmax(axis=1))
    return envs


def test_nothing_of_the_true_strip_is_in_observation_mask_or_info(spoilt) -> None:
    """With another true strip, and another that is still to come where they come late, nothing that is told changes."""
    episode, task = spoilt.episode, spoilt.task
    other = batch(60, tier="noisy", scenario="hyperkalaemia")
    other.reset(seed=77)
    swapped = replace(episode, truth=other.episode.truth, baseline=other.episode.truth)
    if task.tier.delayed:
        swapped = replace(swapped, last=other.episode.last)
    assert np.array_equal(dynamics.features(task, swapped), dynamics.features(task, episode))
    assert np.array_equal(dynamics.allowed_mask(task, swapped), episode.allowed)
    before, after = (spoilt.setup.info(each, None) for each in (episode, swapped))
    for name in before.keys() - {"finite", "costs", "reward_terms"}:
        assert np.array_equal(before[name], after[name]), name


def test_what_is_seen_does_reach_observation_and_mask(spoilt) -> None:
    """The other way round, so that the test before could fail."""
    episode, task = spoilt.episode, spoilt.task
    other = batch(60, tier="noisy", scenario="hyperkalaemia")
    other.reset(seed=77)
    swapped = replace(episode, now=other.episode.now)
    assert not np.array_equal(dynamics.features(task, swapped), dynamics.features(task, episode))
    assert not np.array_equal(dynamics.allowed_mask(task, swapped), episode.allowed)


def test_the_risk_feature_is_that_of_the_strip_that_is_seen(spoilt) -> None:
    features = [describe(spoilt.layout, row)["risk"] for row in spoilt.setup.observation(spoilt.episode)]
    episode = spoilt.episode
    np.testing.assert_allclose(features, episode.now["risk"], atol=1e-6)
    assert np.abs(np.array(features) - episode.truth["risk"]).max() > 0.01


def test_readings_of_late_strips_are_one_step_old() -> None:
    late, prompt = (batch(20, tier=tier, scenario="bradycardia") for tier in ("delayed", "missing"))
    late.reset(seed=3)
    prompt.reset(seed=3)
    before = prompt.episode.now["hr_bpm"].copy()
    late.step(np.zeros(20, int))
    prompt.step(np.zeros(20, int))
    np.testing.assert_array_equal(late.episode.now["hr_bpm"], before)
    assert not np.array_equal(prompt.episode.now["hr_bpm"], before)


# --- one space for everybody -----------------------------------------------------------------------------------------


def test_every_id_has_the_same_spaces_and_small_ones_on_request() -> None:
    default = gym.make(TRUTH, risk="limits")
    for camel in SCENARIOS.values():
        env = gym.make(f"ECGOracle/{camel}-v0", risk="limits")
        assert env.action_space == default.action_space
        assert env.observation_space == default.observation_space
    small = gym.make("ECGOracle/SVT-v0", risk="limits", menu="scenario").unwrapped
    assert small.menu == small.scenarios[0].menu
    assert len(small.menu) < default.action_space.n / 3


def test_the_default_id_meets_every_scenario_at_its_own_pace_and_offers_what_is_at_hand() -> None:
    envs = batch(300)
    seen, info = envs.reset(seed=0)
    assert set(info["scenario"]) == set(SCENARIOS)
    rows = {scenario.name: scenario for scenario in envs.scenarios}
    for i, name in enumerate(info["scenario"]):
        scenario = rows[name]
        assert info["dt_hours"][i] == scenario.clock.dt_hours
        assert envs.episode.horizon[i] == scenario.clock.steps
        offered = {envs.menu[entry] for entry in np.flatnonzero(info["action_mask"][i])}
        assert offered <= set(scenario.menu)
        features = describe(envs.layout, seen[i])
        assert [n for n in SCENARIOS if features[f"reason_{n}"] > 0.5] == [name]
        assert [features[f"allowed_{k}"] > 0.5 for k in range(len(envs.menu))] == info["action_mask"][i].astype(
            bool
        ).tolist()
    *_, info = envs.step(np.zeros(300, int))
    np.testing.assert_allclose(info["hours"], info["dt_hours"])


def test_rows_of_different_clocks_are_what_single_envs_are() -> None:
    envs = batch(6)
    envs.reset(seed=11)
    many = [envs.step(np.zeros(6, int)) for _ in range(3)]
    for row in range(6):
        env = truth()
        env.reset(seed=11 + row)
        for seen, reward, _, _, info in many:
            one = env.step(0)
            np.testing.assert_allclose(one[0], seen[row], atol=1e-6)
            assert one[1] == pytest.approx(reward[row], abs=1e-9)
            assert one[4]["hours"] == pytest.approx(info["hours"][row])


@pytest.mark.parametrize(("tier", "timing"), [("clean", "seen"), ("noisy", "seen"), ("noisy", "end")])
def test_a_step_beside_the_twins_is_what_each_is_alone(tier, timing) -> None:
    envs = batch(20, tier=tier, reward_timing=timing)
    envs.reset(seed=2)
    task, rng = envs.task, np.random.default_rng(0)
    episode, streams = envs.episode, Streams.start(rng.integers(0, 2**63, (20, 2)).astype(np.uint64))
    for step in range(3):
        own = streams.after(np.full(20, step))
        entries = np.array([rng.choice(np.flatnonzero(row)) for row in episode.allowed]) * (rng.random(20) < 0.5)
        after, outcome = dynamics.advance(task, episode, entries, own)
        treated = episode.treated | (entries != 0)
        state = task.world.step(episode.state, Choice(task.menu, entries), own)
        twin = task.world.step(episode.twin, Choice(task.menu, np.zeros(20, int)), own)
        np.testing.assert_array_equal(after.state.inner["now"], state.inner["now"])
        np.testing.assert_array_equal(after.twin.inner["now"][treated], twin.inner["now"][treated])
        if timing == "seen":
            first, missing = (episode.baseline, None) if task.tier.clear else (episode.start, episode.missing)
            risen = (dynamics.read_vitals(task, each, first, missing)["cost"] for each in (state, twin))
            cost = np.clip(np.subtract(*risen), 0, 1) * treated
            alive = state.alive & twin.alive
            np.testing.assert_allclose(outcome.costs["cost"][alive], cost[alive], atol=1e-12)
        episode = after
