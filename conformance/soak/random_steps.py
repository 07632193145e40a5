"""Steps in every env there is: random treatments, allowed and not, and not one value that is not finite.

A *walk* is a piece of work: one id of the registry with arguments of its own (observations, what a refused action does,
autoreset, risk, futures judged), some rows, some steps. Walk i of a soak follows from the seed and i alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.checks import untouched_global_randomness

ROWS = (4, 16, 64)  # envs side by side
PLAIN = ("ECGIntervention-v0", "ECGInterventionOracle-v0")
FAULTS_KEPT = 5  # of one walk
STRIPS = 0.1  # share of walks whose readings are measured on strips
FEATURES = 0.8  # share of walks that observe numbers; the others strips or latents, and draw them at every step


@dataclass(frozen=True)
class Walk:
    """One piece: which env, told what, how many rows and how many steps of each."""

    number: int
    id: str
    arguments: Mapping[str, Any]
    rows: int
    steps: int
    masked: bool  # whether actions are drawn from what is allowed

    @property
    def world(self) -> str:
        """``learned`` or ``oracle``."""
        return "oracle" if "Oracle" in self.id else "learned"

    @property
    def total(self) -> int:
        """Steps of all rows together."""
        return self.rows * self.steps


def ids() -> dict[str, list[str]]:
    """The ids of this package by world, in the order of the registry."""
    mine = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("ecg_gym.")]
    return {
        world: [name for name in mine if ("Oracle" in name) == (world == "oracle")] for world in ("oracle", "learned")
    }


def walks(total: int, seed: int, learned: float) -> Iterator[Walk]:
    """Walks until ``total`` steps are assigned, every id in turn; a share of the steps is in the learned world.

    Each id has the same budget. Small totals have small walks, so that they see many ids too.
    """
    every, has_prior, number = ids(), {"oracle": 0, "learned": 0}, 0
    turn = {"oracle": 0, "learned": 0}
    orders = {world: np.random.default_rng([seed, 10**9]).permutation(names) for world, names in every.items()}
    rows = next((n for n in reversed(ROWS) if 25 * n * 16 <= total), ROWS[0])
    while sum(has_prior.values()) < total:
        world = "learned" if has_prior["learned"] < learned * (sum(has_prior.values()) + 1) else "oracle"
        name = str(orders[world][turn[world] % len(orders[world])])
        left = -(-(total - sum(has_prior.values())) // rows)
        walk = _walk(number, name, seed, rows, min(left, 16 if world == "oracle" else 9))
        yield walk
        turn[world], number = turn[world] + 1, number + 1
        has_prior[world] += walk.total


def _walk(number: int, name: str, seed: int, rows: int, steps: int) -> Walk:
    rng = np.random.default_rng([seed, number])
    tiered = any(word in name for word in ("-Noisy", "-Missing", "-Delayed"))
    views = ["features", "waveform", *(["latent"] if "Oracle" not in name and not tiered else [])]
    arguments: dict[str, Any] = {
        "obs": str(rng.choice(views, p=[FEATURES, *[(1 - FEATURES) / (len(views) - 1)] * (len(views) - 1)])),
        "actions": str(rng.choice(["discrete", "multidiscrete"])),
        "invalid_action": str(rng.choice(["noop", "terminate", "raise"])),
        "risk": str(rng.choice(["limits", "adverse", "max"], p=[0.6, 0.3, 0.1])),
        "samples": int(rng.choice([1, 1, 1, 2])),
        "privileged": bool(rng.random() < 0.3),
        "burden": float(rng.choice([0.0, 0.02])),
        "autoreset_mode": str(rng.choice([mode.value for mode in AutoresetMode])),
    }
    if rng.random() < 0.2:
        arguments["deterministic"] = "batch"
    arguments["fidelity"] = str(rng.choice(["vitals", "strip"], p=[1 - STRIPS, STRIPS]))
    if name in PLAIN:  # ids that pin no scenario
        from ecg_gym.envs.observability import load_tiers
        from ecg_gym.envs.scenarios import load_scenarios

        arguments["scenario"] = str(rng.choice(list(load_scenarios())))
        arguments["tier"] = str(rng.choice(list(load_tiers()))) if arguments["obs"] != "latent" else "clean"
    masked = bool(rng.random() < 0.5) or arguments["invalid_action"] == "raise"
    return Walk(number, name, arguments, rows, steps, masked)


def take(walk: Walk, seed: int) -> dict[str, Any]:
    """A row of the ledger: what the walk was, how far it got, what was not finite, and what it cost."""
    began, before = time.monotonic(), megabytes()
    row: dict[str, Any] = {"key": walk.number, **asdict(walk), "world": walk.world, "pid": os.getpid()}
    row |= {"steps": 0, "resets": 0, "episodes": 0, "deaths": 0, "refusals": 0, "nonfinite": 0, "touched": 0}
    row |= {"places": {}, "faults": []}
    try:
        with untouched_global_randomness():
            _take(walk, seed, row)
    except AssertionError as error:
        row["touched"] = int("global random" in str(error))
        row["faults"] += [] if row["touched"] else [f"AssertionError: {error}"]
    except Exception as error:  # the soak reports what breaks and goes on
        row["faults"].append(f"{type(error).__name__}: {str(error)[:300]}")
    row["faults"] = row["faults"][:FAULTS_KEPT]
    return row | {"seconds": round(time.monotonic() - began, 3), "mb_before": before, "mb_after": megabytes()}


def _take(walk: Walk, seed: int, row: dict[str, Any]) -> None:
    mode = AutoresetMode(walk.arguments["autoreset_mode"])
    value = {**walk.arguments, "autoreset_mode": mode}
    envs: Any = gym.make_vec(walk.id, num_envs=walk.rows, **value)
    rng = np.random.default_rng([seed, walk.number, 1])
    obs, info = envs.reset(seed=int(rng.integers(2**31)))
    row["resets"] += walk.rows
    _count(row, {"obs": obs, "info": info})
    over = np.zeros(walk.rows, bool)
    raises = walk.arguments["invalid_action"] == "raise"
    while row["steps"] < walk.total:  # a reset in between is no step
        if mode == AutoresetMode.DISABLED and over.any():
            obs, info = envs.reset(options={"reset_mask": over})
            _count(row, {"obs": obs, "info": info})
            row["resets"] += int(over.sum())
            over = np.zeros(walk.rows, bool)
        if raises:
            _refused(envs, row, rng)
        fresh = over if mode == AutoresetMode.NEXT_STEP else np.zeros(walk.rows, bool)
        obs, reward, terminated, truncated, info = envs.step(_actions(envs, rng, walk.masked))
        _count(row, {"obs": obs, "reward": reward, "info": info})
        row["steps"] += int((~fresh).sum())
        over = terminated | truncated
        row["resets"] += int(fresh.sum())
        row["episodes"] += int(over.sum())
        row["deaths"] += int(terminated.sum())
        row["nonfinite"] += int((~np.asarray(info["finite"], bool)).sum())  # a strip that info hides behind 0
        _expect(envs.observation_space.contains(obs), "an observation is outside of its space")
        _expect(bool((reward <= 0).all()), f"a reward is above 0: {reward.max()}")
    _count(row, {"strip": envs.unwrapped.episode.state.ecg})  # drawn for whoever looks, at the end
    envs.close()


def _actions(envs: Any, rng: np.random.Generator, masked: bool) -> Any:
    """One action per env, anything or anything allowed; the generator is the walk's own."""
    space = envs.single_action_space
    masks = np.asarray(envs.unwrapped.action_masks(), bool)
    if isinstance(space, gym.spaces.Discrete):
        allowed = masks if masked else np.ones_like(masks)
        return np.array([int(rng.choice(np.flatnonzero(row))) for row in allowed])
    if not masked:
        return np.stack([rng.integers(space.nvec) for _ in masks])
    # a mask per component cannot name the pairs that are allowed: ask which entries are
    code, entries = envs.unwrapped.setup.code, np.asarray(envs.unwrapped.episode.allowed, bool)
    return np.stack([code.action(int(rng.choice(np.flatnonzero(row)))) for row in entries])


def _refused(envs: Any, row: dict[str, Any], rng: np.random.Generator) -> None:
    """What is not allowed raises a sentence, and the envs stand as they stood."""
    allowed = np.asarray(envs.unwrapped.episode.allowed, bool)
    if allowed.all() or rng.random() > 0.2:
        return
    code, before = envs.unwrapped.setup.code, envs.unwrapped.episode.state.hours.copy()
    place = int(np.flatnonzero(~allowed.all(axis=1))[0])
    actions = [code.action(0)] * len(allowed)
    actions[place] = code.action(int(np.flatnonzero(~allowed[place])[0]))
    try:
        envs.step(np.array(actions))
    except ValueError as error:
        _expect("; expected" in str(error), f"a refusal says only {error}")
        _expect(bool((envs.unwrapped.episode.state.hours == before).all()), "a refused action moved the clock")
        row["refusals"] += 1


def _count(row: dict[str, Any], value: Mapping[str, Any]) -> None:
    for place, number in nonfinite(value):
        row["nonfinite"] += number
        row["places"][place] = row["places"].get(place, 0) + number


def nonfinite(value: Any, place: str = "") -> Iterator[tuple[str, int]]:
    """``(place, how many)`` of every number in nested mappings, sequences and arrays that is not finite."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from nonfinite(item, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from nonfinite(item, place)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for item in value.ravel():
            yield from nonfinite(item, place)
    elif isinstance(value, np.ndarray | np.number | float) and np.asarray(value).dtype.kind in "fc":
        bad = int((~np.isfinite(value)).sum())
        if bad:
            yield place, bad


def megabytes() -> float:
    """Resident memory of this process [MB]."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return round(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _expect(promise: bool, sentence: str) -> None:
    if not promise:
        raise AssertionError(sentence)
