"""Who is asked: a table of agents, each a name, the settings that are hashed into its cell, and how it is made.

An agent made for an env is asked through ``act`` and ``reset``; what it imagines in or was trained in is its own
business, what it scores is the virtual patient's. Planners in the learned model start from what may be seen of a
patient, never from the state of the env's world.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecg_gym.core import World
from ecg_gym.envs.resolve import load_world
from planners import BestConstant, ExhaustivePlanner, RandomPlanner, WatchAndWait
from training.benchmark.episodes import Agent, made
from training.benchmark.oracle import Oracle
from training.benchmark.protocol import TRUTH, TUNED, Protocol, canonical


@dataclass(frozen=True)
class Setting:
    """What an agent is made for."""

    protocol: Protocol
    scenario: str
    seed: int  # repetition: of the patients, and of what is learned
    artefact: bytes = b""  # what its preparation brought


Prepared = tuple[bytes, dict[str, Any]]  # the artefact, and what is to be told about it
Prepare = Callable[[Setting, Mapping[str, Any], Path], Prepared]  # may keep checkpoints in the folder


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    name: str
    kind: str  # "anchor", "planner" or "learner"
    says: str  # what it is, for the page
    make: Callable[[Any, Setting, Mapping[str, Any]], Agent]
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: Prepare | None = None
    inside: bool = True  # also played inside the learned model, for the exploitation gap
    effort: int = 0  # the lower are played first


def learned_world(protocol: Protocol) -> World:
    """The learned model with the protocol's knobs: an object of its own, so that no planner takes it for the env's."""
    return _turned(protocol.model, canonical(dict(protocol.knobs)))


@lru_cache(maxsize=4)
def _turned(model: str, knobs: str) -> World:
    world: Any = load_world(model)
    return replace(world, **json.loads(knobs))


def _exhaustive(env: Any, setting: Setting, told: Mapping[str, Any]) -> Agent:
    return ExhaustivePlanner(env, learned_world(setting.protocol), **told)


def _constant(env: Any, setting: Setting, told: Mapping[str, Any]) -> Agent:
    name = json.loads(setting.artefact)["treatment"]
    menu = {str(treatment): treatment for treatment in env.unwrapped.menu}
    return BestConstant(env, menu[name])


def _best_constant(setting: Setting, told: Mapping[str, Any], folder: Path) -> Prepared:
    """The treatment that does best in the virtual patient when given whenever it is allowed, on patients for tuning."""
    protocol = setting.protocol
    env = made(TRUTH, canonical(protocol.arguments(setting.scenario, TRUTH)), protocol.horizon)
    best = BestConstant.search(env, int(told["episodes"]), protocol.seed(setting.seed, 0, TUNED))
    found = {"treatment": str(best.treatment), "patients": int(told["episodes"])}
    return json.dumps(found).encode(), found


TABLE: tuple[Contestant, ...] = (
    Contestant("random", "anchor", "any allowed treatment", lambda env, *_: RandomPlanner(env)),
    Contestant("watch", "anchor", "watch and wait, always", lambda env, *_: WatchAndWait(env)),
    Contestant(
        "constant", "anchor", "the best single treatment, chosen in the virtual patient on other patients",
        _constant, {"episodes": 6}, _best_constant, effort=1,
    ),
    Contestant(
        "exhaustive", "planner", "mean-variance ranking of every allowed treatment in the learned model",
        _exhaustive, {"k": 8, "risk_aversion": 0.6, "horizon": 1}, effort=3,
    ),
    Contestant(
        "oracle", "anchor", "exhaustive ranking in the virtual patient itself, from the truth",
        lambda env, setting, told: Oracle(env, last=setting.protocol.horizon, **told),
        {"sift": 4, "keep": 4, "k": 12, "horizon": 2}, inside=False, effort=4,
    ),
)  # fmt: skip
ANCHORS = ("random", "watch", "constant", "guideline", "oracle")


def contestants(names: Sequence[str] | None = None) -> tuple[Contestant, ...]:
    """The agents of these names (default all), in the order of the table; ``ValueError`` names the others."""
    known = {one.name: one for one in TABLE}
    if unknown := sorted(set(names or ()) - set(known)):
        raise ValueError(f"agents hold {unknown}; expected names out of {', '.join(known)}; check the spelling")
    return tuple(one for one in TABLE if names is None or one.name in names)
