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
from ecg_gym.compiled import compiled
from ecg_gym.core import LEADS, MODEL_SAMPLES, State, Treatment

MODES = ("features", "waveform", "latent")
STRIP_LIMIT_MV = 10.0  # strips are clipped here, so that the space has finite bounds
LATENT_LIMIT = 10.0  # standard deviations; latents are standardised
DOSE_WINDOWS_HOURS = (2.0, 24.0)


UNITS = {  # of a feature: by its whole name, or by how the name ends (before "_change"); 1 is a number without a unit
    "age_years": "years", "hours": "h", "dt_hours": "h", "creatinine_clearance": "mL/min", "_bpm": "1/min", "_ms": "ms",
    "_mv": "mV", "_kg": "kg", "potassium": "mmol/L", "magnesium": "mmol/L", "calcium": "mmol/L",
}  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """One number of the observation: the range that becomes [-1, 1], in its own unit."""

    name: str
    low: float
    high: float
    optional: bool = False  # may be unknown, and is followed by <name>_known

    @property
    def unit(self) -> str:
        """The unit of the range; ``"1"`` for shares, flags and multiples."""
        name = self.name.removesuffix("_change")
        return next((unit for end, unit in UNITS.items() if name == end or (end[0] == "_" and name.endswith(end))), "1")

    def scale(self, values: np.ndarray) -> np.ndarray:
        """[-1, 1], or 0 for NaN."""
        centred = (2 * np.asarray(values, dtype=float) - self.low - self.high) / (self.high - self.low)
        return np.nan_to_num(np.clip(centred, -1, 1), nan=0.0)

    def unscale(self, value: float) -> float:
        """The number in its own unit."""
        return (value * (self.high - self.low) + self.low + self.high) / 2


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
    Feature("hours", 0, 24),
    Feature("dt_hours", 0, 24),
    Feature("steps_left", 0, 1),  # share of the horizon
    Feature("risk", 0, 1),
)


class Scale(NamedTuple):
    """The features of a layout as arrays."""

    names: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    optional: np.ndarray  # bool


@dataclass(frozen=True)
class Layout:
    """Which features an env shows: the same for every world, it depends on the drugs of the menu alone."""

    menu: tuple[Treatment, ...]
    findings: tuple[str, ...]  # finding_*
    conditions: tuple[str, ...]

    @property
    def drugs(self) -> tuple[str, ...]:
        """The drugs of the menu, in its order."""
        return tuple(dict.fromkeys(dose.drug for treatment in self.menu for dose in treatment.doses))

    @property
    def groups(self) -> dict[str, tuple[Feature, ...]]:
        """The features by what they describe, in the order of the vector, without their known flags."""
        return {
            "measured on the last strip that was seen": MEASURED,
            "change since the first strip of the episode": CHANGES,
            "probability of a finding on that strip": tuple(Feature(name, 0, 1) for name in self.findings),
            "the patient": PATIENT_FEATURES,
            "conditions of the patient, 1 where present": tuple(
                Feature(f"condition_{name}", 0, 1) for name in self.conditions
            ),
            "time, and the risk of the last strip that was seen": CLOCK,
            "doses of the last hours, in multiples of the largest dose of that drug on the menu": tuple(
                Feature(f"{drug}_{w:g}h", 0, 4) for drug in self.drugs for w in DOSE_WINDOWS_HOURS
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
            tuple(f.name for f in features), np.array([f.low for f in features], float),
            np.array([f.high for f in features], float), np.array([f.optional for f in features]),
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
        _vector(values, scale.low, scale.high, scale.optional, out)
        return out


@compiled
def _vector(values: np.ndarray, low: np.ndarray, high: np.ndarray, optional: np.ndarray, out: np.ndarray) -> None:
    """``Feature.scale`` of all features ``(F, B)``, each optional one followed by its known flag."""
    for b in range(values.shape[1]):
        place = 0
        for i in range(len(low)):
            known = np.isfinite(values[i, b])
            centred = (2 * values[i, b] - low[i] - high[i]) / (high[i] - low[i])
            out[b, place] = 0.0 if np.isnan(values[i, b]) else min(max(centred, -1.0), 1.0)
            place += 1
            if optional[i]:
                out[b, place] = 1.0 if known else 0.0
                place += 1


def describe(layout: Layout, vector: np.ndarray) -> dict[str, float]:
    """The known features of one vector ``(d,)`` by name, in their own units (clipped to their ranges)."""
    value = dict(zip(layout.names, map(float, vector)))
    known = [f for f in layout.features if not f.optional or value[f"{f.name}_known"] > 0.5]
    return {f.name: f.unscale(value[f.name]) for f in known}


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


@lru_cache(maxsize=8)
def _conditions(names: tuple[str, ...], n: int) -> np.ndarray:
    """Which of these conditions each of the first ``n`` groups of people has ``(len(names), n)``, 1 or 0."""
    return np.array([[name in WORDS.rows[i][0] for i in range(n)] for name in names], float).reshape(len(names), n)


def doses_taken(state: State, menu: Sequence[Treatment]) -> np.ndarray:
    """Doses of each drug within each window before now ``(drugs x windows, B)``, in multiples of the menu's largest.

    A dose in a unit or by a route that the menu lacks counts as one.
    """
    drugs, column, multiple = _dose_columns(menu, len(DOSES))
    doses, out = Doses.of(state.taken), np.zeros((len(drugs) * len(DOSE_WINDOWS_HOURS), len(state)))
    _add_doses(doses.hours, doses.code, np.asarray(state.hours, float), column, multiple,
               np.array(DOSE_WINDOWS_HOURS), out)  # fmt: skip
    return out


@compiled
def _add_doses(
    hours: np.ndarray, code: np.ndarray, now: np.ndarray, column: np.ndarray, multiple: np.ndarray,
    windows: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    for b in range(len(now)):
        for q in range(code.shape[1]):
            if code[b, q] < 0:
                break
            place = column[code[b, q]]
            for w in range(len(windows)):
                if place >= 0 and now[b] - hours[b, q] <= windows[w]:
                    out[place * len(windows) + w, b] += multiple[code[b, q]]


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
