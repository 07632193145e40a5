"""The conventions of the Gymnasium world, one test each, on every observation and action mode where that matters.

What each means in full is tested in ``test_env.py`` and ``test_vector_env.py``; here stands, letter by letter, that the
promises are kept: by the single env, by the native batch, and by every id that is registered.
"""

from __future__ import annotations

import ast
import copy
import json
import pickle
import random
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from worlds import AnalyticWorld

import ecg_gym
from ecg_gym.core import WATCH
from ecg_gym.envs import ECGInterventionEnv, ECGInterventionVectorEnv
from ecg_gym.envs.config import EnvConfig
from ecg_gym.registration import register

ROOT = Path(__file__).resolve().parent.parent
ID = "ECGIntervention-v0"
NAMED: dict[str, Any] = {"world": "worlds:LatentWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide"],
                         "scenario": "healthy_volunteer"}  # fmt: skip
HORIZON = 8  # steps of that scenario
MODES: tuple[dict[str, Any], ...] = (
    {"obs": "features"},
    {"obs": "waveform"},
    {"obs": "latent"},
    {"actions": "multidiscrete"},
)
TOLD = {"told", "asked", "found", "heard", "spoken", "drawn", "shown", "meant", "wanted", "said"}  # in tests neither
PARTICIPLES = TOLD | {
    "begun", "bent", "chosen", "counted", "fitted", "given", "gone", "held", "judged", "kept", "known", "made",
    "measured", "met", "moved", "named", "needed", "seen", "spent", "taken", "tried", "used",
}  # fmt: skip
VERBS_DONE = PARTICIPLES | {"changed", "settled", "noted", "warped", "risen"}
HASHED = {("training/evaluation/task/search.py", "kept")}  # published hashes hold the name
IDS = sorted(name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("ecg_gym."))


def make(**kwargs: Any) -> gym.Env:
    return gym.make(ID, **{**NAMED, **kwargs})


def batch(n: int = 3, **kwargs: Any) -> gym.vector.VectorEnv:
    return gym.make_vec(ID, num_envs=n, **{**NAMED, **kwargs})


def arrays(seen: Any) -> list[np.ndarray]:
    """Every array in an observation or info."""
    if isinstance(seen, dict):
        return [array for part in seen.values() for array in arrays(part)]
    return [seen] if isinstance(seen, np.ndarray) else []


def test_e01_gymnasium_is_required_in_its_present_form_and_legacy_gym_never() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "gymnasium>=1.1,<2" in project["dependencies"]
    targets = [*project["dependencies"], *(p for extra in project["optional-dependencies"].values() for p in extra)]
    assert not [p for p in targets if p.split(">")[0].split("=")[0].strip() == "gym"]
    for path in (
        file for folder in ("ecg_gym", "planners", "training", "examples") for file in (ROOT / folder).rglob("*.py")
    ):
        legacy = re.search(r"^\s*(import|from) gym\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert legacy is None, f"{path} imports legacy gym"


def test_e02_ids_are_strings_that_load_nothing_until_they_are_made() -> None:
    assert len(IDS) > 2
    for name in IDS:
        spec = gym.spec(name)
        assert spec.entry_point == "ecg_gym.envs:ECGInterventionEnv"
        assert spec.vector_entry_point == "ecg_gym.envs:ECGInterventionVectorEnv"
        assert spec.max_episode_steps is None, "the env ends its episodes itself"
    before = {name: gym.spec(name) for name in IDS}
    register()
    assert all(gym.spec(name) is spec for name, spec in before.items()), "a second call changes nothing"
    code = (
        "import sys, gymnasium as gym\n"
        "env = gym.make('ecg_gym:ECGInterventionOracle-v0', risk='limits')\n"
        "env.reset(seed=0); env.step(0)\n"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", "the virtual patient needs neither torch nor matplotlib"


@pytest.mark.parametrize("name", IDS)
def test_e03_every_spec_is_json_and_comes_back(name) -> None:
    again = EnvSpec.from_json(gym.spec(name).to_json())
    assert again == gym.spec(name)
    assert json.loads(gym.spec(name).to_json())["kwargs"] == gym.spec(name).kwargs


def test_e03_a_live_world_does_not_survive_json_and_that_is_said() -> None:
    value = make(world=AnalyticWorld()).spec.to_json()
    with pytest.raises(TypeError, match=r"world is .*expected a name or a World; pass world='package.module:Name'"):
        EnvSpec.from_json(value).make()


def test_e04_v0_is_frozen_and_the_weights_are_named() -> None:
    assert all(name.endswith("-v0") for name in IDS)
    frozen = {  # what changes dynamics, reward or spaces: another default is another version
        "world": "model",
        "risk": "adverse",
        "scenario": "any",
        "menu": "formulary",
        "drugs": None,
        "actions": "discrete",
        "obs": "features",
        "tier": "variation",
        "invalid_action": "noop",
        "mask": "contraindications",
        "horizon": None,
        "dt_hours": None,
        "clock": True,
        "knobs": None,
        "deterministic": None,
        "reward": "risk",
        "burden": 0.0,
        "reward_timing": "seen",
        "cost": True,
        "samples": 1,
        "risk_aversion": 0.0,
        "privileged": False,
        "fidelity": None,
    }
    assert {f.name: f.default for f in fields(EnvConfig)} == frozen, "a new argument belongs into the frozen table"
    _, info = make().reset(seed=0)
    assert (info["model_sha256"], info["risk_sha256"]) == ("analytic", "analytic-risk")


def test_e05_all_randomness_comes_from_the_seed_and_nothing_else_is_touched() -> None:
    env = make()
    env.reset(seed=5)
    samples = env.unwrapped.np_random.bit_generator.state
    fresh = np.random.default_rng(5).bit_generator.state
    assert samples != fresh, "the reset drew from np_random"
    env.step(0)
    assert env.unwrapped.np_random.bit_generator.state == samples, "a step has the stream of its episode"
    world = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    stories = []
    for disturbance in (1, 2):
        random.seed(disturbance)
        np.random.seed(disturbance)  # noqa: NPY002
        env.reset(seed=6)
        stories.append(b"".join(env.step(0)[0].tobytes() for _ in range(3)))
    assert stories[0] == stories[1]
    random.setstate(world[1])


@pytest.mark.parametrize("many", [False, True], ids=["single", "batch"])
def test_e06_options_are_kept_and_unknown_ones_are_errors(many) -> None:
    env = batch(2) if many else make()
    options = {"patient": {"age_years": 81.0}, "scenario": "bradycardia"}
    env.reset(seed=0, options=options)
    assert env.unwrapped.episode.state.patients[0].age_years == 81.0
    assert options == {"patient": {"age_years": 81.0}, "scenario": "bradycardia"}, "the caller's dict stays his"
    with pytest.raises(ValueError, match=r"patiens.*expected"):
        env.reset(seed=0, options={"patiens": {}})


@pytest.mark.parametrize("kwargs", MODES, ids=str)
def test_e07_returns_are_fresh_and_plain_and_time_that_is_seen_terminates(kwargs) -> None:
    env = make(**kwargs).unwrapped
    seen, info = env.reset(seed=0)
    action = env.action(WATCH)
    for step in range(HORIZON):
        before = arrays(seen) + arrays(info)
        seen, earned, terminated, truncated, info = env.step(action)
        assert (type(earned), type(terminated), type(truncated)) == (float, bool, bool)
        assert not truncated, "TimeLimit truncates, or a clock that is hidden"
        assert terminated == (step == HORIZON - 1)
        now = arrays(seen) + arrays(info)
        assert not any(np.shares_memory(old, new) for old in before for new in now)


@pytest.mark.parametrize("kwargs", MODES, ids=str)
def test_e08_observations_are_flat_bounded_float32_boxes(kwargs) -> None:
    space = make(**kwargs).observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        assert type(part) is spaces.Box
        assert part.dtype == np.float32
        assert len(part.shape) <= 2, "a third dimension would be taken for an image"
        assert np.isfinite(part.low).all()
        assert np.isfinite(part.high).all()


def test_e09_actions_are_discrete_with_watching_first_and_no_name_means_something_else_to_others() -> None:
    env, double = make(), make(actions="multidiscrete")
    assert type(env.action_space) is spaces.Discrete
    assert env.action_space.start == 0
    assert type(double.action_space) is spaces.MultiDiscrete
    assert env.unwrapped.treatment(0) == double.unwrapped.treatment([0, 0]) == WATCH
    for kind in (ECGInterventionEnv, ECGInterventionVectorEnv):
        assert not hasattr(kind, "compute_reward"), "it would be taken for a goal env"
        assert not hasattr(kind, "seed")


@pytest.mark.parametrize("actions", ["discrete", "multidiscrete"])
def test_e10_masks_are_bool_by_method_and_int8_in_info_and_never_empty(actions) -> None:
    env, envs = make(actions=actions), batch(actions=actions)
    double = actions == "multidiscrete"
    sizes = [int(n) for n in env.action_space.nvec] if double else [int(env.action_space.n)]
    for step in range(4):
        info = env.reset(seed=0)[1] if step == 0 else env.step(env.unwrapped.action(env.unwrapped.menu[1]))[4]
        mask = env.unwrapped.action_masks()
        assert (mask.dtype, mask.shape) == (np.dtype(bool), (sum(sizes),))
        assert info["action_mask"].dtype == np.int8
        assert info["action_mask"].tolist() == mask.astype(int).tolist()
        parts = np.split(info["action_mask"], np.cumsum(sizes)[:-1])
        assert all(part[0] == 1 for part in parts), "watching is always allowed"
        assert env.action_space.contains(env.action_space.sample(mask=tuple(parts) if double else parts[0]))
    envs.reset(seed=0)
    assert envs.unwrapped.action_masks().shape == (3, sum(sizes))


def test_e10_a_masked_action_is_handled_as_asked() -> None:
    for invalid in ("noop", "terminate", "raise"):
        env = make(invalid_action=invalid).unwrapped
        env.reset(seed=0)
        env.episode.allowed[0, 1] = False
        if invalid == "raise":
            with pytest.raises(ValueError, match="not allowed now"):
                env.step(1)
            continue
        _, _, terminated, _, info = env.step(1)
        assert (info["invalid_action"], terminated) == (True, invalid == "terminate")


def test_e11_cost_is_told_whole_and_by_hazard() -> None:
    env = gym.make("ECGInterventionOracle-v0", risk="limits", scenario="healthy_volunteer", drugs=["dofetilide"])
    infos = [env.reset(seed=0)[1], *(env.step(a)[4] for a in (3, 0, 0))]  # 0.5 mg by mouth
    for info in infos:
        assert type(info["cost"]) is float
        assert 0 <= info["cost"] <= 1
        assert {"qtc_long", "lethal"} <= info["costs"].keys()
        assert all(type(cost) is float and 0 <= cost <= 1 for cost in info["costs"].values())
    assert infos[-1]["cost"] > 0, "a QT that treatment made longer costs something"
    assert infos[-1]["costs"]["qtc_longer"] > 0
    assert infos[-1]["cost"] >= max(infos[-1]["costs"].values()), "the whole is no less than its largest part"


@pytest.mark.parametrize(
    "kwargs", [{}, {"privileged": True, "world": "oracle", "risk": "limits"}], ids=["plain", "truth"]
)
def test_e12_infos_have_the_same_keys_and_plain_values_always(kwargs) -> None:
    env = make(**kwargs)
    infos = [env.reset(seed=0)[1], *(env.step(a)[4] for a in (0, 1))]

    def shape(info: dict[str, Any]) -> dict[str, Any]:
        return {key: shape(value) if isinstance(value, dict) else type(value) for key, value in info.items()}

    assert shape(infos[0]) == shape(infos[1]) == shape(infos[2])
    plain = {type(value) for key, value in infos[0].items() if key != "action_mask" and not isinstance(value, dict)}
    assert plain <= {int, float, bool, str}
    envs = batch(2, **kwargs)
    inputs = envs.reset(seed=0)[1]
    assert {key for key in inputs if not key.startswith("_")} == infos[0].keys()
    for key in infos[0]:
        assert inputs[f"_{key}"].tolist() == [True, True]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_e13_the_batch_resets_in_all_three_ways_and_seeds_count_up(mode) -> None:
    envs = batch(2, autoreset_mode=mode)
    assert envs.metadata["autoreset_mode"] is mode
    assert "autoreset_mode" not in ECGInterventionVectorEnv.metadata, "the class keeps its own metadata"
    assert "autoreset_mode" not in ECGInterventionEnv.metadata
    seen, _ = envs.reset(seed=40)
    for row in range(2):
        np.testing.assert_allclose(seen[row], make().reset(seed=40 + row)[0], atol=1e-6)
    for _ in range(HORIZON):
        seen, _, terminated, _, info = envs.step([0, 0])
    assert terminated.all()
    assert ("final_obs" in info) == ("final_info" in info) == (mode is AutoresetMode.SAME_STEP)
    assert info["steps"].tolist() == ([0, 0] if mode is AutoresetMode.SAME_STEP else [HORIZON] * 2)
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(ValueError, match="reset_mask"):
            envs.step([0, 0])
        envs.reset(options={"reset_mask": np.array([True, True])})
    assert envs.step([0, 0])[4]["steps"].tolist() == ([0, 0] if mode is AutoresetMode.NEXT_STEP else [1, 1])


def test_e14_pictures_and_lines_need_no_window() -> None:
    assert ECGInterventionEnv.metadata["render_modes"] == ["rgb_array", "ansi"]
    assert ECGInterventionEnv.metadata["render_fps"] > 0
    lines = make(render_mode="ansi")
    lines.reset(seed=0)
    assert isinstance(lines.render(), str)
    with pytest.raises(ValueError, match="render_mode is 'depth_array'"):
        ECGInterventionEnv(**NAMED, render_mode="depth_array")
    assert "pygame" not in sys.modules


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("many", [False, True], ids=["single", "batch"])
def test_e15_a_copy_goes_on_identically_and_shares_the_weights(many, how) -> None:
    env = batch(2) if many else make()
    still, move = (np.zeros(2, int), np.ones(2, int)) if many else (0, 1)
    env.reset(seed=3)
    env.step(move)
    twin = how(env)
    assert twin.unwrapped.world is env.unwrapped.world
    assert twin.unwrapped.risk is env.unwrapped.risk
    for _ in range(3):
        (seen, earned, *_), (seen_, earned_, *_) = env.step(still), twin.step(still)
        assert (seen.tobytes(), np.asarray(earned).tobytes()) == (seen_.tobytes(), np.asarray(earned_).tobytes())


def test_e16_time_is_seen() -> None:
    env = make(dt_hours=0.5)
    names = env.unwrapped.feature_names
    assert {"hours", "dt_hours", "steps_left"} <= set(names)
    seen, info = env.reset(seed=0)
    later, *_ = env.step(0)
    moved = dict(zip(names, later - seen))
    assert moved["hours"] > 0
    assert moved["steps_left"] < 0
    assert moved["dt_hours"] == 0
    assert info["dt_hours"] == 0.5
    assert ecg_gym.__version__


def bindings(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Names that a file gives to values, arguments, fields and classes, and to functions -> the line of the first."""
    names: dict[str, int] = {}
    functions: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            if not any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
                functions.setdefault(node.name, node.lineno)
        elif isinstance(node, ast.ClassDef):
            names.setdefault(node.name.lower(), node.lineno)
        elif isinstance(node, ast.arg):
            names.setdefault(node.arg, node.lineno)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id if isinstance(node, ast.Name) else node.attr, node.lineno)
    return names, functions


def test_no_value_is_named_by_a_participle() -> None:
    """Nor any function: what a function does is a verb, what it returns a noun. Tests may say ``seen`` still."""
    faulty = {}
    for folder in ("ecg_gym", "planners", "training", "conformance", "tests", "examples", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            file = path.relative_to(ROOT).as_posix()
            names, functions = bindings(path)
            banned = TOLD if folder == "tests" else PARTICIPLES
            words = [(n, line) for n, line in names.items() if n.strip("_") in banned and (file, n) not in HASHED]
            if folder != "tests":
                words += [(name, line) for name, line in functions.items() if name.strip("_") in VERBS_DONE]
            if words:
                faulty[file] = [f"{word} in line {line}" for word, line in sorted(words)]
    assert not faulty, "name the value by a noun, the function by a verb"
