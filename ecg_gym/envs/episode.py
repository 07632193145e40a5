"""``begin`` and ``advance``: what happens in a batch of episodes, as plain functions over frozen data.

The single env is a batch of one over these; the vector env is the same with more rows. A row's course depends on its
own generator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecg_gym.columns import Choice
from ecg_gym.core import LEADS, MODEL_RATE_HZ, State, Treatment, concatenate
from ecg_gym.envs.observability import SeenStrip, Tier, seen
from ecg_gym.streams import NOISE, Streams
from ecg_gym.svg import strip_svg

LIKELY = 0.5  # a finding at least this probable is put before the clinical rules
INVALID = ("noop", "terminate", "raise")
FIDELITIES = ("strip", "vitals")
Reading = Mapping[str, np.ndarray]  # name -> (B,): intervals [ms, bpm, mV], finding_*, risk, risk_*, cost


class Readings(Mapping[str, np.ndarray]):
    """A ``Reading`` as one table: a row per name, a column per strip."""

    def __init__(self, place: Mapping[str, int], table: np.ndarray) -> None:
        self.place = place
        self.table = table  # (len(place), B)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.table[self.place[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.place)

    def __len__(self) -> int:
        return len(self.place)


def some_of(reading: Reading, rows: np.ndarray) -> Reading:
    """The chosen strips of a reading."""
    if isinstance(reading, Readings):
        return Readings(reading.place, reading.table[:, rows])
    return {name: values[rows] for name, values in reading.items()}


def together(readings: Sequence[Reading]) -> Reading:
    """One reading out of several."""
    first = readings[0]
    if isinstance(first, Readings) and all(isinstance(r, Readings) for r in readings):
        return Readings(first.place, np.concatenate([r.table for r in readings], axis=1))  # type: ignore[attr-defined]
    return {name: np.concatenate([r[name] for r in readings]) for name in first}


@dataclass(frozen=True)
class Moment:
    """A strip of each of B episodes as it was or will be seen; drawn when somebody looks."""

    state: State
    streams: Streams
    missing: tuple[tuple[str, ...], ...]  # (B,) leads that are off
    before: Sequence[Treatment] | None  # (B,) what was given on the way here
    risk: np.ndarray  # (B,)


@dataclass(frozen=True)
class History:
    """Every strip of B episodes: row b of the batch is row ``place[t, b]`` of moment t, -1 where it was not there."""

    tier: Tier
    moments: tuple[Moment, ...]
    place: np.ndarray  # (T, B) int

    @classmethod
    def start(cls, tier: Tier, moment: Moment) -> History:
        """The history that begins with a moment."""
        return cls(tier, (moment,), np.arange(len(moment.state))[None])

    def later(self, moment: Moment) -> History:
        """With one more moment of every row."""
        return replace(self, moments=(*self.moments, moment),
                       place=np.concatenate([self.place, np.arange(len(moment.state))[None]]))  # fmt: skip

    def take(self, rows: np.ndarray) -> History:
        """The history of some rows; moments that none of them was in are let go."""
        return _pruned(replace(self, place=self.place[:, rows]))

    def of(self, row: int) -> tuple[SeenStrip, ...]:
        """Every strip of a row, oldest first."""
        there = self._there(row)
        given = [m.before[i] if m.before is not None else None for m, i in there[1:]] + [None]
        return tuple(self._seen(moment, i, treatment) for (moment, i), treatment in zip(there, given))

    def first(self, row: int) -> SeenStrip:
        """The oldest strip of a row."""
        return self._seen(*self._there(row)[0], None)

    def newest(self, row: int, delayed: bool = False) -> SeenStrip:
        """The newest strip of a row that may be seen."""
        there = self._there(row)
        return self._seen(*there[-2 if delayed and len(there) > 1 else -1], None)

    def _there(self, row: int) -> list[tuple[Moment, int]]:
        return [(m, int(i)) for m, i in zip(self.moments, self.place[:, row]) if i >= 0]

    def _seen(self, moment: Moment, row: int, treatment: Treatment | None) -> SeenStrip:
        one, off = moment.state[row], moment.missing[row]
        ecg = seen(self.tier, one.ecg, [off], moment.streams.take(np.array([row])).at(NOISE))[0]
        return SeenStrip(float(one.hours[0]), ecg, off, treatment, float(moment.risk[row]))


def _pruned(history: History) -> History:
    kept = np.flatnonzero((history.place >= 0).any(axis=1))
    if len(kept) == len(history.moments):
        return history
    return replace(history, moments=tuple(history.moments[t] for t in kept), place=history.place[kept])


def _joined(histories: Sequence[History]) -> History:
    sizes = [h.place.shape[1] for h in histories]
    place = np.full((sum(len(h.moments) for h in histories), sum(sizes)), -1)
    row = column = 0
    for history, size in zip(histories, sizes):
        place[row : row + len(history.moments), column : column + size] = history.place
        row, column = row + len(history.moments), column + size
    return _pruned(History(histories[0].tier, tuple(m for h in histories for m in h.moments), place))


@dataclass(frozen=True)
class Episode:
    """A batch of episodes between two actions."""

    state: State
    origin: State  # the state that the episode began with: risk is judged against its strip
    home: Reading  # read off that strip
    start: Reading  # what was read off it, as it was seen
    now: Reading  # what can be read off the newest strip that was seen
    last: Reading  # read off the newest strip as it will be seen: `now`, unless strips are seen late
    judged: Reading  # read off the true strip: what the reward and the cost are made of
    allowed: np.ndarray  # (B, n) bool over the menu
    steps: np.ndarray  # (B,) int steps so far
    horizon: np.ndarray  # (B,) int steps that each may last
    missing: tuple[tuple[str, ...], ...]  # (B,) leads that are off
    history: History
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
    def first(self) -> np.ndarray:
        """The strips that risk is judged against, ``(B, 12, 1024)`` [mV]."""
        return self.origin.ecg

    @property
    def recorded(self) -> tuple[tuple[SeenStrip, ...], ...]:
        """Every strip as it was or will be seen, per row, oldest first."""
        return tuple(self.history.of(row) for row in range(len(self)))

    @property
    def sights(self) -> tuple[tuple[SeenStrip, ...], ...]:
        """The history that an agent may know, per row, oldest first."""
        if not self.delayed:
            return self.recorded
        return tuple(row if len(row) == 1 else row[:-1] for row in self.recorded)

    def __getitem__(self, rows: np.ndarray | Sequence[int]) -> Episode:
        """The chosen rows, in that order."""
        index = np.asarray(rows, dtype=int)
        chosen: dict[str, Any] = {"state": self.state[index], "origin": self.origin[index]}
        chosen |= {name: some_of(getattr(self, name), index) for name in READINGS}
        chosen |= {name: getattr(self, name)[index] for name in ("allowed", "steps", "horizon")}
        chosen |= {"missing": tuple(self.missing[i] for i in index), "history": self.history.take(index)}
        return replace(self, **chosen)


READINGS = ("home", "start", "now", "last", "judged")


def join(parts: Sequence[Episode]) -> Episode:
    """One batch out of several of the same task."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {n: concatenate([getattr(p, n) for p in parts]) for n in ("state", "origin")}
    joined |= {name: together([getattr(p, name) for p in parts]) for name in READINGS}
    joined |= {n: np.concatenate([getattr(p, n) for p in parts]) for n in ("allowed", "steps", "horizon")}
    joined["missing"] = tuple(row for p in parts for row in p.missing)
    joined["history"] = _joined([p.history for p in parts])
    return replace(parts[0], **joined)


@dataclass(frozen=True)
class Outcome:
    """What a step brought each row."""

    reward: np.ndarray  # (B,) float
    terms: Mapping[str, np.ndarray]  # (B,) float each; they sum to the reward
    terminated: np.ndarray  # (B,) bool: a lethal rhythm, a strip that is not finite, or a refused action that ends it
    refused: np.ndarray  # (B,) bool: the treatment was not allowed
    given: Sequence[Treatment]  # (B,) what was really given

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
    given: Sequence[Treatment]  # (B,) what was really given
    refused: np.ndarray  # (B,) bool: something else was asked for, and not allowed
    lost: np.ndarray  # (B,) bool: the step ended in a lethal rhythm (or a strip that is not finite)
    risk: np.ndarray  # (B,) in [0, 1] of the true strip, with its spread if the env judges several futures
    intervals: Mapping[str, np.ndarray]  # name -> (B,) measured afterwards [ms, 1/min]; NaN where not measurable
    horizon: int | np.ndarray  # steps an episode may last
    most_doses: int  # doses of the largest treatment on the menu

    @property
    def doses(self) -> np.ndarray:
        """How many doses were given, ``(B,)`` int."""
        if isinstance(self.given, Choice):
            return np.array([len(treatment.doses) for treatment in self.given.menu])[self.given.entry]
        return np.array([len(treatment.doses) for treatment in self.given])


Reward = Callable[[Transition], Any]
