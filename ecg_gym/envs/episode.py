"""``begin`` and ``advance``: what happens in a batch of episodes, as plain functions over frozen data.

The single env is a batch of one over these; the vector env is the same with more rows. A row's course depends on its
own generator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecg_gym.columns import NUMBERS, Choice, Patients, once_per_object
from ecg_gym.core import LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, State, Treatment
from ecg_gym.envs.observability import SeenStrip, Tier, as_seen
from ecg_gym.streams import NOISE, Streams
from ecg_gym.svg import strip_svg

INVALID = ("noop", "terminate", "raise")
FIDELITIES = ("strip", "vitals")
BLOOD = [NUMBERS.index(name) for name in ("potassium", "magnesium", "calcium")]


class Readings(Mapping[str, np.ndarray]):
    """Everything that was read off B strips, by name: intervals [ms, bpm, mV], finding_*, risk_*, risk, cost, finite.

    It is one table, with a row per name and a column per strip.
    """

    def __init__(self, place: Mapping[str, int], table: np.ndarray) -> None:
        self.place = place
        self.table = table  # (len(place), B)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.table[self.place[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.place)

    def __len__(self) -> int:
        return len(self.place)

    def rows(self, names: tuple[str, ...]) -> np.ndarray:
        """Some of the readings ``(len(names), B)``."""
        return self.table[[self.place[name] for name in names]]

    def take(self, rows: np.ndarray) -> Readings:
        """The chosen strips."""
        return Readings(self.place, self.table[:, rows])

    def halves(self) -> tuple[Readings, Readings]:
        """The first half of the strips, and the others."""
        n = self.table.shape[1] // 2
        return Readings(self.place, self.table[:, :n]), Readings(self.place, self.table[:, n:])

    def placed(self, parts: Sequence[tuple[np.ndarray, Readings]]) -> Readings:
        """The same with the columns of each part at its rows."""
        table = self.table.copy()
        for rows, part in parts:
            table[:, rows] = part.table
        return Readings(self.place, table)


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
        place = np.empty((len(self.place) + 1, self.place.shape[1]), self.place.dtype)
        place[:-1], place[-1] = self.place, np.arange(len(moment.state))
        return History(self.tier, (*self.moments, moment), place)

    def take(self, rows: np.ndarray) -> History:
        """The history of some rows; moments that none of them was in are let go."""
        return _pruned(replace(self, place=self.place[:, rows]))

    def placed(self, parts: Sequence[tuple[np.ndarray, History]]) -> History:
        """The same with the moments of each part at its rows."""
        moments = list(self.moments)
        number = {id(moment): t for t, moment in enumerate(moments)}
        for _, part in parts:
            for moment in part.moments:
                if number.setdefault(id(moment), len(moments)) == len(moments):
                    moments.append(moment)
        place = np.full((len(moments), self.place.shape[1]), -1)
        place[: len(self.place)] = self.place
        for rows, part in parts:
            place[:, rows] = -1
            for moment, own in zip(part.moments, part.place):
                place[number[id(moment)], rows] = own
        return _pruned(History(self.tier, tuple(moments), place))

    def of(self, row: int) -> tuple[SeenStrip, ...]:
        """Every strip of a row, oldest first."""
        there = self._there(row)
        treatments = [m.before[i] if m.before is not None else None for m, i in there[1:]] + [None]
        return tuple(self._strip_of(moment, i, treatment) for (moment, i), treatment in zip(there, treatments))

    def first_strips(self, rows: np.ndarray, origin: State) -> np.ndarray:
        """The oldest strips of rows as they were seen ``(len(rows), 12, 1024)`` [mV]; ``origin`` has the true ones."""
        return self._strips([self._there(row)[0] for row in rows], origin.ecg[rows])

    def newest_strips(self, now: State, delayed: bool = False) -> np.ndarray:
        """The newest strip of each row that may be seen ``(B, 12, 1024)`` [mV]; ``now`` has those that are not late."""
        there = [self._there(row) for row in range(self.place.shape[1])]
        if delayed:
            return self._strips([each[-2 if len(each) > 1 else -1] for each in there])
        return self._strips([each[-1] for each in there], now.ecg)

    def _strips(self, places: Sequence[tuple[Moment, int]], true: np.ndarray | None = None) -> np.ndarray:
        """Strips of moments as they were seen, of the ``true`` ones, or drawn, those of a moment
        together.
        """
        groups: dict[int, list[int]] = {}
        for row, (moment, _) in enumerate(places):
            groups.setdefault(id(moment), []).append(row)
        strips = np.empty((len(places), len(LEADS), MODEL_SAMPLES), np.float32)
        for rows in groups.values():
            moment, its = places[rows[0]][0], np.array([places[row][1] for row in rows])
            ecg = moment.state[its].ecg if true is None else true[rows]
            off = [moment.missing[i] for i in its]
            strips[rows] = as_seen(self.tier, ecg, off, moment.streams.take(its).at(NOISE))
        return strips

    def _there(self, row: int) -> list[tuple[Moment, int]]:
        return [(m, int(i)) for m, i in zip(self.moments, self.place[:, row]) if i >= 0]

    def _strip_of(self, moment: Moment, row: int, treatment: Treatment | None) -> SeenStrip:
        one, off = moment.state[row], moment.missing[row]
        ecg = as_seen(self.tier, one.ecg, [off], moment.streams.take(np.array([row])).at(NOISE))[0]
        return SeenStrip(float(one.hours[0]), ecg, off, treatment, float(moment.risk[row]))


def _pruned(history: History) -> History:
    there: Any = (history.place >= 0).any(axis=1)
    if there.all():
        return history
    return History(history.tier, tuple(m for m, keep in zip(history.moments, there) if keep), history.place[there])


@dataclass(frozen=True)
class Episode:
    """A batch of episodes between two actions."""

    state: State
    origin: State  # the state that the episode began with: risk is judged against its strip
    baseline: Readings  # read off that strip
    start: Readings  # what was read off it, as it was seen
    now: Readings  # what can be read off the newest strip that was seen
    last: Readings  # read off the newest strip as it will be seen: `now`, unless strips are seen late
    truth: Readings  # read off the true strip: what the reward and the cost are made of
    allowed: np.ndarray  # (B, n) bool over the menu
    steps: np.ndarray  # (B,) int steps so far
    horizon: np.ndarray  # (B,) int steps that each may last
    missing: tuple[tuple[str, ...], ...]  # (B,) leads that are off
    history: History
    scenario: np.ndarray  # (B,) int: which row of the table of scenarios each is of
    treated: np.ndarray  # (B,) bool: something was given since it began
    twin: State  # the same hearts, to whom nothing was given
    pending: np.ndarray  # (B, K) rewards and costs that are still to come, by the names of ``consequences``
    blood: np.ndarray  # (B, 3) latest potassium, magnesium and calcium [mmol/L]; NaN where unknown
    blood_hours: np.ndarray  # (B,) [h] when that blood was taken
    delayed: bool = False  # strips are seen one step late

    def _repr_html_(self) -> str:
        """The newest strip that was seen of the first row, and what was given, for notebooks."""
        sights = self.sights[0]
        treatments = [f"{look.hours:g} h: {look.treatment}" for look in sights if look.treatment is not None]
        words = f"episode of {len(self)}, {sights[-1].hours:g} h" + (f"; {'; '.join(treatments)}" if treatments else "")
        return strip_svg(sights[-1].ecg, MODEL_RATE_HZ, LEADS, words)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def first(self) -> np.ndarray:
        """The strips that risk is judged against, ``(B, 12, 1024)`` [mV]."""
        return self.origin.ecg

    @property
    def patients(self) -> Patients:
        """The people with their latest laboratory values: what is known of them, for rules and agents."""
        return self.patients_of(self.state)

    def patients_of(self, state: State) -> Patients:
        """The same of another state of these people; worked out once for each batch of people and bloods."""
        people = Patients.of(state.patients)
        blood, patients = people.__dict__.get("_by_blood", (None, None))
        if blood is not self.blood:
            numbers = people.numbers.copy()
            numbers[:, BLOOD] = np.where(np.isnan(self.blood), numbers[:, BLOOD], self.blood)
            patients = Patients(numbers, people.group)
            people.__dict__["_by_blood"] = self.blood, patients
        return patients

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
        return self._each(lambda name, own: (
            tuple(own[i] for i in index) if name == "missing"
            else own.take(index) if name in (*READINGS, "history") else own[index]
        ), ())  # fmt: skip

    def placed(self, parts: Sequence[tuple[np.ndarray, Episode]]) -> Episode:
        """The same with the rows of each part, an episode of the same task, at its places ``rows``."""
        places = [rows for rows, _ in parts]
        return self._each(lambda name, own, *others: _placed(name, own, list(zip(places, others))),
                          [part for _, part in parts])  # fmt: skip

    def _each(self, made_of: Callable[..., Any], parts: Sequence[Episode]) -> Episode:
        """An episode of other rows, field by field; fields that are one object, here and in all parts, stay one."""
        results: dict[tuple[int, ...], Any] = {}
        values = {}
        for name in FIELDS:
            whole = [getattr(episode, name) for episode in (self, *parts)]
            key = tuple(map(id, whole))
            if key not in results:
                results[key] = made_of(name, *whole)
            values[name] = results[key]
        return replace(self, **values)


STATES = ("state", "origin", "twin")
READINGS = ("baseline", "start", "now", "last", "truth")
ARRAYS = ("allowed", "steps", "horizon", "scenario", "treated", "pending", "blood", "blood_hours")
FIELDS = (*STATES, *READINGS, *ARRAYS, "missing", "history")


def _placed(name: str, own: Any, parts: Sequence[tuple[np.ndarray, Any]]) -> Any:
    """A field of an episode with those of some parts at their rows."""
    if name in (*STATES, *READINGS, "history"):
        return own.placed(parts)
    filled = list(own) if name == "missing" else own.copy()
    for rows, part in parts:
        if name == "missing":
            for row, leads in zip(rows, part):
                filled[row] = leads
        else:
            filled[rows] = part
    return tuple(filled) if name == "missing" else filled


@dataclass(frozen=True)
class Outcome:
    """What a step brought each row."""

    reward: np.ndarray  # (B,) float
    terms: Mapping[str, np.ndarray]  # (B,) float each; they sum to the reward
    costs: Mapping[str, np.ndarray]  # (B,) float each: ``cost``, its hazards, and ``lethal``; empty where none is kept
    lost: np.ndarray  # (B,) bool: a lethal rhythm, a strip that is not finite, or a refused action that ends it
    terminated: np.ndarray  # (B,) bool: lost, or out of time where the clock is seen
    truncated: np.ndarray  # (B,) bool: out of time where the clock is hidden
    refused: np.ndarray  # (B,) bool: the treatment was not allowed
    treatments: Sequence[Treatment]  # (B,) what was really given

    def row(self, i: int) -> Outcome:
        """One row, still a batch."""
        return self.take(np.array([i]))

    def take(self, rows: np.ndarray) -> Outcome:
        """Some of the rows."""
        some = self.treatments[rows] if isinstance(self.treatments, Choice) else [self.treatments[i] for i in rows]
        return self._each(lambda values: values[rows], some)

    def among(self, rows: np.ndarray, n: int, keep: np.ndarray) -> Outcome:
        """The outcome, which is of ``rows``, for all of ``n`` rows; nothing came of those that ``keep`` leaves out."""
        if len(keep) == len(rows) == n:
            return self
        place = np.zeros(n, int)
        place[rows] = np.arange(len(rows))
        origin = place[keep]

        def wide(values: np.ndarray) -> np.ndarray:
            out = np.zeros(n, values.dtype)
            out[keep] = values[origin]
            return out

        assert isinstance(self.treatments, Choice)
        return self._each(wide, Choice(self.treatments.menu, wide(self.treatments.entry)))

    def _each(self, made_of: Callable[[np.ndarray], np.ndarray], treatments: Sequence[Treatment]) -> Outcome:
        """The outcome of other rows, array by array."""
        terms, costs = ({name: made_of(v) for name, v in table.items()} for table in (self.terms, self.costs))
        arrays = {n: made_of(getattr(self, n)) for n in ("reward", "lost", "terminated", "truncated", "refused")}
        return Outcome(terms=terms, costs=costs, treatments=treatments, **arrays)


@dataclass(frozen=True)
class Transition:
    """A step of B episodes, for those who judge it: what an env knows of it and a planner that imagines it too."""

    steps: np.ndarray  # (B,) int: steps of the episode before this one
    before: State
    after: State
    treatments: Sequence[Treatment]  # (B,) what was really given
    refused: np.ndarray  # (B,) bool: something else was asked for, and not allowed
    lost: np.ndarray  # (B,) bool: the step ended in a lethal rhythm (or a strip that is not finite)
    risk: np.ndarray  # (B,) in [0, 1] of the true strip, with its spread if the env judges several futures
    intervals: Mapping[str, np.ndarray]  # name -> (B,) measured afterwards [ms, 1/min]; NaN where not measurable
    horizon: int | np.ndarray  # steps an episode may last
    most_doses: int  # doses of the largest treatment on the menu

    @property
    def doses(self) -> np.ndarray:
        """How many doses were given, ``(B,)`` int."""
        if isinstance(self.treatments, Choice):
            return doses_of(self.treatments.menu)[self.treatments.entry]
        return np.array([len(treatment.doses) for treatment in self.treatments])


@once_per_object
def doses_of(menu: Sequence[Treatment]) -> np.ndarray:
    """How many doses each treatment of a menu has ``(n,)`` int."""
    return np.array([len(treatment.doses) for treatment in menu])


@once_per_object
def most_doses(menu: Sequence[Treatment]) -> int:
    """How many doses the largest treatment of a menu has."""
    return int(doses_of(menu).max())


Reward = Callable[[Transition], Any]
