"""``begin`` and ``advance``: what happens in a batch of episodes, as plain functions over frozen data.

The single env is a batch of one over these; a vector env is the same with more rows. A row's course depends on its own
generator alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World, row_generators
from ecg_gym.envs.observations import CHANGES, CLOCK, LATENT_LIMIT, MEASURED, STRIP_LIMIT_MV, Layout, doses_taken, told
from ecg_gym.envs.reward import mean_variance, reward
from ecg_gym.pharmacology import action_mask
from ecg_gym.risk import FINDINGS, RiskModel

LIKELY = 0.5  # a finding at least this probable is put before the clinical rules
INVALID = ("noop", "terminate", "raise")
Reading = Mapping[str, np.ndarray]  # name -> (B,): intervals [ms, bpm, mV], finding_*, risk, risk_*, cost


@dataclass(frozen=True)
class Task:
    """What the episodes are about: the same for all rows and for ever."""

    world: World
    risk: RiskModel
    menu: tuple[Treatment, ...]  # watch and wait first
    layout: Layout
    horizon: int = 8  # steps, for the cost of dying and the share of steps left
    invalid: str = "noop"  # what a treatment that is not allowed does
    samples: int = 1  # futures judged for the reward; the first is the one that happens
    risk_aversion: float = 0.0  # weight of their SD in the reward


@dataclass(frozen=True)
class Episode:
    """A batch of episodes between two actions."""

    state: State
    first: np.ndarray  # (B, 12, 1024) [mV] the strip that risk is judged against
    start: Reading  # what was read off it
    now: Reading  # what is read off the current strip
    allowed: np.ndarray  # (B, n) bool over the menu
    steps: np.ndarray  # (B,) int steps so far

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Outcome:
    """What a step brought each row."""

    reward: np.ndarray  # (B,) float
    terminated: np.ndarray  # (B,) bool: a lethal rhythm, a strip that is not finite, or a refused action that ends it
    refused: np.ndarray  # (B,) bool: the treatment was not allowed
    given: tuple[Treatment, ...]  # (B,) what was really given


def begin(task: Task, state: State) -> Episode:
    """Episodes that start at these states."""
    reading = read(task, state.ecg, state)
    return Episode(state, state.ecg, reading, reading, allowed(task, state, reading), np.zeros(len(state), int))


def advance(
    task: Task, episode: Episode, entries: Sequence[int], rngs: Sequence[np.random.Generator]
) -> tuple[Episode, Outcome]:
    """One step of every row: the menu entry of each, if it is allowed, and ``dt_hours`` of waiting.

    Raises ``ValueError`` for an entry that is not allowed when ``task.invalid`` is "raise".
    """
    refused = ~episode.allowed[np.arange(len(episode)), entries]
    if task.invalid == "raise" and refused.any():
        row = int(np.flatnonzero(refused)[0])
        raise ValueError(
            f"action means {task.menu[entries[row]]}, which is not allowed now; expected an action whose mask is true; "
            "look at info['action_mask'] or env.action_masks(), or pass invalid_action='noop'"
        )
    given = tuple(WATCH if no else task.menu[entry] for no, entry in zip(refused, entries))
    crowd = task.world.step(
        episode.state.repeat(task.samples),
        [treatment for treatment in given for _ in range(task.samples)],
        rngs if task.samples == 1 else [g for rng in rngs for g in row_generators(rng, task.samples)],
    )
    seen = read(task, np.repeat(episode.first, task.samples, axis=0), crowd)
    risks = seen["risk"].reshape(-1, task.samples)
    real = slice(None, None, task.samples)
    state, now = crowd[real], {name: values[real] for name, values in seen.items()}
    lost = ~state.alive | ~now["finite"].astype(bool)
    if task.invalid == "terminate":
        lost |= refused
    earned = reward(mean_variance(risks, task.risk_aversion), lost, episode.steps, task.horizon)
    after = Episode(state, episode.first, episode.start, now, allowed(task, state, now), episode.steps + 1)
    return after, Outcome(earned, lost, refused, given)


def read(task: Task, first: np.ndarray, state: State) -> dict[str, np.ndarray]:
    """Everything that can be read off the current strips, one array ``(B,)`` per name; NaN where not measurable."""
    judged = task.risk(first, state.ecg, state.patients, state.alive)
    rows = [judged.intervals.row(i) for i in range(len(state))]
    columns = {f.name: np.array([row[f.name] for row in rows], dtype=float) for f in MEASURED}
    columns |= {name: judged.probabilities[:, i] for i, name in enumerate(finding_names())}
    columns |= {f"risk_{name}": np.asarray(term, dtype=float) for name, term in judged.terms.items()}
    risk = np.where(judged.finite & np.isfinite(judged.total), np.nan_to_num(judged.total, nan=1.0), 1.0)
    return columns | {"risk": risk, "cost": np.nan_to_num(judged.cost, nan=1.0), "finite": judged.finite.astype(float)}


def allowed(task: Task, state: State, reading: Reading) -> np.ndarray:
    """Menu entries that the clinical rules allow now, ``(B, n)`` bool; watch and wait always."""
    masks = []
    for row in range(len(state)):
        findings = likely(np.array([reading[name][row] for name in finding_names()]))
        intervals = {f.name: float(reading[f.name][row]) for f in MEASURED}
        given, now = state.taken[row], float(state.hours[row])
        masks.append(action_mask(task.menu, state.patients[row], intervals, given, now, findings=findings))
    return np.stack(masks)


def likely(probabilities: np.ndarray) -> frozenset[str]:
    """The findings that are more likely than not, out of one row of probabilities (17,); none where they are NaN."""
    return frozenset(name for name, probability in zip(FINDINGS, probabilities) if probability >= LIKELY)


def features(task: Task, episode: Episode) -> np.ndarray:
    """The observation vectors ``(B, d)`` float32 in [-1, 1]."""
    state, columns = episode.state, dict(episode.now)
    for feature in CHANGES:
        name = feature.name.removesuffix("_change")
        columns[feature.name] = episode.now[name] - episode.start[name]
    columns |= told(state.patients, task.layout.conditions) | doses_taken(state, task.menu)
    clock = {
        "hours": state.hours,
        "dt_hours": np.full(len(state), task.world.dt_hours),
        "steps_left": np.clip(1 - episode.steps / task.horizon, 0, 1),
        "risk": episode.now["risk"],
    }
    assert clock.keys() == {f.name for f in CLOCK}
    return task.layout.vector(columns | clock)


def strips(episode: Episode) -> np.ndarray:
    """The current strips ``(B, 12, 1024)`` [mV] within the bounds of the space."""
    return np.clip(np.nan_to_num(episode.state.ecg), -STRIP_LIMIT_MV, STRIP_LIMIT_MV).astype(np.float32)


def latents(episode: Episode) -> np.ndarray:
    """The current latents ``(B, ...)`` within the bounds of the space; only states of a world model have them."""
    return np.clip(np.nan_to_num(episode.state.inner["latent"]), -LATENT_LIMIT, LATENT_LIMIT).astype(np.float32)


def finding_names() -> tuple[str, ...]:
    """The 17 findings as feature names, in their order."""
    return tuple("finding_" + name.lower().replace(" ", "_").replace("-", "_") for name in FINDINGS)
