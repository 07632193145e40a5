"""The nouns everything meets at: ECG, Patient, Dose, Treatment, State, and the one hinge, World.

A :class:`World` says what a heart looks like after a treatment. Planners, environments and studies know
nothing else about it. Everything is batched; one patient is a batch of one. Randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ecg_gym.columns import Doses, Patients
from ecg_gym.patient import (  # noqa: F401 - the nouns are met here
    WATCH,
    Administration,
    Dose,
    Patient,
    Treatment,
    is_number,
    parse_dose,
)
from ecg_gym.streams import Streams
from ecg_gym.svg import strip_svg

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")  # the other four follow (Einthoven, Goldberger)
# The limb leads out of I and II, in the order of LEADS (Einthoven 1908, Goldberger 1942): the only place they stand.
LIMB = ((1.0, 0.0), (0.0, 1.0), (-1.0, 1.0), (-0.5, -0.5), (1.0, -0.5), (-0.5, 1.0))
MODEL_RATE_HZ = 102.4  # the model grid: 10 s in 1024 samples
MODEL_SAMPLES = 1024
R_PEAK_OFFSET_S = 0.4  # strips on the model grid begin this long before an R peak

_INDEPENDENT = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]


def limb_from_independent(independent: np.ndarray) -> np.ndarray:
    """All 12 leads ``(..., 12, T)`` [mV] from the 8 independent ones ``(..., 8, T)`` [mV].

    III = II - I, aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2 (Einthoven 1908, Goldberger 1942), as in ``LIMB``.
    """
    one, two = independent[..., 0, :], independent[..., 1, :]
    limb = np.stack([a * one + b * two for a, b in LIMB], axis=-2)
    return np.concatenate([limb, independent[..., 2:, :]], axis=-2)


def independent_from_leads(signal: np.ndarray) -> np.ndarray:
    """The 8 independent leads ``(..., 8, T)`` [mV] of a 12-lead signal ``(..., 12, T)`` [mV]."""
    return signal[..., _INDEPENDENT, :]


def as_twelve_leads(ecg: np.ndarray) -> np.ndarray:
    """Strips ``(B, 12, 1024)`` out of ones with 12 leads or the 8 independent ones; raises ValueError for others."""
    if ecg.ndim != 3 or ecg.shape[1] not in (len(LEADS), len(INDEPENDENT_LEADS)) or ecg.shape[2] != MODEL_SAMPLES:
        raise ValueError(
            f"ecg has shape {ecg.shape}; expected (B, 12, {MODEL_SAMPLES}) or (B, 8, {MODEL_SAMPLES}) mV at "
            f"{MODEL_RATE_HZ} Hz; use ecg_gym.waveform.to_model_grid"
        )
    return np.asarray(ecg if ecg.shape[1] == len(LEADS) else limb_from_independent(ecg), dtype=np.float32)


@dataclass(frozen=True)
class ECG:
    """A 12-lead strip (or a batch of them) with its sampling rate attached; leads always in the order of ``LEADS``."""

    signal: np.ndarray  # (12, T) or (B, 12, T) [mV] float32
    rate_hz: float  # [Hz]
    missing: tuple[str, ...] = ()  # leads that were not recorded; their rows are zero

    def __post_init__(self) -> None:
        signal = _millivolts(self.signal)
        if signal.ndim not in (2, 3) or signal.shape[-2] != len(LEADS):
            raise ValueError(
                f"signal has shape {signal.shape}; expected (12, T) or (B, 12, T) in mV with leads {LEADS}; "
                "reorder by lead name with ECG.from_leads(...)"
            )
        if not is_number(self.rate_hz) or not self.rate_hz > 0:
            raise ValueError(f"rate_hz is {self.rate_hz}; expected a positive sampling rate in Hz; pass rate_hz=500.0")
        if unknown := [lead for lead in self.missing if lead not in LEADS]:
            raise ValueError(f"missing names {unknown}; expected names out of {LEADS}; check the spelling")
        object.__setattr__(self, "signal", signal)

    @classmethod
    def from_leads(cls, leads: Mapping[str, np.ndarray], rate_hz: float) -> ECG:
        """An ECG from named leads, in whatever order they come; names must be spelled as in ``LEADS``."""
        if set(leads) != set(LEADS):
            raise ValueError(
                f"leads are {tuple(leads)}; expected exactly {LEADS}; rename or drop the others, "
                "or read the file with ecg_gym.datasets.read_record, which knows the spellings in use"
            )
        return cls(np.stack([np.asarray(leads[lead]) for lead in LEADS], axis=-2), rate_hz)

    def _repr_html_(self) -> str:
        """The first strip as a picture, for notebooks."""
        first = self.signal if self.signal.ndim == 2 else self.signal[0]
        shape = "" if self.signal.ndim == 2 else f", first of {len(self.signal)}"
        missing = f", missing {', '.join(self.missing)}" if self.missing else ""
        return strip_svg(first, self.rate_hz, LEADS, f"ECG, {self.seconds:g} s at {self.rate_hz:g} Hz{shape}{missing}")

    @property
    def seconds(self) -> float:
        """Length of the strip in seconds."""
        return self.signal.shape[-1] / self.rate_hz

    def lead(self, name: str) -> np.ndarray:
        """One lead, ``(T,)`` or ``(B, T)`` [mV]."""
        return self.signal[..., LEADS.index(name), :]


def _millivolts(signal: Any) -> np.ndarray:
    """The signal as float32; what is no array of real numbers is refused."""
    array = np.asarray(signal)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"signal holds {array.dtype}; expected real numbers in mV, shape (12, T) or (B, 12, T); convert it with "
            "np.asarray(signal, dtype=float)"
        )
    with np.errstate(over="ignore"):  # what is beyond float32 is not finite, and the risk says so
        return array.astype(np.float32, copy=False)


Draw = Callable[["State"], np.ndarray]  # makes the strips (B, 12, 1024) [mV] of a state out of what it holds


@dataclass(frozen=True)
class State:
    """A batch of hearts as one world knows them. All rows have length ``B``.

    ``inner`` belongs to the world that made the state; nothing above a world reads it, except studies that ask a
    virtual patient for its truth. A world may pass a function instead of strips (``ecg=draw``): it is called with the
    state when somebody looks at ``ecg`` and not before. Patients and doses are kept as columns that read like tuples.
    """

    ecg: np.ndarray  # (B, 12, 1024) float32 [mV] on the model grid, beginning R_PEAK_OFFSET_S before an R peak
    patients: Sequence[Patient]
    doses: Sequence[tuple[Administration, ...]]  # doses so far, per row
    hours: np.ndarray  # (B,) float64 [h] elapsed on each patient's clock
    alive: np.ndarray  # (B,) bool; False after a lethal rhythm, and then for ever
    inner: Mapping[str, np.ndarray] = field(default_factory=dict)  # every array has leading dimension B
    dt_hours: np.ndarray | None = None  # (B,) [h] of each row's next step; None is the world's own

    def __post_init__(self) -> None:
        own = self.__dict__
        own["patients"], own["doses"] = Patients.of(self.patients), Doses.of(self.doses)
        own["_draw"] = None
        if callable(self.ecg):
            own["_draw"] = own.pop("ecg")

    def __getattr__(self, name: str) -> np.ndarray:
        if name != "ecg" or self.__dict__.get("_draw") is None:  # only what is not there is asked for here
            raise AttributeError(f"a State has no {name!r}")
        strips = self.__dict__["ecg"] = self.__dict__["_draw"](self)
        return strips

    @property
    def strips(self) -> np.ndarray | Draw:
        """``ecg`` for another State of the same rows: the strips if they are there, else what will draw them."""
        return self.__dict__["ecg"] if "ecg" in self.__dict__ else self.__dict__["_draw"]

    def undrawn(self) -> State:
        """The same without its strips, if they can be drawn again."""
        has_strip = "ecg" in self.__dict__ and self.__dict__["_draw"] is not None
        return self.replaced(ecg=self.__dict__["_draw"]) if has_strip else self

    def replaced(self, **changes: Any) -> State:
        """``dataclasses.replace`` that draws no strips."""
        names = ("patients", "doses", "hours", "alive", "inner", "dt_hours")
        values: dict[str, Any] = {"ecg": self.strips} | {name: getattr(self, name) for name in names}
        return State(**values | changes)

    def __len__(self) -> int:
        return len(self.hours)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> State:
        """The chosen rows, always still a batch: ``state[3]`` is a batch of one."""
        whole = isinstance(index, np.ndarray) and index.dtype.kind == "i" and index.ndim == 1
        rows: Any = index if whole else np.atleast_1d(np.arange(len(self))[index])
        strips: Any = self.strips
        draw, patients, doses = self.__dict__["_draw"], Patients.of(self.patients), Doses.of(self.doses)
        part = State(
            strips if callable(strips) else strips[rows],
            patients[rows],
            doses[rows],
            self.hours[rows],
            self.alive[rows],
            {name: value[rows] for name, value in self.inner.items()},
            None if self.dt_hours is None else self.dt_hours[rows],
        )
        part.__dict__["_draw"] = draw
        return part

    def repeat(self, k: int) -> State:
        """Each row ``k`` times in a row: a, a, b, b for k = 2."""
        return self[np.repeat(np.arange(len(self)), k)]

    def where(self, mask: np.ndarray, other: State) -> State:
        """Rows of ``self`` where ``mask`` is true, rows of ``other`` elsewhere."""
        rows = np.where(mask, np.arange(len(self)), len(self) + np.arange(len(self)))
        return concatenate([self, other])[rows]

    def placed(self, parts: Sequence[tuple[np.ndarray, State]]) -> State:
        """The same with the rows of each part, from the same world, at its places ``rows``."""
        draw, there = _drawn_by([self, *(part for _, part in parts)])

        def filled(of: Callable[[State], np.ndarray]) -> np.ndarray:
            out = of(self).copy()
            for rows, part in parts:
                out[rows] = of(part)
            return out

        strips: Any = filled(lambda s: s.ecg) if there or draw is None else draw
        whole = State(
            strips,
            Patients.of(self.patients).placed([(rows, Patients.of(part.patients)) for rows, part in parts]),
            Doses.of(self.doses).placed([(rows, Doses.of(part.doses)) for rows, part in parts]),
            filled(lambda s: s.hours),
            filled(lambda s: s.alive),
            {name: filled(lambda s, name=name: s.inner[name]) for name in self.inner},  # type: ignore[misc]
            None if self.dt_hours is None else filled(lambda s: np.asarray(s.dt_hours)),
        )
        whole.__dict__["_draw"] = draw
        return whole


def _drawn_by(states: Sequence[State]) -> tuple[Draw | None, bool]:
    """What draws the strips of all of these states, if one thing does, and whether all are drawn."""
    draws = [s.__dict__["_draw"] for s in states]
    draw = draws[0] if all(d is not None and d == draws[0] for d in draws) else None
    return draw, all("ecg" in s.__dict__ for s in states)


def concatenate(states: Sequence[State]) -> State:
    """One batch out of several from the same world; strips that are not drawn stay undrawn."""
    first = states[0]
    draw, there = _drawn_by(states)
    steps = [s.dt_hours for s in states]
    strips: Any = np.concatenate([s.ecg for s in states]) if there or draw is None else draw
    whole = State(
        strips,
        Patients.join([Patients.of(s.patients) for s in states]),
        Doses.join([Doses.of(s.doses) for s in states]),
        np.concatenate([s.hours for s in states]),
        np.concatenate([s.alive for s in states]),
        {name: np.concatenate([s.inner[name] for s in states]) for name in first.inner},
        None if steps[0] is None else np.concatenate([step for step in steps if step is not None]),
    )
    whole.__dict__["_draw"] = draw
    return whole


Randomness = np.random.Generator | Sequence[np.random.Generator]


def row_generators(rng: Randomness, n: int) -> list[np.random.Generator]:
    """One generator per row: ``n`` fresh ones drawn from ``rng``, or the ``n`` that were handed in.

    A planner that hands the same seeds to every candidate compares them under common random numbers, and a row can
    be replayed alone, whatever batch it once stood in.
    """
    if isinstance(rng, np.random.Generator):
        return [np.random.default_rng(seed) for seed in rng.integers(0, 2**63, size=n)]
    generators = list(rng)
    if len(generators) != n:
        raise ValueError(f"{len(generators)} generators for {n} rows; expected one per row; or pass one Generator")
    return generators


def row_streams(rng: Randomness, n: int) -> Streams:
    """One counter-based stream per row, out of one generator or ``n`` of them: ``row_generators`` for arrays.

    Streams are handed through; each generator is drawn from once.
    """
    if isinstance(rng, np.random.Generator):
        return Streams.start(rng.integers(0, 2**64, (n, 2), dtype=np.uint64))
    if len(rng) != n:
        raise ValueError(f"{len(rng)} generators for {n} rows; expected one per row; or pass one Generator")
    return rng if isinstance(rng, Streams) else Streams.of(rng)


@runtime_checkable
class World(Protocol):
    """Anything that can say what a heart looks like after a treatment."""

    @property
    def dt_hours(self) -> float:
        """Clinical time of one step [h]; a plain attribute will do."""
        ...

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` patients drawn from the world's population; ``who`` narrows it.

        For example ``rhythm="af"``, or ``patient=`` one Patient for all or a list of n.
        """
        ...

    def observe(self, ecg: ECG, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """A batch of one that starts from a record and the doses already taken (their hours are <= 0)."""
        ...

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later, one treatment per row; a sample, not a mean. Rows that are not alive stay as they are."""
        ...
