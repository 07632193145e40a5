"""``begin`` and ``advance``: what happens in a batch of episodes, as plain functions over frozen data.

The single env is a batch of one over these; the vector env is the same with more rows. A row's course depends on its
own generator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ecg_gym.core import LEADS, MODEL_RATE_HZ, State, Treatment, concatenate
from ecg_gym.envs.observability import SeenStrip
from ecg_gym.svg import strip_svg

LIKELY = 0.5  # a finding at least this probable is put before the clinical rules
INVALID = ("noop", "terminate", "raise")
Reading = Mapping[str, np.ndarray]  # name -> (B,): intervals [ms, bpm, mV], finding_*, risk, risk_*, cost


@dataclass(frozen=True)
class Episode:
    """A batch of episodes between two actions."""

    state: State
    first: np.ndarray  # (B, 12, 1024) [mV] the strip that risk is judged against
    start: Reading  # what was read off it, as it was seen
    now: Reading  # what can be read off the newest strip that was seen
    last: Reading  # read off the newest strip as it will be seen: `now`, unless strips are seen late
    judged: Reading  # read off the true strip: what the reward and the cost are made of
    allowed: np.ndarray  # (B, n) bool over the menu
    steps: np.ndarray  # (B,) int steps so far
    missing: tuple[tuple[str, ...], ...]  # (B,) leads that are off
    recorded: tuple[tuple[SeenStrip, ...], ...]  # (B,) every strip as it was or will be seen, oldest first
    delayed: bool = False  # strips are seen one step late

    def _repr_html_(self) -> str:
        """The newest strip that was seen of the first row, and what was given, for notebooks."""
        seen = self.sights[0]
        given = [f"{look.hours:g} h: {look.given}" for look in seen if look.given is not None]
        words = f"episode of {len(self)}, {seen[-1].hours:g} h" + (f"; {'; '.join(given)}" if given else "")
        return strip_svg(seen[-1].ecg, MODEL_RATE_HZ, LEADS, words)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def sights(self) -> tuple[tuple[SeenStrip, ...], ...]:
        """The history that an agent may know, per row, oldest first."""
        if not self.delayed:
            return self.recorded
        return tuple(row if len(row) == 1 else row[:-1] for row in self.recorded)

    def __getitem__(self, rows: np.ndarray | Sequence[int]) -> Episode:
        """The chosen rows, in that order."""
        index = np.asarray(rows, dtype=int)
        chosen: dict[str, Any] = {"state": self.state[index]}
        chosen |= {name: {key: x[index] for key, x in getattr(self, name).items()} for name in READINGS}
        chosen |= {name: getattr(self, name)[index] for name in ("first", "allowed", "steps")}
        chosen |= {name: tuple(getattr(self, name)[i] for i in index) for name in ("missing", "recorded")}
        return replace(self, **chosen)


READINGS = ("start", "now", "last", "judged")


def join(parts: Sequence[Episode]) -> Episode:
    """One batch out of several of the same task."""
    if len(parts) == 1:
        return parts[0]
    head = parts[0]
    joined: dict[str, Any] = {"state": concatenate([p.state for p in parts])}
    for f in fields(Episode):
        column = [getattr(p, f.name) for p in parts]
        if f.name in READINGS:
            joined[f.name] = {key: np.concatenate([x[key] for x in column]) for key in column[0]}
        elif isinstance(column[0], np.ndarray):
            joined[f.name] = np.concatenate(column)
        elif isinstance(column[0], tuple):
            joined[f.name] = tuple(row for rows in column for row in rows)
    return replace(head, **joined)


@dataclass(frozen=True)
class Outcome:
    """What a step brought each row."""

    reward: np.ndarray  # (B,) float
    terms: Mapping[str, np.ndarray]  # (B,) float each; they sum to the reward
    terminated: np.ndarray  # (B,) bool: a lethal rhythm, a strip that is not finite, or a refused action that ends it
    refused: np.ndarray  # (B,) bool: the treatment was not allowed
    given: tuple[Treatment, ...]  # (B,) what was really given

    def row(self, i: int) -> Outcome:
        """One row, still a batch."""
        terms = {name: values[[i]] for name, values in self.terms.items()}
        return Outcome(self.reward[[i]], terms, self.terminated[[i]], self.refused[[i]], (self.given[i],))


@dataclass(frozen=True)
class Transition:
    """A step of B episodes, for those who judge it: what an env knows of it and a planner that imagines it too."""

    steps: np.ndarray  # (B,) int: steps of the episode before this one
    before: State
    after: State
    given: tuple[Treatment, ...]  # (B,) what was really given
    refused: np.ndarray  # (B,) bool: something else was asked for, and not allowed
    lost: np.ndarray  # (B,) bool: the step ended in a lethal rhythm (or a strip that is not finite)
    risk: np.ndarray  # (B,) in [0, 1] of the true strip, with its spread if the env judges several futures
    intervals: Mapping[str, np.ndarray]  # name -> (B,) measured afterwards [ms, 1/min]; NaN where not measurable
    horizon: int  # steps an episode may last
    most_doses: int  # doses of the largest treatment on the menu

    @property
    def doses(self) -> np.ndarray:
        """How many doses were given, ``(B,)`` int."""
        return np.array([len(treatment.doses) for treatment in self.given])


Reward = Callable[[Transition], Any]
