"""What a step is worth and what it costs: the reward, the harm that treatment did, and when an agent hears of both.

The cost of a step is the harm of the strip beyond that of the untreated twin: the same heart under the same random
numbers, to whom nothing was given since the episode began. A death that the twin does not die costs every step that
was left, as much as the worst survivor can. So watching costs 0, and dying early never saves any.

Reward and cost arrive with the strip that they are judged by, as late and as blurred as it is seen, or all of them,
judged by the true strips, in the last step of the episode (``reward_timing="end"``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from ecg_gym.columns import Choice
from ecg_gym.core import State, Treatment, World
from ecg_gym.envs.episode import Episode, Readings
from ecg_gym.envs.reward import Reward, terms_of
from ecg_gym.risk import LIMITS, PRESSURE
from ecg_gym.streams import Streams

SEEN, END = TIMINGS = ("seen", "end")
COST, LETHAL = "cost", "lethal"
HAZARDS = tuple(limit.name for limit in (*LIMITS, PRESSURE) if limit.cost)
Judge = Callable[[np.ndarray, State, Streams], Readings]  # rows, their states and streams -> what is read off them


class Task(Protocol):
    """What is asked of an env's task here."""

    @property
    def world(self) -> World:
        """Who steps the untreated twin."""
        ...

    @property
    def menu(self) -> tuple[Treatment, ...]:
        """Watch and wait first."""
        ...

    @property
    def reward(self) -> Reward:
        """What names the terms of the reward."""
        ...

    @property
    def cost(self) -> bool:
        """Whether harm by treatment is told."""
        ...


def names_of(task: Task, reading: Readings) -> tuple[str, ...]:
    """The columns of what is due: the terms of the reward, then the cost, its hazards and what a death costs."""
    return _names_of(terms_of(task.reward), tuple(reading) if task.cost else None)


@lru_cache(maxsize=8)
def _names_of(terms: tuple[str, ...], read: tuple[str, ...] | None) -> tuple[str, ...]:
    costs = () if read is None else (COST, *(name for name in HAZARDS if f"risk_{name}" in read), LETHAL)
    return (*terms, *(f"cost of {name}" for name in costs))


def untreated(
    task: Task, before: Episode, state: State, choice: Choice, streams: Streams, twin: State | None = None
) -> tuple[np.ndarray, State]:
    """Who has been treated ``(B,)`` bool, and the twins who have not: of those who were not either, they themselves.

    ``twin`` are the twins of all rows, where they have been stepped beside them.
    """
    treated = before.treated | (choice.entry != 0)
    if twin is not None:
        return treated, twin
    rows = np.flatnonzero(treated)
    if not task.cost or not len(rows):
        return treated, state
    watching = Choice(task.menu, np.zeros(len(rows), int))
    later = task.world.step(before.twin[rows], watching, streams.take(rows))
    if len(rows) == len(treated):
        return treated, later
    return treated, state.placed([(rows, later)])


def harm(
    names: Sequence[str], treated: np.ndarray, twin: State, reading: Readings, lost: np.ndarray, left: np.ndarray,
    streams: Streams, judge: Judge, whole: bool = False,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What treatment did to each row in this step, by the names of :func:`names_of`, each ``(B,)`` from 0.

    ``left (B,)`` are the steps of the episode, this one among them; ``whole``: the twins of all rows are judged.
    """
    due, rows = np.zeros((len(names), len(treated))), np.flatnonzero(treated)
    if not len(rows):
        return dict(zip(names, due))
    if whole:
        rows = np.arange(len(treated))
    every = len(rows) == len(treated)
    other = twin if every else twin[rows]
    beside = judge(rows, other, streams if every else streams.take(rows))
    keys = _keys_of(tuple(names))
    more = reading.rows(keys) - beside.rows(keys) if every else reading.rows(keys)[:, rows] - beside.rows(keys)
    died = lost[rows] & other.alive & (beside["finite"] != 0)
    more = np.where(more > 0, np.minimum(more, 1.0), 0.0)  # 0 where it is NaN
    more[0] = np.where(lost[rows], np.where(died, left[rows], 0.0), more[0])
    due[:-1, rows] = more
    due[-1, rows] = np.where(died, left[rows], 0.0)
    return dict(zip(names, due * treated))


@lru_cache(maxsize=8)
def _keys_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Where in a reading each cost is, but for that of a death, which comes last."""
    first, *hazards, _ = (name.removeprefix("cost of ") for name in names)
    return (first, *(f"risk_{name}" for name in hazards))


def deliver(
    timing: str, late: bool, pending: np.ndarray, due: np.ndarray, over: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What arrives in this step and what is still to come, each ``(B, K)``; at the end of an episode all of it arrives.

    ``due (B, K)`` belongs to the strip of this step, ``late`` says that strips are seen one step late.
    """
    ends = over[:, None]
    if timing == END:
        whole = pending + due
        return np.where(ends, whole, 0.0), np.where(ends, 0.0, whole)
    if not late:
        return due, np.zeros_like(due)
    return pending + np.where(ends, due, 0.0), np.where(ends, 0.0, due)


@lru_cache(maxsize=8)
def costs_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that are costs, by their short names."""
    return tuple(name.removeprefix("cost of ") for name in names if name.startswith("cost of "))
