"""The native vector env against single envs, and the checker against vector envs that are broken on purpose."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.checks import check_vector_env
from ecg_gym.checks.vector import MODES
from ecg_gym.envs import ECGInterventionVectorEnv, vector

ID, ORACLE = "ECGIntervention-v0", "ECGInterventionOracle-v0"
NAMED = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide", "metoprolol"],
         "scenario": "healthy_volunteer"}  # fmt: skip
KINDS = [
    {},
    {"actions": "multidiscrete"},
    {"obs": "waveform"},
    {"tier": "noisy"},
    {"tier": "delayed"},
    {"samples": 2, "risk_aversion": 0.5},
    {"invalid_action": "terminate", "burden": 0.1},
]


def make(n: int = 4, **kwargs: Any) -> ECGInterventionVectorEnv:
    return gym.make_vec(ID, n, **{**NAMED, **kwargs})  # type: ignore[return-value]


@pytest.mark.parametrize("kwargs", KINDS, ids=str)
def test_rows_are_what_single_envs_are_in_every_mode(kwargs) -> None:
    check_vector_env(ID, exact=True, **NAMED, **kwargs)


def test_rows_of_the_virtual_patient_are_what_single_envs_are() -> None:
    check_vector_env("ECGOracle/AFRapidResponse-Missing-v0", 2, 3, exact=True, risk="limits", max_episode_steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [None, "batch"])
def test_rows_of_the_learned_world_are_what_single_envs_are(deterministic) -> None:
    value = {"scenario": "af_rapid_response", "knobs": {"steps": 3}, "max_episode_steps": 2}
    check_vector_env(ID, 3, 3, exact=deterministic == "batch", deterministic=deterministic, **value)


@pytest.mark.xfail(
    reason="one reading of a watched row differs in its last bit (2026-11-30, without AVX-512); not found", strict=False
)
@pytest.mark.slow
def test_a_row_of_a_large_run_can_be_replayed_alone_to_the_last_bit() -> None:
    value = {"scenario": "af_rapid_response", "knobs": {"steps": 3}, "deterministic": "batch"}
    crowd, alone = gym.make_vec(ID, 11, **value), gym.make(ID, **value)
    rows, row = crowd.reset(seed=100)[0], alone.reset(seed=107)[0]
    assert np.array_equal(rows[7], row)
    for action in (1, 0, 2):
        seen, earned, *_ = crowd.step(np.full(11, action))
        one = alone.step(action)
        assert np.array_equal(seen[7], one[0])
        assert earned[7] == one[1]


@pytest.mark.parametrize("mode", MODES)
def test_gym_make_vec_takes_the_native_env(mode) -> None:
    envs = make(autoreset_mode=mode)
    assert isinstance(envs, ECGInterventionVectorEnv)
    assert envs.metadata["autoreset_mode"] == mode
    assert ECGInterventionVectorEnv.metadata.get("autoreset_mode") is None
    assert envs.spec is not None


def test_masks_have_a_row_per_env_before_and_after_reset() -> None:
    envs = make(3)
    assert envs.action_masks().shape == (3, envs.single_action_space.n)
    assert envs.action_masks().all()
    info = envs.reset(seed=0)[1]
    assert info["action_mask"].dtype == np.int8
    assert np.array_equal(info["action_mask"], envs.action_masks())
    pairs = make(3, actions="multidiscrete")
    assert pairs.action_masks().shape == (3, pairs.single_action_space.nvec.sum())


def test_final_observations_come_in_the_same_step_and_resets_in_the_next() -> None:
    same, after = make(2, autoreset_mode="SameStep", max_episode_steps=1), make(2, max_episode_steps=1)
    for envs in (same, after):
        envs.reset(seed=0)
    seen, _, _, truncated, info = same.step(np.zeros(2, int))
    assert truncated.all()
    assert info["_final_obs"].all()
    assert info["final_info"]["steps"].tolist() == [1, 1]
    assert info["steps"].tolist() == [0, 0]
    assert not np.array_equal(seen[0], info["final_obs"][0])
    last = after.step(np.zeros(2, int))[0]
    assert np.array_equal(last[0], info["final_obs"][0])
    fresh, earned, _, truncated, info = after.step(np.ones(2, int))
    assert np.array_equal(fresh, seen)
    assert (earned.tolist(), truncated.tolist(), info["steps"].tolist()) == ([0, 0], [False] * 2, [0, 0])


def test_disabled_waits_for_its_reset_and_says_so() -> None:
    envs = make(3, autoreset_mode="Disabled", max_episode_steps=1)
    envs.reset(seed=0)
    envs.step(np.zeros(3, int))
    with pytest.raises(ValueError, match="have ended"):
        envs.step(np.zeros(3, int))
    _, info = envs.reset(options={"reset_mask": np.array([True, False, True])})
    assert info["_steps"].tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"\[1\] have ended"):
        envs.step(np.zeros(3, int))


@pytest.mark.parametrize("mask", [[True, False], np.array([1, 0]), np.array([True]), np.array([False, False])], ids=str)
def test_a_reset_mask_that_is_none_is_refused(mask) -> None:
    envs = make(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_bad_arguments_are_sentences() -> None:
    with pytest.raises(ValueError, match="num_envs is 0"):
        make(0)
    with pytest.raises(RuntimeError, match="reset first"):
        _ = make(2).episode
    with pytest.raises(ValueError, match="2 seeds for 3"):
        make(3).reset(seed=[1, 2])
    with pytest.raises(ValueError, match=r"options hold \['mood'\]"):
        make(2).reset(options={"mood": 1})
    with pytest.raises(ValueError, match="expected all at the first reset"):
        make(2).reset(options={"reset_mask": np.array([True, False])})


def test_a_death_ends_one_row_and_leaves_the_others_alone() -> None:
    envs = gym.make_vec(ID, 3, **{**NAMED, "world": AnalyticWorld(lethal=("dofetilide",)), "risk": AnalyticRisk()})
    envs.reset(seed=0)
    poison = next(i for i, t in enumerate(envs.menu) if t and t.doses[0].drug == "dofetilide")
    _, earned, terminated, _, info = envs.step(np.array([0, poison, 0]))
    assert terminated.tolist() == [False, True, False]
    assert earned[1] == -16.0
    assert info["costs"]["lethal"].tolist() == [0, 8, 0]
    assert info["reward_terms"]["lethal"].tolist() == [0, -16, 0]
    _, earned, terminated, _, info = envs.step(np.zeros(3, int))
    assert (earned[1], terminated[1], info["steps"].tolist()) == (0.0, False, [2, 0, 2])


def test_copies_and_pickles_go_on_identically() -> None:
    envs = make(3)
    envs.reset(seed=3)
    envs.step(np.array([1, 2, 0]))
    twins = [copy.deepcopy(envs), pickle.loads(pickle.dumps(envs))]
    expected = envs.step(np.array([0, 1, 2]))
    for twin in twins:
        assert np.array_equal(twin.step(np.array([0, 1, 2]))[0], expected[0])


def test_every_row_is_drawn() -> None:
    envs = make(2, render_mode="ansi")
    envs.reset(seed=0)
    assert all("risk" in line for line in envs.render())
    envs.step(np.array([1, 0]))
    lines = envs.render()
    assert "dofetilide" in lines[0]
    assert "watch" in lines[1]


# --- the checker must find what is broken ----------------------------------------------------------------------------


def broken(monkeypatch: pytest.MonkeyPatch, name: str, change: Any) -> None:
    whole = getattr(ECGInterventionVectorEnv, name)
    monkeypatch.setattr(ECGInterventionVectorEnv, name, lambda self, *a, **k: change(self, whole, *a, **k))


def _noisy_reward(self, step, actions):
    seen, earned, *rest = step(self, actions)
    return (seen, earned + 1e-6, *rest)


def _stale(self, step, actions):
    seen, *rest = step(self, actions)
    self.held = getattr(self, "held", seen)
    self.held[:] = seen
    return (self.held, *rest)


def _no_final(self, step, actions):
    *rest, info = step(self, actions)
    info.pop("final_obs", None)
    return (*rest, info)


def _global(self, step, actions):
    np.random.rand()  # noqa: NPY002 - the fault
    return step(self, actions)


def _order(self, step, actions):
    return step(self, actions[::-1].copy())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_noisy_reward, "is not"),
        (_stale, "memory|is not"),
        (_no_final, "final_obs"),
        (_global, "global random"),
        (_order, "is not"),
    ],
)
def test_the_checker_finds_faults_of_step(monkeypatch, fault, message) -> None:
    broken(monkeypatch, "step", fault)
    with pytest.raises(AssertionError, match=message):
        check_vector_env(ID, exact=True, **NAMED)


def test_the_checker_finds_masks_that_are_not_those_of_the_info(monkeypatch) -> None:
    broken(
        monkeypatch,
        "action_masks",
        lambda self, masks: np.ones_like(masks(self)) & (np.arange(masks(self).shape[1]) < 1),
    )
    with pytest.raises(AssertionError, match="other masks"):
        check_vector_env(ID, exact=True, **NAMED)


def test_the_checker_finds_rows_that_share_a_seed(monkeypatch) -> None:
    broken(monkeypatch, "_seeds", lambda self, seeds, seed: [seed] * self.num_envs)
    with pytest.raises(AssertionError, match="is not"):
        check_vector_env(ID, exact=True, **NAMED)


def test_modes_are_those_of_gymnasium() -> None:
    assert set(MODES) == set(AutoresetMode)
    assert vector.MASK == "reset_mask"


def test_a_second_seed_forgets_the_people_whom_the_first_had_waiting() -> None:
    """Without strips the next people of all rows are drawn at once and wait; another seed has others."""

    def walk(envs: gym.vector.VectorEnv, seed: int) -> np.ndarray:
        envs.reset(seed=seed)
        return np.stack([envs.step(np.zeros(3, int))[0] for _ in range(7)])

    used, fresh = (
        gym.make_vec("ECGInterventionOracle-v0", num_envs=3, fidelity="vitals", risk="limits", horizon=2)
        for _ in range(2)
    )
    first = walk(used, 0)
    again = walk(used, 1)
    np.testing.assert_array_equal(again, walk(fresh, 1))
    assert not np.array_equal(again[-1], first[-1])
