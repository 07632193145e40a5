"""The native vector env as a VecEnv of stable-baselines3: its promises, its algorithms, and eyes for strips."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed; pip install 'ecg-gym[rl]'")
contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed; pip install 'ecg-gym[rl]'")

import torch  # noqa: E402
from stable_baselines3 import DQN, PPO  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize  # noqa: E402

from ecg_gym.envs.sb3 import SB3VecEnv, row_of, sb3_vec_env  # noqa: E402
from ecg_gym.envs.sb3_extractor import StripExtractor  # noqa: E402

ID = "ECGIntervention-v0"
NAMED: dict[str, Any] = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide"],
                         "scenario": "healthy_volunteer"}  # fmt: skip


def native(n: int = 3, **kwargs: Any):
    return sb3_vec_env(ID, n, monitor=False, **{**NAMED, **kwargs})


def listed(n: int = 3, **kwargs: Any) -> DummyVecEnv:
    """The same envs by SB3's own machinery: the reference."""
    return DummyVecEnv([lambda: gym.make(ID, **{**NAMED, **kwargs}) for _ in range(n)])


def test_it_tells_the_same_story_as_a_list_of_single_envs_across_the_end_of_episodes() -> None:
    ours, theirs = native(), listed()
    ours.seed(3)
    theirs.seed(3)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for step in range(11):  # episodes have 8 steps
        actions = np.array([0, 1, step % 2])
        (seen, earned, dones, infos), (seen_, earned_, dones_, infos_) = ours.step(actions), theirs.step(actions)
        np.testing.assert_allclose(seen, seen_, atol=1e-6)
        np.testing.assert_allclose(earned, earned_, atol=1e-6)
        assert (earned.dtype, dones.dtype) == (np.float32, bool)
        assert dones.tolist() == dones_.tolist()
        for row in range(3):
            assert infos[row].keys() == infos_[row].keys()
            assert infos[row]["steps"] == infos_[row]["steps"]
            assert infos[row]["treatment"] == infos_[row]["treatment"]
            assert ours.reset_infos[row]["hours"] == theirs.reset_infos[row]["hours"]
    assert step == 10


def test_where_an_episode_ends_the_last_strip_and_the_reason_are_handed_over() -> None:
    envs = native(2, clock=False)  # the end is not seen, so time runs out
    envs.seed(0)
    envs.reset()
    for _ in range(7):
        _, _, dones, infos = envs.step(np.zeros(2, int))
        assert not dones.any()
        assert all(info["TimeLimit.truncated"] is False for info in infos)
    seen, _, dones, infos = envs.step(np.zeros(2, int))
    assert dones.all()
    for row in range(2):
        assert infos[row]["TimeLimit.truncated"] is True
        assert infos[row]["steps"] == 8
        assert envs.reset_infos[row]["steps"] == 0
        assert infos[row]["terminal_observation"].shape == seen[row].shape
        assert (infos[row]["terminal_observation"] != seen[row]).any()


def test_a_death_is_an_end_and_not_a_time_limit() -> None:
    envs = native(2, world=AnalyticWorld(lethal=("dofetilide",)), risk=AnalyticRisk())
    envs.seed(0)
    envs.reset()
    _, earned, dones, infos = envs.step(np.array([0, 1]))
    assert dones.tolist() == [False, True]
    assert earned[1] == -16.0
    assert infos[1]["TimeLimit.truncated"] is False
    assert infos[1]["costs"]["lethal"] == 8.0  # the steps that were left


def test_dict_observations_keep_their_parts_at_the_end_of_an_episode() -> None:
    envs = native(2, obs="waveform")
    seen = envs.reset()
    assert seen["ecg"].shape == (2, 12, 1024)
    for _ in range(8):
        seen, _, dones, infos = envs.step(np.zeros(2, int))
    assert dones.all()
    assert infos[1]["terminal_observation"]["ecg"].shape == (12, 1024)


def test_masks_and_attributes_come_row_by_row() -> None:
    envs = native()
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("nonsense")
    envs.reset()
    masks = envs.env_method("action_masks")
    assert np.stack(masks).tolist() == envs.envs.action_masks().tolist()
    assert len(envs.env_method("action_masks", indices=[0, 2])) == 2
    assert envs.get_attr("action_space", indices=1) == [envs.action_space]
    assert envs.env_is_wrapped(gym.Wrapper) == [False] * 3
    envs.set_attr("remark", 7)
    assert envs.get_attr("remark") == [7, 7, 7]
    with pytest.raises(ValueError, match=r"expected all rows"):
        envs.set_attr("remark", 8, indices=[0])


def test_gymnasiums_own_list_of_envs_is_taken_too() -> None:
    kwargs = {**NAMED, "vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "SameStep"}}
    envs = SB3VecEnv(gym.make_vec(ID, num_envs=2, **kwargs))
    envs.reset()
    assert len(envs.env_method("action_masks")) == 2
    assert envs.get_attr("render_mode") == [None, None]
    for _ in range(8):
        _, _, dones, infos = envs.step(np.array([0, 1]))
    assert dones.all()
    assert infos[1]["steps"] == 8


def test_a_vector_env_that_resets_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected .*SAME_STEP.*autoreset_mode='SameStep'"):
        SB3VecEnv(gym.make_vec(ID, num_envs=2, **NAMED))


def test_options_are_for_all_rows_or_refused_and_are_used_once() -> None:
    envs = native(2)
    envs.set_options({"patient": {"age_years": 81.0}})
    envs.reset()
    assert [p.age_years for p in envs.envs.episode.state.patients] == [81.0, 81.0]
    envs.reset()
    assert envs.envs.episode.state.patients[0].age_years != 81.0
    envs.set_options([{"patient": {"age_years": 81.0}}, {"patient": {"age_years": 20.0}}])
    with pytest.raises(ValueError, match=r"expected the same for all"):
        envs.reset()


def test_what_a_row_lacks_is_left_out_of_its_info() -> None:
    infos = {
        "a": np.array([1.5, 0.0]),
        "_a": np.array([True, False]),
        "b": {"c": np.array([1, 2]), "_c": np.ones(2, bool)},
    }
    infos["_b"] = np.array([True, True])
    assert row_of(infos, 0) == {"a": 1.5, "b": {"c": 1}}
    assert row_of(infos, 1) == {"b": {"c": 2}}
    assert type(row_of(infos, 0)["a"]) is float


def test_monitoring_normalising_and_evaluating_work_on_it() -> None:
    envs = sb3_vec_env(ID, 2, **NAMED)
    assert isinstance(envs, VecMonitor)
    normal = VecNormalize(envs)
    normal.seed(0)
    normal.reset()
    for _ in range(8):
        seen, _, _, infos = normal.step(np.zeros(2, int))
    assert np.isfinite(seen).all()
    assert infos[0]["episode"]["l"] == 8
    assert infos[0]["episode"]["r"] < 0
    model = PPO("MlpPolicy", envs, n_steps=8, batch_size=8, n_epochs=1, seed=0)
    mean, _ = evaluate_policy(model, envs, n_eval_episodes=2)
    assert -8 <= mean <= 0


def test_pictures_of_all_rows_make_one_picture() -> None:
    envs = native(2, render_mode="rgb_array")
    envs.reset()
    tiled, single = envs.render(), envs.get_images()[0]
    assert tiled.shape[0] * tiled.shape[1] >= 2 * single.shape[0] * single.shape[1]


ON_POLICY = {"n_steps": 8, "batch_size": 16, "n_epochs": 1}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(PPO, ON_POLICY), (contrib.MaskablePPO, ON_POLICY), (DQN, {"learning_starts": 8, "batch_size": 8})],
    ids=["PPO", "MaskablePPO", "DQN"],
)
def test_the_algorithms_train_on_it(kind, settings) -> None:
    model = kind("MlpPolicy", native(4), seed=0, **settings)
    before = [w.detach().clone() for w in model.policy.parameters()]
    model.learn(64)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters()))


@pytest.mark.parametrize(("obs", "world"), [("waveform", "worlds:AnalyticWorld"), ("latent", "worlds:LatentWorld")])
def test_a_policy_sees_strips_and_latents_through_convolutions(obs, world) -> None:
    envs = native(2, obs=obs, world=world)
    seeing = {"features_extractor_class": StripExtractor, "features_extractor_kwargs": {"features_dim": 32}}
    model = PPO("MultiInputPolicy", envs, policy_kwargs=seeing, seed=0, n_steps=8, batch_size=8, n_epochs=1)
    eyes = model.policy.features_extractor
    before = [w.detach().clone() for w in eyes.convolutions.parameters()]
    model.learn(16)
    assert any(not torch.equal(a, b) for a, b in zip(before, eyes.convolutions.parameters()))
    seen = {name: torch.as_tensor(part) for name, part in envs.reset().items()}
    with torch.no_grad():
        assert eyes(seen).shape == (2, 32)


def test_eyes_without_a_strip_are_refused() -> None:
    space = gym.spaces.Dict({"features": gym.spaces.Box(-1, 1, (3,))})
    with pytest.raises(ValueError, match=r"expected a Dict with 'features'.*obs='waveform'"):
        StripExtractor(space)
