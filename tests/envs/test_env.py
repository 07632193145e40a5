"""The env against the conventions of Gymnasium and SB3, and against a world whose answers are known."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import random
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import ECG, MODEL_RATE_HZ, WATCH, Patient, Treatment, parse_dose
from ecg_gym.envs import ECGInterventionEnv, load_scenarios
from ecg_gym.envs.actions import action_code
from ecg_gym.envs.episode import Transition
from ecg_gym.envs.observations import describe
from ecg_gym.envs.reward import RiskReward, mean_variance

IDS = ("ECGIntervention-v0", "ECGInterventionOracle-v0")
NAMED = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide", "metoprolol"],
         "scenario": "healthy_volunteer"}  # fmt: skip


def make(**kwargs: Any) -> gym.Env:
    return gym.make(IDS[0], **{**NAMED, **kwargs})


def plain(**kwargs: Any) -> ECGInterventionEnv:
    return make(**kwargs).unwrapped


def entry(env: ECGInterventionEnv, drug: str) -> int:
    return next(i for i, t in enumerate(env.menu) if t and t.doses[0].drug == drug)


MODES = [
    {},
    {"actions": "multidiscrete"},
    {"obs": "waveform"},
    {"samples": 3, "risk_aversion": 0.6},
    {"invalid_action": "terminate"},
]


@pytest.mark.parametrize("kwargs", MODES, ids=str)
def test_gymnasium_finds_nothing_to_say(kwargs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(plain(**kwargs))


@pytest.mark.parametrize("kwargs", MODES, ids=str)
def test_stable_baselines_finds_nothing_to_say(kwargs) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*unconventional shape.*")  # (12, 1024) is no image; it is a strip
        checker.check_env(plain(**kwargs))
        checker.check_env(make(**kwargs))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", load_scenarios())
@pytest.mark.parametrize(("name", "risk"), [(IDS[0], "adverse"), (IDS[1], "limits")])
def test_the_registered_envs_pass_in_every_scenario(name, risk, scenario) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, scenario=scenario, risk=risk)
        check_env(env.unwrapped, skip_render_check=True)
        checker.check_env(env)


def test_both_ids_have_the_same_spaces() -> None:
    modes = itertools.product(("features", "waveform"), ("discrete", "multidiscrete"))
    kinds = [{"obs": obs, "actions": actions} for obs, actions in modes]
    for kind in kinds:
        ours, oracle = (ECGInterventionEnv(world=w, risk="limits", **kind) for w in ("worlds:AnalyticWorld", "oracle"))
        assert ours.observation_space == oracle.observation_space
        assert ours.action_space == oracle.action_space


@pytest.mark.parametrize("scenario", load_scenarios())
def test_every_scenario_starts_in_the_virtual_patient_and_watching_survives_a_step(scenario) -> None:
    env = gym.make(IDS[1], scenario=scenario, risk="limits").unwrapped
    seen, info = env.reset(seed=1)
    assert env.observation_space.contains(seen)
    assert info["hr_bpm_known"]
    assert len(env.menu) > 3
    assert set(env.state.doses[0]) >= set(load_scenarios()[scenario].doses)
    _, earned, _, _, info = env.step(0)
    assert earned == 0.0 - info["risk"]


def test_privileged_shows_the_truth_of_the_virtual_patient() -> None:
    env = gym.make(IDS[1], risk="limits", scenario="healthy_volunteer", privileged=True)
    _, info = env.reset(seed=0)
    assert info["truth_rhythm"] == "sinus"
    assert info["truth_qtcf_ms"] == pytest.approx(info["qtcf_ms"], abs=25)
    assert env.step(0)[4].keys() == info.keys()
    assert not [key for key in gym.make(IDS[1], risk="limits").reset(seed=0)[1] if key.startswith("truth")]


def test_two_envs_with_one_seed_match() -> None:
    check_environments_match(make(), make(), num_steps=20, seed=3)


# --- registration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IDS)
def test_ids_are_registered_by_import_alone(name) -> None:
    spec = gym.spec(name)
    assert spec.entry_point == "ecg_gym.envs:ECGInterventionEnv"
    assert spec.max_episode_steps is None, "the env ends its episodes itself"


def test_the_spec_is_json_and_makes_the_same_env_in_a_process_that_never_imported_us() -> None:
    env = make()
    text = env.spec.to_json()
    first = env.reset(seed=7)[0]
    code = (
        "import sys; sys.path.insert(0, 'tests/support')\n"
        "from gymnasium.envs.registration import EnvSpec\n"
        "env = EnvSpec.from_json(sys.stdin.read()).make()\n"
        "print(env.reset(seed=7)[0].tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == first.tobytes().hex()
    assert json.loads(text)["kwargs"]["world"] == NAMED["world"]


def test_a_live_world_is_taken_too() -> None:
    env = ECGInterventionEnv(
        world=AnalyticWorld(), risk=AnalyticRisk(), drugs=["metoprolol"], scenario="healthy_volunteer"
    )
    assert env.observation_space.contains(env.reset(seed=0)[0])


# --- what is returned -----------------------------------------------------------------------------------------------


def test_info_has_the_same_plain_keys_at_reset_and_at_every_step() -> None:
    env = make()
    infos = [env.reset(seed=0)[1], *(env.step(a)[4] for a in (0, 1, 2))]
    assert all(info.keys() == infos[0].keys() for info in infos)
    for info in infos:
        assert info["action_mask"].dtype == np.int8
        assert all(type(v) is float for part in ("costs", "reward_terms") for v in info[part].values())
        scalars = {k: v for k, v in info.items() if k not in ("action_mask", "costs", "reward_terms")}
        assert all(type(v) in (int, float, bool, str) for v in scalars.values()), scalars
        for part in ("costs", "reward_terms"):
            assert info[part].keys() == infos[0][part].keys()
    promised = {
        "action_mask",
        "cost",
        "costs",
        "reward_terms",
        "risk",
        "risk_qtc",
        "hr_bpm",
        "treatment",
        "model_sha256",
    }
    assert promised <= infos[0].keys()


def test_returned_types_are_what_stable_baselines_wants() -> None:
    env = plain()
    env.reset(seed=0)
    _, earned, terminated, truncated, _ = env.step(np.int64(1))
    assert (type(earned), type(terminated), type(truncated)) == (float, bool, bool)


def test_masks_are_fresh_copies_and_hold_before_the_first_reset() -> None:
    env = plain()
    assert env.action_masks().all()
    _, info = env.reset(seed=0)
    info["action_mask"][:] = 0
    env.action_masks()[:] = False
    assert env.action_masks()[0]
    assert env.step(0)[4]["action_mask"][0] == 1


def test_the_first_strip_is_read_right_and_named_right() -> None:
    env = plain()
    seen, info = env.reset(seed=0, options={"patient": {"age_years": 71.0, "sex": "F", "potassium": 3.1}})
    value = describe(env.layout, seen)
    assert env.state.patients[0] == Patient(age_years=71.0, sex="F", potassium=3.1)
    assert value["hr_bpm"] == pytest.approx(info["hr_bpm"], abs=1e-3)
    assert value["age_years"] == pytest.approx(71, abs=1e-4)
    assert value["potassium"] == pytest.approx(3.1, abs=1e-4)
    assert "magnesium" not in value, "what is not known is not shown"
    assert "pr_ms" not in value, "what was not measured is not shown"
    assert info["pr_ms_known"] is False
    assert value["blood_hours"] == pytest.approx(0, abs=1e-4)
    unknown, _ = env.reset(seed=0, options={"patient": {"age_years": 71.0, "sex": "F"}})
    assert "blood_hours" not in describe(env.layout, unknown), "no blood was taken, so no hours have passed"
    assert len(env.feature_names) == len(seen) == len(set(env.feature_names))


def test_the_observation_knows_what_was_given_and_when() -> None:
    env = plain()
    env.reset(seed=0)
    largest = max(i for i, t in enumerate(env.menu) if t and t.doses[0].drug == "metoprolol")
    seen = [describe(env.layout, env.step(a)[0]) for a in (largest, 0, 0, 0)]
    assert [s["metoprolol_hours"] for s in seen] == pytest.approx([1, 2, 3, 4], rel=1e-4)
    assert [s["metoprolol_dose"] for s in seen] == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert "dofetilide_hours" not in seen[0], "nothing of it was given"
    assert [s["metoprolol_24h"] for s in seen] == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert [s["hours"] for s in seen] == pytest.approx([1, 2, 3, 4], abs=1e-5)
    assert [s["steps_left"] for s in seen] == pytest.approx([7 / 8, 6 / 8, 5 / 8, 4 / 8], abs=1e-6)
    assert seen[0]["dofetilide_24h"] == 0


def test_waveform_shows_the_strip_itself() -> None:
    env = plain(obs="waveform")
    seen, _ = env.reset(seed=0)
    np.testing.assert_array_equal(seen["ecg"], env.state.ecg[0])
    assert not np.shares_memory(seen["ecg"], env.state.ecg)


def test_latent_shows_the_latent_of_the_world_beside_the_features() -> None:
    env = plain(world="worlds:LatentWorld", obs="latent")
    check_env(env)
    seen, _ = env.reset(seed=0)
    np.testing.assert_array_equal(seen["latent"], env.state.inner["latent"][0])
    assert seen["latent"].shape == (4, 128)


def test_a_world_without_latents_refuses_latent_observations() -> None:
    with pytest.raises(ValueError, match=r"latent.*no latent.*waveform"):
        plain(obs="latent")


# --- reward and ending ----------------------------------------------------------------------------------------------


def test_reward_is_minus_the_risk_of_the_new_strip() -> None:
    env = plain()
    env.reset(seed=0)
    first = env.state.ecg
    _, earned, terminated, _, info = env.step(entry(env, "metoprolol"))
    judged = AnalyticRisk()(first, env.state.ecg, env.state.patients, env.state.alive)
    assert earned == -float(judged.total[0]) == -info["risk"]
    assert not terminated


def test_the_slowed_heart_is_rewarded_and_the_prolonged_qt_is_not() -> None:
    def earned(drug: str) -> float:
        env = plain()
        env.reset(seed=1, options={"patient": {"age_years": 60.0}})
        return env.step(max(i for i, t in enumerate(env.menu) if t and t.doses[0].drug == drug))[1]

    assert earned("metoprolol") > earned("dofetilide")


@pytest.mark.parametrize("dies_at", range(8))
def test_dying_is_worse_than_any_survival_and_dying_sooner_never_pays(dies_at) -> None:
    """A policy that kills its patient at step ``dies_at``, against the worst survivor there could be."""

    def total(kill: int) -> float:
        env = make(world=AnalyticWorld(lethal=("dofetilide",)), risk=AnalyticRisk())
        env.reset(seed=5)
        poison, sum_, over = entry(env.unwrapped, "dofetilide"), 0.0, False
        for step in range(8):
            _, earned, ended, truncated, info = env.step(poison if step == kill else 0)
            sum_, over = sum_ + earned, ended or truncated
            if ended:
                assert (info["alive"], info["costs"]["lethal"]) == (False, 8.0 - step)
                break
        assert over
        return sum_

    worst_survivor = -8.0
    assert total(dies_at) < worst_survivor
    if dies_at:
        assert total(dies_at) >= total(dies_at - 1)


def test_reward_by_hand() -> None:
    def earned(burden: float) -> list[float]:
        steps, state = np.array([0, 0, 7]), AnalyticWorld().initial(3, np.random.default_rng(0))
        lost, given = np.array([False, True, True]), (Treatment((parse_dose("atropine 1 mg IV"),)), WATCH, WATCH)
        risk = np.array([0.25, 0.3, 0.3])
        step = Transition(steps, state, state, given, ~lost, lost, risk, {}, horizon=8, most_doses=2)
        return np.sum(list(RiskReward(burden)(step).values()), axis=0).tolist()

    assert earned(0.0) == [-0.25, -16.0, -9.0]
    assert earned(0.5) == [-0.75, -32.0, -18.0]  # the worst survivor now pays two doses at every step
    assert mean_variance(np.array([[0.2], [0.4]]), 3.0).tolist() == [0.2, 0.4]
    assert mean_variance(np.array([[0.1, 0.3]]), 0.5)[0] == pytest.approx(0.2 + 0.5 * np.sqrt(0.02))


def test_a_longer_horizon_makes_dying_cost_more() -> None:
    env = make(world=AnalyticWorld(lethal=("dofetilide",)), risk=AnalyticRisk(), max_episode_steps=20, horizon=20)
    env.reset(seed=0)
    assert env.step(entry(env.unwrapped, "dofetilide"))[1] == -40.0


def test_a_strip_that_is_not_finite_ends_the_episode_as_the_worst() -> None:
    env = plain(world=AnalyticWorld(broken=("dofetilide",)), risk=AnalyticRisk())
    env.reset(seed=0)
    seen, earned, terminated, _, info = env.step(entry(env, "dofetilide"))
    assert (earned, terminated, info["finite"], info["risk"]) == (-16.0, True, False, 1.0)
    assert env.observation_space.contains(seen)


@pytest.mark.parametrize(("clock", "last"), [(True, (True, False)), (False, (False, True))])
def test_an_end_that_is_seen_terminates_and_one_that_is_hidden_truncates(clock, last) -> None:
    env = plain(clock=clock)
    seen, _ = env.reset(seed=0)
    assert ("steps_left" in describe(env.layout, seen)) == ("hours" in describe(env.layout, seen)) == clock
    steps = [env.step(0) for _ in range(8)]
    assert [step[2:4] for step in steps] == [(False, False)] * 7 + [last]
    assert not any(step[4]["lost"] for step in steps)
    with pytest.raises(gym.error.ResetNeeded, match="has ended"):
        env.step(0)


@pytest.mark.parametrize("clock", [True, False])
def test_a_critic_learns_no_value_beyond_an_end_that_is_seen(clock) -> None:
    """Least-squares temporal differences (Bradtke & Barto 1996) on the observations of watching, reward -1 a step."""
    envs = gym.make_vec(
        IDS[0], num_envs=24, **NAMED, clock=clock, reward="rewards:minus_one", autoreset_mode="SameStep"
    )
    seen, _ = envs.reset(seed=0)
    names, gamma = envs.unwrapped.feature_names, 0.9
    left = [names.index("steps_left"), names.index("steps_left_known")]

    def basis(obs: np.ndarray) -> np.ndarray:
        share = np.where(obs[:, left[1]] > 0, (obs[:, left[0]] + 1) / 2, 1.0)
        return np.eye(9)[np.round(8 * share).astype(int)]

    a, b = np.zeros((9, 9)), np.zeros(9)
    for _ in range(16):
        after, reward, terminated, truncated, info = envs.step(np.zeros(24, int))
        over = terminated | truncated
        last = np.where(over[:, None], np.stack([f if f is not None else after[0] for f in info.get(
            "final_obs", [None] * 24)]), after)  # fmt: skip
        phi = basis(seen)
        a += phi.T @ (phi - gamma * basis(last) * ~terminated[:, None])
        b += phi.T @ reward
        seen = after
    value = np.linalg.lstsq(a, b, rcond=None)[0]
    assert value[8] == pytest.approx(-(1 - gamma**8) / (1 - gamma) if clock else -1 / (1 - gamma), rel=1e-6)
    if clock:
        assert value[1] == pytest.approx(-1.0, rel=1e-6), "one step is left, and nothing after it"


# --- what is not allowed --------------------------------------------------------------------------------------------


def forbidden(**kwargs: Any) -> tuple[ECGInterventionEnv, int]:
    """An env whose clinical rules forbid dofetilide, and the action that would give it."""
    env = plain(**kwargs)
    env.reset(seed=0)
    env.episode = env.episode.__class__(**{**vars(env.episode), "allowed": env.episode.allowed.copy()})
    action = entry(env, "dofetilide")
    env.episode.allowed[0, action] = False
    return env, action


def test_what_is_not_allowed_becomes_watching_and_is_said() -> None:
    env, action = forbidden()
    assert not env.action_masks()[action]
    _, _, terminated, _, info = env.step(action)
    assert (terminated, info["invalid_action"], info["treatment"]) == (False, True, str(WATCH))
    assert env.state.doses == ((),)


def test_what_is_not_allowed_can_end_the_episode_or_raise() -> None:
    env, action = forbidden(invalid_action="terminate")
    _, earned, terminated, _, info = env.step(action)
    assert (earned, terminated, info["invalid_action"]) == (-16.0, True, True)
    env, action = forbidden(invalid_action="raise")
    with pytest.raises(ValueError, match=r"dofetilide.*not allowed now"):
        env.step(action)


def test_drug_and_level_mean_the_same_menu() -> None:
    single, double = plain(), plain(actions="multidiscrete")
    drugs, levels = double.action_space.nvec
    means = {str(double.treatment([d, level])) for d in range(drugs) for level in range(levels)}
    assert means == {str(t) for t in single.menu}
    assert all(double.treatment(double.action(t)) == t == single.treatment(single.action(t)) for t in single.menu)
    assert len(double.action_masks()) == drugs + levels


def test_a_pair_is_masked_when_no_dose_of_the_drug_is_allowed() -> None:
    code = action_code("multidiscrete", plain().menu)
    allowed = np.array([not t or t.doses[0].drug != "dofetilide" for t in code.menu])
    drugs = len(code.table)
    assert code.mask(allowed)[:drugs].tolist() == [bool(allowed[list(row)].any()) for row in code.table]
    assert code.mask(allowed)[:drugs].sum() == drugs - 1


# --- randomness and copies ------------------------------------------------------------------------------------------


def episode_of(env: gym.Env, actions=(0, 1, 0)) -> list[Any]:
    return [(seen.tobytes(), earned) for seen, earned, *_ in (env.step(a) for a in actions)]


def test_seeds_reproduce_and_global_randomness_is_untouched_and_irrelevant() -> None:
    env = make()
    state = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    env.reset(seed=11)
    first = episode_of(env)
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == state  # noqa: NPY002
    np.random.seed(99)  # noqa: NPY002
    env.reset(seed=11)
    assert episode_of(env) == first
    env.reset(seed=12)
    assert episode_of(env) != first


def through_pickle(env: gym.Env) -> gym.Env:
    return pickle.loads(pickle.dumps(env))


@pytest.mark.parametrize("how", [copy.deepcopy, through_pickle])
def test_a_copy_in_the_middle_of_an_episode_has_the_same_future_and_shares_the_weights(how) -> None:
    env = make()
    env.reset(seed=4)
    env.step(1)
    twin = how(env)
    assert twin.unwrapped.world is env.unwrapped.world
    assert twin.unwrapped.risk is env.unwrapped.risk
    assert episode_of(twin) == episode_of(env)
    assert twin.unwrapped.state.ecg is not env.unwrapped.state.ecg


def test_a_deepcopy_shares_a_live_world_too() -> None:
    env = ECGInterventionEnv(
        world=AnalyticWorld(), risk=AnalyticRisk(), drugs=["metoprolol"], scenario="healthy_volunteer"
    )
    env.reset(seed=0)
    assert copy.deepcopy(env).world is env.world


# --- where an episode starts ----------------------------------------------------------------------------------------


def test_an_episode_can_start_from_a_strip_a_patient_and_doses_taken() -> None:
    strip = AnalyticWorld().initial(1, np.random.default_rng(0), hr_bpm=90.0, qtcf_ms=420.0).ecg[0]
    env = plain()
    options = {
        "ecg": ECG(strip, MODEL_RATE_HZ),
        "patient": Patient(age_years=80.0, sex="M"),
        "given": [{"dose": "metoprolol 25 mg PO", "hours": -3}],
    }
    _, info = env.reset(seed=0, options=options)
    np.testing.assert_array_equal(env.state.ecg[0], strip)
    assert env.state.patients[0].age_years == 80.0
    assert [str(a.dose) for a in env.state.doses[0]] == ["metoprolol 25 mg PO"]
    assert info["hr_bpm"] == pytest.approx(90, abs=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patiant": {}}, r"\['patiant'\].*expected keys"),
        ({"patient": {"age": 3}}, r"\['age'\].*expected fields"),
        ({"scenario": "nonsense"}, "expected 'any' or one of"),
        ({"ecg": ECG(np.zeros((12, 1024)), MODEL_RATE_HZ), "given": ["aspirin"]}, "given holds 'aspirin'"),
        ({"given": [{"dose": "aspirin 100 mg PO", "hours": -1}]}, "drug is 'aspirin'"),
        ({"given": [{"dose": "metoprolol 25 mg PO", "hours": 1}]}, "expected hours <= 0"),
        (3.5, "options are '3.5'; expected a mapping or None; pass"),
        (False, "options are 'False'; expected a mapping"),
    ],
)
def test_unknown_words_at_reset_are_refused(options, words) -> None:
    with pytest.raises(ValueError, match=words):
        plain().reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"obs": "pixels"}, "obs is 'pixels'"),
        ({"actions": "box"}, "actions is 'box'"),
        ({"invalid_action": "mean"}, "invalid_action is 'mean'"),
        ({"scenario": "nonsense"}, "scenario is 'nonsense'"),
        ({"world": "nowhere"}, "world is 'nowhere'"),
        ({"world": "nowhere:Nothing"}, "cannot be imported"),
        ({"horizon": 0}, "horizon is 0"),
    ],
)
def test_unknown_arguments_are_refused(kwargs, words) -> None:
    with pytest.raises(ValueError, match=words):
        ECGInterventionEnv(**{**NAMED, **kwargs})


def test_a_step_before_reset_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match=r"env\.reset"):
        plain().step(0)


def test_the_text_rendering_tells_the_dose_and_the_intervals() -> None:
    env = make(render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    text = env.render()
    assert "QTcF" in text
    assert str(env.unwrapped.menu[1]) in text
    assert "PR -" in text


def test_many_envs_at_once_through_gymnasium() -> None:
    envs = gym.make_vec(IDS[0], num_envs=3, vectorization_mode="sync", **NAMED)
    seen, infos = envs.reset(seed=0)
    assert seen.shape == (3, len(plain().feature_names))
    for _ in range(9):
        seen, earned, *_, infos = envs.step(np.zeros(3, dtype=int))
    assert np.isfinite(earned).all()
    assert infos["action_mask"].shape == (3, len(plain().menu))


def test_a_step_takes_as_long_as_it_is_told_to() -> None:
    env = plain(dt_hours=0.5)
    env.reset(seed=0)
    assert env.step(0)[4]["hours"] == 0.5
    assert env.world.dt_hours == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("actions", ["discrete", "multidiscrete"])
def test_maskable_ppo_learns_from_it(actions) -> None:
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    model = contrib.MaskablePPO("MlpPolicy", make(actions=actions), n_steps=32, batch_size=16, n_epochs=1, seed=0)
    model.learn(64)
    assert model.num_timesteps == 64


def test_the_picture_is_an_image_that_changes_with_the_strip() -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.step(entry(env.unwrapped, "metoprolol"))
    second = env.render()
    assert first.dtype == np.uint8
    assert first.shape == second.shape
    assert first.shape[2] == 3
    assert (first != second).any()
    assert first.std() > 5, "ink on paper"


def test_specs_survive_the_journey_through_json() -> None:
    assert EnvSpec.from_json(make(actions="multidiscrete").spec.to_json()).kwargs["actions"] == "multidiscrete"


def test_a_step_after_the_end_raises() -> None:
    env = gym.make("ECGIntervention-v0", world="oracle", risk="limits", invalid_action="terminate").unwrapped
    env.reset(seed=0)
    refused = int(np.flatnonzero(~env.action_masks())[0]) if (~env.action_masks()).any() else None
    if refused is None:
        env = gym.make(
            "ECGIntervention-v0", world="oracle", risk="limits", invalid_action="terminate", drugs=["ibutilide"]
        ).unwrapped
        env.reset(seed=0)
        refused = int(np.flatnonzero(~env.action_masks())[0])
    *_, terminated, _, _ = env.step(refused)
    assert terminated
    with pytest.raises(gym.error.ResetNeeded, match="has ended"):
        env.step(0)
    env.reset(seed=1)
    env.step(0)


def test_the_mask_of_indications_is_stricter_than_that_of_contraindications() -> None:
    words = {"world": "oracle", "risk": "adverse", "scenario": "healthy_volunteer"}
    loose, strict = (gym.make("ECGIntervention-v0", mask=mask, **words).unwrapped for mask in
                     ("contraindications", "indications"))  # fmt: skip
    for env in (loose, strict):
        env.reset(seed=4)
    assert strict.action_masks()[0]
    assert strict.action_masks().sum() < loose.action_masks().sum()
    assert (loose.action_masks() | ~strict.action_masks()).all()
    with pytest.raises(ValueError, match="mask is 'none'"):
        gym.make("ECGIntervention-v0", mask="none", **words)


def test_a_step_the_weights_never_learned_warns() -> None:
    with pytest.warns(UserWarning, match="trained on steps of"):
        gym.make("ECGIntervention-v0", dt_hours=48)


def test_options_are_read_by_the_same_words_as_the_command_line() -> None:
    env = gym.make("ECGIntervention-v0", world="oracle", risk="limits")
    for patient, why in (
        ({"medication": {"xyzzy"}}, "expected a drug, brand or class"),
        ({"age_years": 5}, "expected 16 to 110"),
        ({"conditions": {"astma"}}, "expected names out of"),
    ):
        with pytest.raises(ValueError, match=why):
            env.reset(seed=0, options={"patient": patient})
    env.reset(seed=0, options={"patient": {"medication": {"Tagamet"}, "conditions": {"long_qt"}}})
