"""Whole episodes of many patients under one policy, as a batch without observations: what each earned and suffered.

A policy is a function ``(task, episode, rng) -> entries (B,)`` of the menu. Rows are patients: row i of every policy is
the same person under the same random numbers, so policies are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from ecg_gym.envs.config import EnvConfig, EnvSetup, make_setup
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import Episode
from ecg_gym.streams import Streams
from planners.guideline import Bedside, decide

PRIVATE = 20_261_130_160  # first word of the seeds of these patients; no other study and no training uses it
CHUNK = 1024  # rows at once

Policy = Callable[[Task, Episode, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Course:
    """What became of each patient."""

    returns: np.ndarray  # (N,) undiscounted
    died: np.ndarray  # (N,) bool
    harm: np.ndarray  # (N,) sum of the costs: steps' worth of harm by treatment
    doses: np.ndarray  # (N,) treatments given

    def to_json_dict(self) -> dict[str, list[float]]:
        """Lists by name."""
        return {name: np.asarray(values, float).tolist() for name, values in asdict(self).items()}

    @classmethod
    def from_json_dict(cls, table: dict[str, list[float]]) -> Course:
        """The course that was written."""
        columns = {name: np.array(values) for name, values in table.items()}
        return cls(**{**columns, "died": columns["died"] > 0})


def setup_of(scenario: str, risk: str = "adverse", menu: str = "scenario", cost: bool = True) -> EnvSetup:
    """The task of a scenario in the virtual patient, in vitals fidelity."""
    return make_setup(EnvConfig("oracle", scenario=scenario, menu=menu, fidelity="vitals", risk=risk, cost=cost))


def patients_of(scenario: str, n: int, purpose: int = 0) -> Streams:
    """The random streams of the first ``n`` private patients of a scenario."""
    name = int.from_bytes(scenario.encode()[:7], "little")
    keys = [np.random.default_rng([PRIVATE, purpose, name, i]).integers(0, 2**64, 2, np.uint64) for i in range(n)]
    return Streams.start(np.array(keys, np.uint64).reshape(-1, 2))


def play(setup: EnvSetup, streams: Streams, policy: Policy, seed: int = 0, dice: Streams | None = None) -> Course:
    """One episode of every row, in chunks; ``seed`` is of the policy's own randomness.

    ``streams`` say who the patients are and, unless ``dice`` do, what befalls them.
    """
    dice, parts = streams if dice is None else dice, []
    for at in range(0, len(streams), CHUNK):
        rng, some = np.random.default_rng([PRIVATE, seed, at]), slice(at, at + CHUNK)
        parts.append(_play(setup, streams.take(some), dice.take(some), policy, rng, at))
    return Course(*(np.concatenate([getattr(part, name) for part in parts]) for name in asdict(parts[0])))


def _play(
    setup: EnvSetup, streams: Streams, dice: Streams, policy: Policy, rng: np.random.Generator, first: int
) -> Course:
    n = len(streams)
    course = Course(np.zeros(n), np.zeros(n, bool), np.zeros(n), np.zeros(n))
    episode, rows = setup.begin(streams, None), np.arange(n)
    while len(rows):
        entries = policy(setup.task, episode, rng) if not isinstance(policy, Constant) else policy.entries(
            episode, first + rows)  # fmt: skip
        episode, outcome = setup.advance(episode, entries, dice.take(rows).after(episode.steps + 1))
        course.returns[rows] += outcome.reward
        course.harm[rows] += outcome.costs.get("cost", 0.0)
        course.doses[rows] += outcome.treatments.entry > 0  # type: ignore[attr-defined]
        course.died[rows] |= outcome.lost
        going = np.flatnonzero(~(outcome.terminated | outcome.truncated))
        if len(going) < len(rows):
            episode, rows = episode[going], rows[going]
    return course


def watch(task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """Nothing, ever."""
    return np.zeros(len(episode), int)


def random(task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """Any allowed action, each as likely."""
    return np.where(episode.allowed, rng.random(episode.allowed.shape), -1.0).argmax(axis=1)


def kitchen_sink(task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """Always another treatment that is allowed, of those not given yet if there is one; watching if none is."""
    drugs = [treatment.doses[0].drug if treatment else "" for treatment in task.menu]
    has_had = np.array(
        [[any(a.dose.drug == drug and a.hours >= 0 for a in doses) for drug in drugs] for doses in episode.state.doses]
    )
    wish = np.where(episode.allowed, rng.random(episode.allowed.shape) + 1.0 * ~has_had, -1.0)
    wish[:, 0] = 0.0
    return wish.argmax(axis=1)


def guideline(task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """What ``planners.guideline`` says of what is seen of each."""
    place = {treatment: i for i, treatment in enumerate(task.menu)}
    choices = []
    for row, allowed in enumerate(episode.allowed):
        options = tuple(task.menu[i] for i in np.flatnonzero(allowed))
        choices.append(place[decide(Bedside.of(episode, row), options)[0]])
    return np.array(choices, int)


@dataclass(frozen=True)
class Constant:
    """Row i is given entry ``of[i]`` whenever it is allowed, or at the first step only."""

    of: np.ndarray  # (N,) entries of the menu
    once: bool = False

    def entries(self, episode: Episode, rows: np.ndarray) -> np.ndarray:
        """The entries of these rows of the batch."""
        wish = self.of[rows]
        now = episode.allowed[np.arange(len(rows)), wish]
        return np.where(now & (~episode.treated if self.once else True), wish, 0)

    def __call__(self, task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """The entries of a whole batch."""
        return self.entries(episode, np.arange(len(episode)))


def constants(setup: EnvSetup, streams: Streams, once: bool = False, luck: int = 0) -> np.ndarray:
    """Returns ``(menu, N)`` of every entry of the menu for every patient; ``luck`` above 0 is other dice."""
    menu, n = len(setup.task.menu), len(streams)
    tiles, policy = np.tile(np.arange(n), menu), Constant(np.repeat(np.arange(menu), n), once)
    dice = replace(streams, key=streams.key + np.uint64(luck)) if luck else streams
    return play(setup, streams.take(tiles), policy, dice=dice.take(tiles)).returns.reshape(menu, n)


POLICIES: dict[str, Policy] = {"watch": watch, "random": random, "kitchen sink": kitchen_sink, "guideline": guideline}
