"""Steps of known behaviour policies for offline learning: a mixture of guideline, random and a noisy oracle.

Every episode has one behaviour for all of its steps, and every step keeps the probability with which it took
its action, for off-policy evaluation. The steps are arrays in one ``.npz``, and a Minari data set where Minari is
installed (``pip install 'ecg-gym[offline]'``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.envs.patient_sets import STREAM, TRAIN
from ecg_gym.io import write_npz
from planners import GuidelinePlanner, Planner, TreeSearchPlanner

BEHAVIOURS = ("guideline", "random", "oracle")
SHARES = (0.4, 0.3, 0.3)  # of the episodes
NOISE = {"guideline": 0.1, "random": 1.0, "oracle": 0.3}  # probability of any allowed action instead
ENVS = 32
ID = "ECGInterventionOracle-v0"
FIELDS = ("observations", "actions", "rewards", "terminations", "truncations", "masks", "probabilities", "behaviours",
          "episodes")  # fmt: skip


def collect(steps: int, seed: int = 0, budget: int = 50, **arguments: Any) -> Iterator[dict[str, np.ndarray]]:
    """Batches of whole episodes until there are ``steps`` steps; each an array per name of ``FIELDS``.

    A batch also holds ``last``, the observation after each episode's end, one row per episode. ``budget`` is that of
    the oracle's search; ``arguments`` are those of the env.
    """
    done, batch = 0, 0
    while done < steps:
        part = _episodes(TRAIN * STREAM + STREAM // 2 + seed * STREAM // 100 + batch * ENVS, budget, arguments)
        part["episodes"] += batch * ENVS
        done, batch = done + len(part["actions"]), batch + 1
        yield part


def _episodes(first: int, budget: int, arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One episode in each row of a vector env, in the order of the rows."""
    envs = gym.make_vec(ID, num_envs=ENVS, autoreset_mode="SameStep", **{"fidelity": "vitals", **arguments})
    observations, _ = envs.reset(seed=first)
    inner: Any = envs.unwrapped
    rng = np.random.default_rng([first, 3])
    behaviour = rng.choice(len(BEHAVIOURS), ENVS, p=SHARES)
    experts: dict[str, Planner] = {
        "guideline": GuidelinePlanner(envs), "oracle": TreeSearchPlanner(envs, budget=budget, seed=first),
    }  # fmt: skip
    going, trail, last = np.ones(ENVS, bool), [], np.zeros_like(observations)
    while going.any():
        masks = inner.action_masks()
        actions, chances = np.zeros(ENVS, int), np.zeros(ENVS)
        for b, name in enumerate(BEHAVIOURS):
            rows = np.flatnonzero(going & (behaviour == b))
            if len(rows):
                actions[rows], chances[rows] = _noisy(name, experts.get(name), rows, masks, inner, rng)
        before = observations
        observations, rewards, terminated, truncated, info = envs.step(actions)
        rows, over = np.flatnonzero(going), terminated | truncated
        trail.append((before[rows], actions[rows], rewards[rows], terminated[rows], truncated[rows], masks[rows],
                      chances[rows], behaviour[rows], rows))  # fmt: skip
        for row in np.flatnonzero(going & over):
            last[row] = info["final_obs"][row]
        going &= ~over
    envs.close()
    columns = [np.concatenate(column) for column in zip(*trail)]
    order = np.argsort(columns[-1], kind="stable")  # by episode, and in time within each
    return {name: column[order] for name, column in zip(FIELDS, columns)} | {"last": last}


def _noisy(
    name: str, expert: Planner | None, rows: np.ndarray, masks: np.ndarray, inner: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Actions of a behaviour for some rows, and their probabilities."""
    noise, counts = NOISE[name], masks[rows].sum(axis=1)
    advice = np.full(len(rows), -1)
    if expert is not None:
        advice = np.array([inner.action(one.treatment) for one in expert.choose_rows(rows.tolist())])
    anything = np.array([rng.choice(np.flatnonzero(masks[row])) for row in rows])
    actions = np.where((rng.random(len(rows)) < noise) | (advice < 0), anything, advice)
    return actions, (1 - noise) * (actions == advice) + noise / counts


def save(parts: list[dict[str, np.ndarray]], path: Path) -> int:
    """Writes the steps of all batches as one ``.npz``; how many there are."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in (*FIELDS, "last")}
    write_npz(path, columns | {"names": np.array(BEHAVIOURS)})
    return len(columns["actions"])


def to_minari(path: Path, name: str) -> Any:
    """The steps of a file as a Minari data set of that name; ``ValueError`` where Minari is not installed."""
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise ValueError(
            "--minari needs Minari, which is not installed; expected the extra; run pip install 'ecg-gym[offline]'"
        ) from error
    with np.load(path, allow_pickle=False) as file:
        table = {key: file[key] for key in (*FIELDS, "last")}
    env = gym.make(ID, fidelity="vitals")
    buffers = []
    for episode in np.unique(table["episodes"]):
        rows = np.flatnonzero(table["episodes"] == episode)
        buffers.append(EpisodeBuffer(
            id=int(episode), observations=np.concatenate([table["observations"][rows], table["last"][episode][None]]),
            actions=table["actions"][rows], rewards=table["rewards"][rows],
            terminations=table["terminations"][rows], truncations=table["truncations"][rows],
            infos={"action_probability": np.append(table["probabilities"][rows], np.nan)},
        ))  # fmt: skip
    return minari.create_dataset_from_buffers(
        dataset_id=name, buffer=buffers, env=env, algorithm_name="guideline, random and noisy oracle",
        description="Virtual patients; research only.",
    )  # fmt: skip
