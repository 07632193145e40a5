"""Who is asked: a table of agents, each a name, the settings that are hashed into its cell, and how it is made.

An agent made for an env is asked through ``act`` and ``reset``; what it imagines in or was trained in is its own
business, what it scores is the virtual patient's. Planners in the learned model start from what may be seen of a
patient, never from the state of the env's world.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import yaml

from ecg_gym.core import World
from ecg_gym.envs.loading import load_world
from ecg_gym.envs.scenarios import scenario_named
from planners import (
    BeamPlanner,
    BestConstant,
    CEMPlanner,
    ExhaustivePlanner,
    GuidelinePlanner,
    RandomPlanner,
    RandomShootingPlanner,
    RecedingHorizonPlanner,
    WatchAndWait,
)
from planners.two_stage import TwoStagePlanner
from training.evaluation.benchmark.base import Contestant, Prepared, Setting
from training.evaluation.benchmark.episodes import Agent
from training.evaluation.benchmark.protocol import IDS, MODEL, TRUTH, TUNED, Protocol, canonical

ALGORITHMS = {"ppo": "SB3's PPO", "dqn": "SB3's DQN", "maskable-ppo": "sb3-contrib's MaskablePPO"}
COMMON = {"learning_rate": 1e-3, "gamma": 0.99, "policy_kwargs": {"net_arch": [64, 64]}}
ON_POLICY = {"n_steps": 8, "batch_size": 64, "n_epochs": 10, "ent_coef": 0.01, **COMMON}
OFF_POLICY = {
    "learning_starts": 256, "buffer_size": 20_000, "batch_size": 128, "train_freq": 2, "gradient_steps": 16,
    "target_update_interval": 256, "exploration_fraction": 0.5, "exploration_final_eps": 0.05, **COMMON,
}  # fmt: skip
LEARNING = {"ppo": ON_POLICY, "maskable-ppo": ON_POLICY, "dqn": OFF_POLICY}


def learned_world(protocol: Protocol) -> World:
    """The learned model with the protocol's knobs: an object of its own, so that no planner takes it for the env's."""
    return _turned(protocol.model, canonical(dict(protocol.knobs)))


@lru_cache(maxsize=4)
def _turned(model: str, knobs: str) -> World:
    world: Any = load_world(model)
    return replace(world, **json.loads(knobs))


def _imagining(kind: Callable[..., Agent]) -> Callable[[Any, Setting, Mapping[str, Any]], Agent]:
    """A planner in the learned model."""
    return lambda env, setting, row: kind(env, world=learned_world(setting.protocol), **row)


def _learned(env: Any, setting: Setting, row: Mapping[str, Any]) -> Agent:
    from training.evaluation.benchmark.learners import learned

    return learned(env, setting, row)


def _train(setting: Setting, row: Mapping[str, Any], folder: Path) -> Prepared:
    from training.evaluation.benchmark.learners import train

    return train(setting, row, folder)


def _learners() -> tuple[Contestant, ...]:
    """Each algorithm, trained in the learned model, and in the virtual patient for comparison."""
    budget = {"steps": 1024, "envs": 16, "every": 256}
    where = {MODEL: ("", "the learned model"), TRUTH: ("-in-truth", "the virtual patient, for comparison")}
    return tuple(
        Contestant(
            f"{algorithm}{suffix}", "learner", f"{words}, trained in {place}", _learned,
            {"algorithm": algorithm, "world": world, **budget, "learning": LEARNING[algorithm]}, _train, effort=2,
            learned=world == MODEL,
        )
        for world, (suffix, place) in where.items()
        for algorithm, words in ALGORITHMS.items()
    )  # fmt: skip


def _constant(env: Any, setting: Setting, row: Mapping[str, Any]) -> Agent:
    name = json.loads(setting.artefact)["treatment"]
    menu = {str(treatment): treatment for treatment in env.unwrapped.menu}
    return BestConstant(env, menu[name])


def _best_constant(setting: Setting, row: Mapping[str, Any], folder: Path) -> Prepared:
    """The treatment that does best in the virtual patient when given whenever it is allowed, on patients for tuning."""
    protocol, patients = setting.protocol, int(row["patients"])
    seeds = [protocol.seed(setting.seed, episode, TUNED) for episode in range(patients)]
    menu, returns = constant_returns(protocol, setting.scenario, seeds)
    best = int(np.argmax(returns.mean(axis=1)))  # of equal ones the first of the menu
    result = {"treatment": menu[best], "patients": patients, "return": float(returns[best].mean())}
    return json.dumps(result).encode(), result


def constant_returns(protocol: Protocol, scenario: str, seeds: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """The menu, and the return ``(menu, patients)`` of each of its treatments given whenever it is allowed."""
    menu = scenario_named(scenario).menu
    queries = gym.make_vec(
        IDS[TRUTH], num_envs=len(menu) * len(seeds),
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP, **protocol.arguments(scenario, TRUTH),
    )  # fmt: skip
    each: Any = [seed for _ in menu for seed in seeds]  # a list is what Gymnasium takes and does not type
    queries.reset(seed=each)
    entries = np.repeat(np.arange(len(menu)), len(seeds))
    total, going = np.zeros(len(entries)), np.ones(len(entries), bool)
    for _ in range(protocol.steps(scenario)):
        _, rewards, terminated, truncated, _ = queries.step(entries)
        total += np.where(going, rewards, 0.0)
        going &= ~(terminated | truncated)  # the row goes on with another patient, who is not counted
    queries.close()
    return [str(treatment) for treatment in menu], total.reshape(len(menu), len(seeds))


SEARCH = {"horizon": 2, "k": 3, "budget": 100, "risk_aversion": 0.0, "finish": 0.3, "belief": "history"}
TABLE: tuple[Contestant, ...] = (
    Contestant("random", "anchor", "any allowed treatment", lambda env, *_: RandomPlanner(env)),
    Contestant("watch", "anchor", "watch and wait, always", lambda env, *_: WatchAndWait(env)),
    Contestant(
        "constant", "anchor", "the best single treatment, chosen in the virtual patient on other patients",
        _constant, {"patients": 6}, _best_constant, effort=1,
    ),
    Contestant(
        "guideline", "anchor", "what guidelines give first, by rules on what is seen",
        lambda env, *_: GuidelinePlanner(env),
    ),
    Contestant(
        "exhaustive", "planner", "the oracle's search in the learned model: everything allowed, then the best again",
        _imagining(TwoStagePlanner),
        {"sift": 3, "keep": 3, "k": 8, "horizon": 2, "risk_aversion": 0.0, "belief": "history"}, effort=3, learned=True,
    ),
    Contestant(
        "paper", "planner", "the paper's ranking in the learned model: mean-variance, three futures, one step",
        _imagining(ExhaustivePlanner), {"k": 3, "risk_aversion": 0.6, "horizon": 1, "belief": "history"},
        effort=3, learned=True,
    ),
    Contestant(
        "shooting", "planner", "random shooting over sequences in the learned model",
        _imagining(RandomShootingPlanner), SEARCH, effort=5, share=0.5, learned=True,
    ),
    Contestant(
        "cem", "planner", "categorical cross-entropy search over sequences in the learned model",
        _imagining(CEMPlanner), SEARCH, effort=5, share=0.5, learned=True,
    ),
    Contestant(
        "beam", "planner", "beam search over sequences in the learned model",
        _imagining(BeamPlanner), SEARCH, effort=5, share=0.5, learned=True,
    ),
    Contestant(
        "receding", "planner", "cross-entropy search that goes on from the plan before, in the learned model",
        _imagining(RecedingHorizonPlanner), SEARCH, effort=5, share=0.5, learned=True,
    ),
    *_learners(),
    Contestant(
        "oracle", "anchor", "exhaustive ranking in the virtual patient itself, from the truth",
        lambda env, setting, settings: TwoStagePlanner(env, **settings),
        {"sift": 3, "keep": 3, "k": 8, "horizon": 2}, inside=False, effort=4,
    ),
)  # fmt: skip
ANCHORS = ("random", "watch", "constant", "guideline", "oracle")


def contestants(names: Sequence[str] | None = None) -> tuple[Contestant, ...]:
    """The agents of these names (default all), in the order of the table.

    ``"exhaustive:k=4;horizon=2"`` is an agent with other settings, under that name. Raises ``ValueError`` for a name or
    a setting that nobody knows.
    """
    if names is None:
        return TABLE
    result = [_contestant(name) for name in dict.fromkeys(names)]
    order = [one.name for one in TABLE]
    return tuple(sorted(result, key=lambda one: order.index(one.name.partition(":")[0])))


def _contestant(words: str) -> Contestant:
    name, _, changes = words.partition(":")
    known = {one.name: one for one in TABLE}
    if name not in known:
        raise ValueError(f"agent is {name!r}; expected one of {', '.join(known)}; check the spelling")
    one, row = known[name], {}
    for change in filter(None, changes.split(";")):
        key, _, value = change.partition("=")
        if key not in one.settings:
            raise ValueError(
                f"{name} has no setting {key!r}; expected one of {', '.join(one.settings) or 'none'}; "
                f"write for example {name}:k=4;horizon=2"
            )
        row[key] = yaml.safe_load(value)
    return replace(one, name=words, settings={**one.settings, **row}) if row else one
