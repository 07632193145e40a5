"""The nouns everything meets at: ECG, Patient, Dose, Treatment, State, and the one hinge, World.

A :class:`World` says what a heart looks like after a treatment. Planners, environments and studies know
nothing else about it. Everything is batched; one patient is a batch of one. Randomness is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ecg_gym.plausibility import bounds, check_bounds
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
    given = np.asarray(signal)
    if given.dtype.kind not in "fiu":
        raise TypeError(
            f"signal holds {given.dtype}; expected real numbers in mV, shape (12, T) or (B, 12, T); convert it with "
            "np.asarray(signal, dtype=float)"
        )
    with np.errstate(over="ignore"):  # what is beyond float32 is not finite, and the risk says so
        return given.astype(np.float32, copy=False)


def is_number(value: Any) -> bool:
    """Whether this is one finite real number."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return real and bool(abs(value) < float("inf"))


def _words(name: str, value: Any) -> frozenset[str]:
    try:
        words: frozenset[Any] = frozenset(value)
    except TypeError:  # no set at all, or of things that cannot be in one
        words = frozenset((None,))
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name} is {value!r}; expected a set of words; pass {name}={{'asthma'}} or leave it out")
    return words


@dataclass(frozen=True)
class Patient:
    """What is known about a person. ``None`` means unknown: it is flagged to the model, never invented.

    Raises ValueError for a number that no living adult has (``plausible.yaml``).
    """

    age_years: float | None = None
    sex: str | None = None  # "F" or "M"
    weight_kg: float | None = None
    height_cm: float | None = None
    potassium: float | None = None  # serum K+ [mmol/L]
    magnesium: float | None = None  # serum Mg2+ [mmol/L]
    calcium: float | None = None  # serum total Ca2+ [mmol/L]
    creatinine_clearance: float | None = None  # [mL/min]
    conditions: frozenset[str] = frozenset()  # names out of pharmacology.CONDITIONS
    medication: frozenset[str] = frozenset()  # other drugs taken, lower-case names, for the interaction rules

    def __post_init__(self) -> None:
        if self.sex not in (None, "F", "M"):
            raise ValueError(f"sex is {self.sex!r}; expected 'F', 'M' or None (unknown); the risk limits depend on it")
        for name in bounds():
            if (value := getattr(self, name)) is not None:
                if not is_number(value):
                    raise TypeError(f"{name} is {value!r}; expected a finite number; leave it out where it is unknown")
                check_bounds(name, value)
        for name in ("conditions", "medication"):
            if isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} is the word {value!r}; expected a set of words; pass {name}={{{value!r}}}")
            object.__setattr__(self, name, _words(name, value))


@dataclass(frozen=True, order=True)
class Dose:
    """One drug, one amount, one route. An infusion runs for ``duration_hours``; 0 is a bolus or a tablet."""

    drug: str
    amount: float
    unit: str  # "mg", "g", "mcg", "mmol", "U", "mg/kg", "mcg/kg/min" ...; the formulary says which fit
    route: str  # "PO", "IV"
    duration_hours: float = 0.0

    def __str__(self) -> str:
        over = f" over {60 * self.duration_hours:g} min" if self.duration_hours else ""
        return f"{self.drug} {self.amount:g} {self.unit} {self.route}{over}"


@dataclass(frozen=True)
class Treatment:
    """A set of doses given at the start of a step. Empty means watch and wait, and is always a candidate."""

    doses: tuple[Dose, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "doses", tuple(sorted(self.doses)))

    def __str__(self) -> str:
        return " + ".join(map(str, self.doses)) or "watch and wait"

    def __bool__(self) -> bool:
        return bool(self.doses)


WATCH = Treatment()


@dataclass(frozen=True, order=True)
class Administration:
    """A dose and when it was given, on the patient's own clock (``State.hours``; negative is before the start)."""

    hours: float  # [h]
    dose: Dose


@dataclass(frozen=True)
class State:
    """A batch of hearts as one world knows them. All rows have length ``B``.

    ``inner`` belongs to the world that made the state; nothing above a world reads it, except studies that ask a
    virtual patient for its truth.
    """

    ecg: np.ndarray  # (B, 12, 1024) float32 [mV] on the model grid, beginning R_PEAK_OFFSET_S before an R peak
    patients: tuple[Patient, ...]
    taken: tuple[tuple[Administration, ...], ...]  # doses so far, per row
    hours: np.ndarray  # (B,) float64 [h] elapsed on each patient's clock
    alive: np.ndarray  # (B,) bool; False after a lethal rhythm, and then for ever
    inner: Mapping[str, np.ndarray] = field(default_factory=dict)  # every array has leading dimension B

    def __len__(self) -> int:
        return len(self.hours)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> State:
        """The chosen rows, always still a batch: ``state[3]`` is a batch of one."""
        rows = np.arange(len(self))[index]
        rows = np.atleast_1d(rows)
        return replace(
            self,
            ecg=self.ecg[rows],
            patients=tuple(self.patients[i] for i in rows),
            taken=tuple(self.taken[i] for i in rows),
            hours=self.hours[rows],
            alive=self.alive[rows],
            inner={name: value[rows] for name, value in self.inner.items()},
        )

    def repeat(self, k: int) -> State:
        """Each row ``k`` times in a row: a, a, b, b for k = 2."""
        return self[np.repeat(np.arange(len(self)), k)]

    def where(self, mask: np.ndarray, other: State) -> State:
        """Rows of ``self`` where ``mask`` is true, rows of ``other`` elsewhere."""
        rows = np.where(mask, np.arange(len(self)), len(self) + np.arange(len(self)))
        return concatenate([self, other])[rows]


def concatenate(states: Sequence[State]) -> State:
    """One batch out of several from the same world."""
    first = states[0]
    return replace(
        first,
        ecg=np.concatenate([s.ecg for s in states]),
        patients=tuple(p for s in states for p in s.patients),
        taken=tuple(t for s in states for t in s.taken),
        hours=np.concatenate([s.hours for s in states]),
        alive=np.concatenate([s.alive for s in states]),
        inner={name: np.concatenate([s.inner[name] for s in states]) for name in first.inner},
    )


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

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A batch of one that starts from a record and the doses already taken (their hours are <= 0)."""
        ...

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later, one treatment per row; a sample, not a mean. Rows that are not alive stay as they are."""
        ...


_NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
_DOSE = re.compile(
    rf"^\s*(?P<drug>[A-Za-z][\w\-]*(?:\s+[A-Za-z][\w\-]*)*?)\s+(?P<amount>{_NUMBER})\s*(?P<unit>[A-Za-z\u00b5\u03bc][\w/\u00b5\u03bc]*)"
    r"(?:\s+(?P<route>PO|IV|SC|oral|orally|by mouth|p\.o\.|i\.v\.|s\.c\.))?"
    rf"(?:\s+(?:over|for|in)\s+(?P<time>{_NUMBER})\s*(?P<clock>s|sec|seconds?|min|mins|minutes?|h|hr|hrs|hours?))?\s*$",
    re.IGNORECASE,
)
_ROUTES = {"ORAL": "PO", "ORALLY": "PO", "BY MOUTH": "PO", "P.O.": "PO", "I.V.": "IV", "S.C.": "SC"}
_HOURS = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0}  # by the first letter of the word
_UNITS = {"ug": "mcg", "hr": "h", "hour": "h", "minute": "min", "u": "U", "iu": "U", "unit": "U", "units": "U",
          "milligram": "mg", "gram": "g", "vials": "vial", "gm": "g",
          **{unit: unit for unit in ("mg", "g", "mcg", "kg", "ng", "mmol", "min", "h", "vial")}}  # fmt: skip
_MONOVALENT = ("potassium", "sodium", "lithium")  # 1 mEq is 1 mmol


def parse_dose(text: str, default_route: str = "") -> Dose:
    """A dose from words such as ``"dofetilide 0.5 mg PO"`` or ``"amiodarone 150 mg IV over 10 minutes"``.

    Times may be in seconds, minutes or hours, units as charts write them (``mg/hr``, ``ug``, ``units``; a mEq of
    potassium or sodium is a mmol). Only the form is checked here; whether drug, unit and amount make
    sense is the formulary's business.
    """
    match = _DOSE.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"dose is {text!r}; expected 'DRUG AMOUNT UNIT [PO|IV|SC] [over TIME min]'; "
            "write for example 'dofetilide 0.5 mg PO' or 'amiodarone 150 mg IV over 10 min'"
        )
    route = (match["route"] or default_route).upper()
    hours = float(match["time"]) * _HOURS[match["clock"][0].lower()] if match["time"] else 0.0
    drug = "_".join(match["drug"].lower().split())
    return Dose(
        drug=drug,
        amount=float(match["amount"]),
        unit=_unit(match["unit"], drug.startswith(_MONOVALENT)),
        route=_ROUTES.get(route, route),
        duration_hours=hours,
    )


def _unit(written: str, monovalent: bool) -> str:
    """A unit as the formulary spells it; what it does not know stays as it was written."""
    parts = written.replace("\u00b5", "u").replace("\u03bc", "u").split("/")
    spelled = [_UNITS.get(part.lower(), part) for part in parts]
    return "/".join("mmol" if monovalent and part.lower() == "meq" else part for part in spelled)
