"""``Patients`` and ``Doses``: what is known of B people and what they were given, as arrays that read like tuples.

A :class:`ecg_gym.core.State` keeps these. ``patients[3]`` makes a ``Patient`` of a row, ``doses[3]`` the tuple of its
``Administration``s; nothing is made until somebody asks. Words and doses are rows of catalogues that grow by what is
met, so that a row is a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

from ecg_gym.patient import Administration, Dose, Patient

NUMBERS = ("age_years", "weight_kg", "height_cm", "potassium", "magnesium", "calcium", "creatinine_clearance")
FEMALE = len(NUMBERS)  # the column behind the numbers: 1 a woman, 0 a man, NaN unknown
SEXES = {"F": 1.0, "M": 0.0, None: np.nan}
MOST_KEPT = 256  # answers of a cache by identity
NONE = -1  # the code where there is no dose

T = TypeVar("T")


class Catalogue(Generic[T]):
    """Different things in the order they were met, each with its number; of this process only."""

    def __init__(self) -> None:
        self.rows: list[T] = []
        self._place: dict[T, int] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def code(self, thing: T) -> int:
        """The thing's number."""
        place = self._place.get(thing)
        if place is None:
            with self._lock:
                place = self._place.setdefault(thing, len(self.rows))
                if place == len(self.rows):
                    self.rows.append(thing)
        return place


Words = tuple[frozenset[str], frozenset[str]]  # conditions and medication
WORDS: Catalogue[Words] = Catalogue()
DOSES: Catalogue[Dose] = Catalogue()
WORDS.code((frozenset(), frozenset()))


class Rows(Sequence[Any]):
    """B rows of arrays that compare as the tuple of what they stand for."""

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class Patients(Rows):
    """B people: ``numbers (B, 8)``, NaN where unknown, and ``group (B,)``, whose words they have."""

    def __init__(self, numbers: np.ndarray, group: np.ndarray) -> None:
        self.numbers = numbers
        self.group = group

    @classmethod
    def of(cls, people: Iterable[Patient]) -> Patients:
        """The columns of some patients; columns are handed through."""
        if isinstance(people, Patients):
            return people
        rows, group = [], []
        for p in people:
            rows.append([np.nan if (v := getattr(p, name)) is None else v for name in NUMBERS] + [SEXES[p.sex]])
            group.append(WORDS.code((p.conditions, p.medication)))
        return cls(np.array(rows, float).reshape(-1, len(NUMBERS) + 1), np.array(group, np.int32))

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int | np.integer):
            return self.take(index)
        row = self.numbers[index]
        numbers = {name: None if np.isnan(value) else float(value) for name, value in zip(NUMBERS, row)}
        sex = None if np.isnan(row[FEMALE]) else "F" if row[FEMALE] else "M"
        conditions, medication = WORDS.rows[self.group[index]]
        return Patient(sex=sex, conditions=conditions, medication=medication, **numbers)

    def take(self, rows: Any) -> Patients:
        """Some of the rows."""
        return Patients(self.numbers[rows], self.group[rows])

    def placed(self, parts: Sequence[tuple[np.ndarray, Patients]]) -> Patients:
        """The same with the people of each part at its rows."""
        numbers, group = self.numbers.copy(), self.group.copy()
        for rows, part in parts:
            numbers[rows], group[rows] = part.numbers, part.group
        return Patients(numbers, group)

    @classmethod
    def join(cls, parts: Sequence[Patients]) -> Patients:
        """All rows of several."""
        return cls(np.concatenate([p.numbers for p in parts]), np.concatenate([p.group for p in parts]))

    def __reduce__(self) -> tuple[Any, ...]:
        groups, group = np.unique(self.group, return_inverse=True)
        return _patients, (self.numbers, group.astype(np.int32), [WORDS.rows[i] for i in groups])


class Doses(Rows):
    """What B people were given: ``hours (B, Q)`` and ``code (B, Q)``, a row's doses first, then ``NONE``."""

    def __init__(self, hours: np.ndarray, code: np.ndarray) -> None:
        self.hours = hours
        self.code = code

    @classmethod
    def of(cls, histories: Sequence[Sequence[Administration]]) -> Doses:
        """The columns of each person's administrations; columns are handed through."""
        if isinstance(histories, Doses):
            return histories
        doses = cls.none(len(histories), max(map(len, histories), default=0))
        for row, own in enumerate(histories):
            for place, each in enumerate(own):
                doses.hours[row, place], doses.code[row, place] = each.hours, DOSES.code(each.dose)
        return doses

    @classmethod
    def none(cls, n: int, room: int = 0) -> Doses:
        """Nothing given to ``n`` people, with room for so many doses."""
        return cls(np.zeros((n, room)), np.full((n, room), NONE, np.int32))

    @property
    def counts(self) -> np.ndarray:
        """How many doses each was given ``(B,)``."""
        return (self.code != NONE).sum(axis=1)

    def __len__(self) -> int:
        return len(self.code)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int | np.integer):
            return self.take(index)
        own = zip(self.hours[index].tolist(), self.code[index].tolist())
        return tuple(Administration(hours, DOSES.rows[code]) for hours, code in own if code != NONE)

    def take(self, rows: Any) -> Doses:
        """Some of the rows."""
        return Doses(self.hours[rows], self.code[rows])

    def after(self, hours: np.ndarray, code: np.ndarray) -> Doses:
        """With doses ``code (B, k)`` (or ``NONE``) added at ``hours (B,)``."""
        rows, column = np.nonzero(code != NONE)
        if not len(rows):
            return self
        counts = self.counts
        place = counts[rows] + np.arange(len(rows)) - np.searchsorted(rows, rows)
        room = max(int(place.max()) + 1, self.code.shape[1])
        more = self.widened(room)
        if more is self:
            more = Doses(self.hours.copy(), self.code.copy())
        more.hours[rows, place], more.code[rows, place] = hours[rows], code[rows, column]
        return more

    def widened(self, room: int) -> Doses:
        """The same with columns for at least so many doses."""
        lacking = room - self.code.shape[1]
        if lacking <= 0:
            return self
        wide = Doses.none(len(self), room)
        wide.hours[:, :-lacking], wide.code[:, :-lacking] = self.hours, self.code
        return wide

    def placed(self, parts: Sequence[tuple[np.ndarray, Doses]]) -> Doses:
        """The same with the doses of each part at its rows; columns that nobody needs any more are dropped."""
        rest = np.ones(len(self), bool)
        for rows, _ in parts:
            rest[rows] = False
        room = max([int(self.counts[rest].max(initial=0)), *(int(part.counts.max(initial=0)) for _, part in parts)])
        own = Doses(self.hours[:, :room], self.code[:, :room]).widened(room)
        out = Doses(own.hours.copy(), own.code.copy())
        for rows, part in parts:
            narrow = Doses(part.hours[:, :room], part.code[:, :room]).widened(room)
            out.hours[rows], out.code[rows] = narrow.hours, narrow.code
        return out

    @classmethod
    def join(cls, parts: Sequence[Doses]) -> Doses:
        """All rows of several."""
        room = max(p.code.shape[1] for p in parts)
        wide = [p.widened(room) for p in parts]
        return cls(np.concatenate([p.hours for p in wide]), np.concatenate([p.code for p in wide]))

    def __reduce__(self) -> tuple[Any, ...]:
        codes, code = np.unique(self.code, return_inverse=True)
        return _doses, (self.hours, code.reshape(self.code.shape), [None if i < 0 else DOSES.rows[i] for i in codes])


def once_per_object(function: Callable[..., T]) -> Callable[..., T]:
    """A cache by the identity of the first argument: long tuples that live long take longer to hash than to use."""
    cache: dict[tuple[Any, ...], tuple[Any, T]] = {}

    @wraps(function)
    def cached(first: Any, *more: Any) -> T:
        key = (id(first), *more)
        if key not in cache or cache[key][0] is not first:
            if len(cache) > MOST_KEPT:
                cache.clear()
            cache[key] = first, function(first, *more)
        return cache[key][1]

    return cached


class Choice(Rows):
    """One treatment of a menu for each of B people: ``menu[entry[b]]``."""

    def __init__(self, menu: Sequence[Any], entry: np.ndarray) -> None:
        self.menu = menu
        self.entry = entry

    def __len__(self) -> int:
        return len(self.entry)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return self.menu[self.entry[index]]
        return Choice(self.menu, self.entry[index])

    def repeat(self, k: int) -> Choice:
        """Each row ``k`` times."""
        return Choice(self.menu, np.repeat(self.entry, k))


def different(treatments: Sequence[Any]) -> list[Any]:
    """Each treatment that some row gets, once."""
    if isinstance(treatments, Choice):
        return [treatments.menu[entry] for entry in np.unique(treatments.entry)]
    return list(dict.fromkeys(treatments))


def dose_codes(treatments: Sequence[Any]) -> np.ndarray:
    """The doses of one treatment per row, ``(B, k)`` numbers in the catalogue, ``NONE`` where there is none."""
    if isinstance(treatments, Choice):
        return _menu_codes(treatments.menu)[treatments.entry]
    codes = np.full((len(treatments), max((len(t.doses) for t in treatments), default=0)), NONE, np.int32)
    for row, treatment in enumerate(treatments):
        for place, dose in enumerate(treatment.doses):
            codes[row, place] = DOSES.code(dose)
    return codes


@once_per_object
def _menu_codes(menu: Sequence[Any]) -> np.ndarray:
    return dose_codes(list(menu))


def _patients(numbers: np.ndarray, group: np.ndarray, words: Sequence[Words]) -> Patients:
    return Patients(numbers, np.array([WORDS.code(word) for word in words], np.int32)[group])


def _doses(hours: np.ndarray, code: np.ndarray, doses: Sequence[Dose | None]) -> Doses:
    table = np.array([NONE if dose is None else DOSES.code(dose) for dose in doses], np.int32)
    return Doses(hours, table[code] if len(table) else code.astype(np.int32))
