"""What an agent sees: a flat vector of named features, or the strip or the latent beside it. Never the hidden truth.

Every feature is scaled to [-1, 1] over its stated range (clipped beyond it), and is 0 where it is not known; a second
feature, ``<name>_known``, says which it is. :func:`describe` turns a vector back into numbers with units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from ecg_gym.columns import DOSES, WORDS, Doses, Patients, once_per_object
from ecg_gym.compiled import compiled_exact
from ecg_gym.core import LEADS, MODEL_SAMPLES, State, Treatment
from ecg_gym.pharmacology.catalogue import medication_columns
from ecg_gym.pharmacology.tables import medication_names

MODES = ("features", "waveform", "latent")
STRIP_LIMIT_MV = 10.0  # strips are clipped here, so that the space has finite bounds
LATENT_LIMIT = 10.0  # standard deviations; latents are standardised
DAY_HOURS = 24.0
MINUTES = 1 / 12  # [h] up to here the logarithmic scale of hours is nearly even


UNITS = {  # of a feature: by its whole name, or by how the name ends (before "_change"); 1 is a number without a unit
    "age_years": "years", "hours": "h", "dt_hours": "h", "creatinine_clearance": "mL/min", "_bpm": "1/min", "_ms": "ms",
    "_mv": "mV", "_mmhg": "mmHg", "_hours": "h", "_kg": "kg",
    "potassium": "mmol/L", "magnesium": "mmol/L", "calcium": "mmol/L",
}  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """One number of the observation: the range that becomes [-1, 1], in its own unit."""

    name: str
    low: float
    high: float
    optional: bool = False  # may be unknown, and is followed by <name>_known
    even: float = 0.0  # above 0: the scale is log(1 + x / even), so minutes and days are told apart

    def bend(self, values: Any) -> Any:
        """The values on the scale that is linear between the ends of the range."""
        return np.log1p(np.maximum(values, 0.0) / self.even) if self.even else values

    @property
    def unit(self) -> str:
        """The unit of the range; ``"1"`` for shares, flags and multiples."""
        name = self.name.removesuffix("_change")
        return next((unit for end, unit in UNITS.items() if name == end or (end[0] == "_" and name.endswith(end))), "1")

    def scale(self, values: np.ndarray) -> np.ndarray:
        """[-1, 1], or 0 for NaN."""
        low, high = self.bend(self.low), self.bend(self.high)
        centred = (2 * self.bend(np.asarray(values, dtype=float)) - low - high) / (high - low)
        return np.nan_to_num(np.clip(centred, -1, 1), nan=0.0)

    def unscale(self, value: float) -> float:
        """The number in its own unit."""
        low, high = self.bend(self.low), self.bend(self.high)
        number = (value * (high - low) + low + high) / 2
        return float(np.expm1(number) * self.even) if self.even else number


MEASURED = (
    Feature("hr_bpm", 20, 250, True),
    Feature("pr_ms", 80, 400, True),
    Feature("qrs_ms", 40, 240, True),
    Feature("qt_ms", 200, 700, True),
    Feature("qtcf_ms", 300, 700, True),
    Feature("jtpeakc_ms", 100, 450, True),
    Feature("tpeak_tend_ms", 20, 250, True),
    Feature("r_amplitude_mv", 0, 5, True),
    Feature("t_amplitude_mv", 0, 2, True),
    Feature("p_present", 0, 1),
    Feature("regular", 0, 1),
)
CHANGES = (  # since the first strip of the episode, against which risk is judged
    Feature("hr_bpm_change", -100, 100, True),
    Feature("pr_ms_change", -150, 150, True),
    Feature("qrs_ms_change", -100, 100, True),
    Feature("qtcf_ms_change", -150, 150, True),
)
MONITORED = (Feature("map_mmhg", 30, 160, True),)  # beside the strip: mean arterial pressure
PATIENT_FEATURES = (
    Feature("age_years", 0, 100, True),
    Feature("female", 0, 1, True),
    Feature("weight_kg", 30, 200, True),
    Feature("potassium", 2, 8, True),
    Feature("magnesium", 0.2, 2.5, True),
    Feature("calcium", 1.5, 3.5, True),
    Feature("creatinine_clearance", 0, 150, True),
)
CLOCK = (
    Feature("hours", 0, 24, True),  # unknown, as the share of the horizon, where the clock is hidden
    Feature("dt_hours", 0, 24, even=MINUTES),
    Feature("steps_left", 0, 1, True),  # share of the horizon
    Feature("risk", 0, 1),
)


class Scale(NamedTuple):
    """The features of a layout as arrays."""

    names: tuple[str, ...]
    low: np.ndarray  # on the scale of ``bend``
    high: np.ndarray
    optional: np.ndarray  # bool
    even: np.ndarray  # 0 where the scale is linear


@dataclass(frozen=True)
class Layout:
    """Which features an env shows: the same for every world and scenario, they depend on the menu alone."""

    menu: tuple[Treatment, ...]
    findings: tuple[str, ...]  # finding_*
    conditions: tuple[str, ...]
    medication: tuple[str, ...] = ()  # other drugs that somebody may be taking
    reasons: tuple[str, ...] = ()  # names of the scenarios: what somebody is treated for

    @property
    def drugs(self) -> tuple[str, ...]:
        """The drugs of the menu, in its order."""
        return tuple(dict.fromkeys(dose.drug for treatment in self.menu for dose in treatment.doses))

    @property
    def groups(self) -> dict[str, tuple[Feature, ...]]:
        """The features by what they describe, in the order of the vector, without their known flags."""
        return {
            "measured on the last strip that was seen": MEASURED,
            "measured beside it": MONITORED,
            "change since the first strip of the episode": CHANGES,
            "probability of a finding on that strip": tuple(Feature(name, 0, 1) for name in self.findings),
            "the patient": PATIENT_FEATURES,
            "conditions of the patient, 1 where present": tuple(
                Feature(f"condition_{name}", 0, 1) for name in self.conditions
            ),
            "hours since the blood of those electrolytes was taken": (Feature("blood_hours", 0, 48, True, MINUTES),),
            "other drugs taken, 1 where they are": tuple(Feature(f"takes_{name}", 0, 1) for name in self.medication),
            "what the patient is treated for, 1 at one of them": tuple(
                Feature(f"reason_{name}", 0, 1) for name in self.reasons
            ),
            "time, and the risk of the last strip that was seen": CLOCK,
            "the chart of doses: of the last 24 hours and the last one, in multiples of the drug's largest dose on the "
            "menu, and the hours since the last one": tuple(
                feature
                for drug in self.drugs
                for feature in (
                    Feature(f"{drug}_24h", 0, 4),
                    Feature(f"{drug}_dose", 0, 1),
                    Feature(f"{drug}_hours", 0, 96, True, MINUTES),
                )
            ),
            "1 where the treatment of that number is at hand and allowed": tuple(
                Feature(f"allowed_{i}", 0, 1) for i in range(len(self.menu))
            ),
        }

    @property
    def features(self) -> tuple[Feature, ...]:
        """All features in the order of the vector, without their known flags."""
        return tuple(feature for group in self.groups.values() for feature in group)

    @cached_property
    def scale(self) -> Scale:
        """The features as arrays."""
        features = self.features
        return Scale(
            tuple(f.name for f in features), np.array([f.bend(f.low) for f in features], float),
            np.array([f.bend(f.high) for f in features], float), np.array([f.optional for f in features]),
            np.array([f.even for f in features], float),
        )  # fmt: skip

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name per number of the vector."""
        return tuple(n for f in self.features for n in ((f.name, f"{f.name}_known") if f.optional else (f.name,)))

    @property
    def space(self) -> spaces.Box:
        """``Box(-1, 1, (d,), float32)``."""
        return spaces.Box(-1.0, 1.0, (len(self.names),), np.float32)

    def vector(self, blocks: Sequence[np.ndarray | Sequence[Any]], n: int) -> np.ndarray:
        """The features ``(n, d)`` float32 out of the values of each of ``groups`` in turn, in their own units.

        A block has one row per feature, ``(n,)`` or a number for all; NaN is unknown.
        """
        scale = self.scale
        values, row = np.empty((len(scale.names), n)), 0
        for block in blocks:
            if isinstance(block, np.ndarray):
                values[row : row + len(block)] = block
            else:
                for i, one in enumerate(block):
                    values[row + i] = one
            row += len(block)
        assert row == len(values), f"{row} of {len(values)} features were told"
        out = np.empty((n, len(self.names)), np.float32)
        _vector(values, scale.low, scale.high, scale.optional, scale.even, out)
        return out


@compiled_exact
def _vector(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, optional: np.ndarray, even: np.ndarray, out: np.ndarray
) -> None:  # fmt: skip
    """``Feature.scale`` of all features ``(F, B)``, each optional one followed by its known flag."""
    place = 0
    for i in range(len(low)):
        least, most = low[i], high[i]
        for b in range(values.shape[1]):
            value = values[i, b]
            if np.isnan(value):
                out[b, place] = 0.0
                continue
            if even[i] > 0:
                value = np.log1p(max(value, 0.0) / even[i])
            out[b, place] = min(max((2 * value - least - most) / (most - least), -1.0), 1.0)
        place += 1
        if optional[i]:
            for b in range(values.shape[1]):
                out[b, place] = 1.0 if np.isfinite(values[i, b]) else 0.0
            place += 1


def describe(layout: Layout, vector: np.ndarray) -> dict[str, float]:
    """The known features of one vector ``(d,)`` by name, in their own units (clipped to their ranges)."""
    value = dict(zip(layout.names, map(float, vector)))
    features = [f for f in layout.features if not f.optional or value[f"{f.name}_known"] > 0.5]
    return {f.name: f.unscale(value[f.name]) for f in features}


def space(mode: str, layout: Layout, latent_shape: tuple[int, ...] | None) -> spaces.Space:
    """The space of a mode: ``features`` a Box; ``waveform`` and ``latent`` a Dict with the features beside."""
    if mode == "features":
        return layout.space
    if mode == "waveform":
        strip = spaces.Box(-STRIP_LIMIT_MV, STRIP_LIMIT_MV, (len(LEADS), MODEL_SAMPLES), np.float32)
        return spaces.Dict({"ecg": strip, "features": layout.space})
    if mode == "latent":
        if latent_shape is None:
            raise ValueError(
                "obs is 'latent' and this world has no latent; expected a world model, whose states carry one; "
                "pass obs='features' or obs='waveform', or use the env with world='model'"
            )
        return spaces.Dict(
            {"latent": spaces.Box(-LATENT_LIMIT, LATENT_LIMIT, latent_shape, np.float32), "features": layout.space}
        )
    raise ValueError(f"obs is {mode!r}; expected one of {MODES}; pass obs='features'")


def conditions_of(people: Patients, names: tuple[str, ...]) -> np.ndarray:
    """Which of these conditions each of B people has ``(len(names), B)``, 1 or 0."""
    return _conditions(names, len(WORDS))[:, people.group]


def medication_of(people: Patients, names: tuple[str, ...]) -> np.ndarray:
    """Which of these other drugs each of B people takes ``(len(names), B)``, 1 or 0."""
    return _medication(names, len(WORDS))[:, people.group]


@lru_cache(maxsize=8)
def _conditions(names: tuple[str, ...], n: int) -> np.ndarray:
    """Which of these conditions each of the first ``n`` groups of people has ``(len(names), n)``, 1 or 0."""
    return np.array([[name in WORDS.rows[i][0] for i in range(n)] for name in names], float).reshape(len(names), n)


@lru_cache(maxsize=8)
def _medication(names: tuple[str, ...], n: int) -> np.ndarray:
    """The same of other drugs."""
    order = medication_names()
    return medication_columns(n)[:n, [order.index(name) for name in names]].T.astype(float)


def doses_taken(state: State, menu: Sequence[Treatment]) -> np.ndarray:
    """The chart of each drug of the menu ``(3 x drugs, B)``: all doses of a day, the last one, and the hours since.

    Doses are multiples of the menu's largest of that drug; one in a unit or by a route that the menu lacks counts as
    one. Hours are NaN where nothing of the drug was given.
    """
    drugs, column, multiple = _dose_columns(menu, len(DOSES))
    doses, out = Doses.of(state.doses), np.zeros((len(drugs), 3, len(state)))
    out[:, 2] = np.nan
    _chart(doses.hours, doses.code, np.asarray(state.hours, float), column, multiple, out)
    return out.reshape(-1, len(state))


@compiled_exact
def _chart(
    hours: np.ndarray, code: np.ndarray, now: np.ndarray, column: np.ndarray, multiple: np.ndarray, out: np.ndarray
) -> None:  # fmt: skip
    for b in range(len(now)):
        for q in range(code.shape[1]):
            if code[b, q] < 0:
                break
            place, since = column[code[b, q]], now[b] - hours[b, q]
            if place < 0:
                continue
            if since <= DAY_HOURS:
                out[place, 0, b] += multiple[code[b, q]]
            if np.isnan(out[place, 2, b]) or since <= out[place, 2, b]:
                out[place, 1, b], out[place, 2, b] = multiple[code[b, q]], since


@once_per_object
def _dose_columns(menu: Sequence[Treatment], n: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The menu's drugs, and of the first ``n`` doses of the catalogue which of them (-1: none) and what multiple."""
    largest = _largest(menu)
    drugs = tuple(dict.fromkeys(drug for drug, _, _ in largest))
    place = {drug: i for i, drug in enumerate(drugs)}
    column = np.array([place.get(dose.drug, -1) for dose in DOSES.rows[:n]], np.int64)
    multiple = [
        dose.amount / largest.get((dose.drug, dose.unit, dose.route), dose.amount) if dose.amount else 0.0
        for dose in DOSES.rows[:n]
    ]
    return drugs, column, np.array(multiple, float)


def _largest(menu: Sequence[Treatment]) -> dict[tuple[str, str, str], float]:
    largest: dict[tuple[str, str, str], float] = {}
    for dose in (dose for treatment in menu for dose in treatment.doses):
        key = (dose.drug, dose.unit, dose.route)
        largest[key] = max(largest.get(key, 0.0), dose.amount)
    return largest
