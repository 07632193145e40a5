"""The first channel of risk: smooth penalties on measured intervals, each a sourced row of ``limits.yaml``.

It needs no learning and no torch, and sees what the 17 findings of the other channel are blind to: QT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.compiled import compiled_exact
from ecg_gym.core import Patient
from ecg_gym.waveform.intervals import Intervals
from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("limits.yaml")
NO_BEATS = "no_beats"


@dataclass(frozen=True)
class Limit:
    """One row: which quantity, from where it worries, how much."""

    name: str
    quantity: str  # a column of Intervals
    of: str  # "value", or "change" against the strip before
    side: str  # "high" or "low": the dangerous side
    none: Mapping[str, float]  # by sex "F", "M", "unknown": penalty 0 up to here, in `unit`
    half: float  # penalty 1/2 here, in `unit`
    unit: str
    severity: float  # what penalty 1 adds to the risk, in [0, 1]
    unmeasurable: float  # penalty where the quantity is NaN although the heart beats
    cost: bool  # counts into the safety cost
    confidence: str
    source: str
    absent_without: str = ""  # a boolean column of Intervals; False there makes the quantity's absence neutral
    paced: bool = True  # counts where a pacemaker paces the ventricles, too

    def penalty(self, value: np.ndarray, sex: Sequence[str]) -> np.ndarray:
        """In [0, 1), rising towards the dangerous side; NaN where ``value (B,)`` is."""
        none = np.array([self.none[s] for s in sex])
        steps = (np.asarray(value, dtype=float) - none) / (self.half - none)
        return 1 - 2.0 ** -(np.maximum(steps, 0) ** 2)


def _by_sex(none: float | Mapping[str, float]) -> Mapping[str, float]:
    return none if isinstance(none, Mapping) else {"F": none, "M": none, "unknown": none}


_table = read_yaml(TABLE)


def _limit(name: str, row: Mapping[str, Any]) -> Limit:
    return Limit(name=name, **{**row, "none": _by_sex(row["none"])})


LIMITS = tuple(_limit(name, row) for name, row in _table["limits"].items())
PRESSURE = _limit("low_pressure", _table["low_pressure"])  # of a cuff, which no strip shows
FEWEST_BEATS = int(_table["fewest_beats"]["value"])
COMPARABLE_BPM = float(_table["comparable"]["below_bpm"])
PACED_SHARE, NARROW_MS = (float(_table["paced_qt"][name]) for name in ("share", "narrow_ms"))


def interval_terms(
    before: Intervals, after: Intervals, patients: Sequence[Patient], paced: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What each limit adds to the risk of ``after``, ``(B,)`` in [0, severity], by name; and ``no_beats``, 0 or 1.

    A strip without beats is a standstill, or no ECG at all: ``no_beats`` is 1. An interval that cannot be read although
    there are beats gets the limit's ``unmeasurable`` penalty, so that a treatment cannot look safe by blurring the T
    wave; one that does not exist (PR without P waves) gets none. Nor does a change from what could not be read before
    or was read in a tachycardia without P waves, nor one that cannot be read in atria that fibrillate or flutter as
    they did before. ``paced (B,)`` bool says where a pacemaker paces the ventricles: QRS and what follows from it are
    no harm there.

    Raises ValueError for batches of different length.
    """
    if not len(before) == len(after) == len(patients):
        raise ValueError(
            f"{len(before)} strips before, {len(after)} after and {len(patients)} patients; expected the same number "
            "of each; repeat the strip before for every sample"
        )
    female = np.array([_FEMALE.get(patient.sex or "", np.nan) for patient in patients])
    return judge(vars(before), vars(after), female, paced)[0]


_FEMALE = {"F": 1.0, "M": 0.0}


def pressure_term(mmhg: np.ndarray) -> np.ndarray:
    """What a low mean arterial pressure ``(B,)`` [mmHg] adds to the risk, in [0, severity]; 0 where there is none."""
    none = PRESSURE.none["unknown"]
    steps = np.maximum((mmhg - none) / (PRESSURE.half - none), 0)
    return PRESSURE.severity * np.where(np.isnan(mmhg), PRESSURE.unmeasurable, 1 - np.exp2(-(steps * steps)))


def together(terms: Mapping[str, np.ndarray]) -> np.ndarray:
    """One number ``(B,)`` in [0, 1] out of several: 1 - prod(1 - term); none is lost, none counts above 1."""
    return 1 - np.prod([1 - np.asarray(term, dtype=float) for term in terms.values()], axis=0)


def cost(terms: Mapping[str, np.ndarray]) -> np.ndarray:
    """The safety part ``(B,)`` of the risk in [0, 1]: the limits marked ``cost``, and standstill."""
    harmful = {limit.name for limit in LIMITS if limit.cost} | {NO_BEATS}
    return together({name: term for name, term in terms.items() if name in harmful})


def judge(
    home: Mapping[str, np.ndarray], look: Mapping[str, np.ndarray], female: np.ndarray, paced: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """``interval_terms``, ``cost`` and what all terms make ``together`` of readings by name, for people whose sex is
    1 (F), 0 (M) or NaN ``(B,)``."""
    after, before = (_rows(reading, _QUANTITIES) for reading in (look, home))
    n = len(LIMITS) + 1
    terms, harm, total = np.empty((n, after.shape[1])), np.empty(after.shape[1]), np.empty(after.shape[1])
    waves, waves_before = (np.ascontiguousarray(reading["p_present"], float) for reading in (look, home))
    alike = (waves_before != 0) | ~(np.asarray(home["hr_bpm"], float) > COMPARABLE_BPM)
    hr, n_beats, qrs = (np.ascontiguousarray(look[name], float) for name in ("hr_bpm", "n_beats", "qrs_ms"))
    by_wire = np.zeros(after.shape[1], bool) if paced is None else np.asarray(paced, bool)
    _judge(
        _figures(), after, before, alike, waves, waves_before, hr, n_beats, qrs, by_wire,
        np.ascontiguousarray(female), float(FEWEST_BEATS), terms, harm, total,
    )  # fmt: skip
    return dict(zip(_NAMES, terms)), harm, total


_QUANTITIES = tuple(limit.quantity for limit in LIMITS)


def _rows(reading: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Readings by name as rows ``(len(names), B)``; tables of readings hand them out at once."""
    if hasattr(reading, "rows"):
        return reading.rows(names)
    return np.stack([np.asarray(reading[name], float) for name in names])


_NAMES = (*(limit.name for limit in LIMITS), NO_BEATS)


@cache
def _figures() -> np.ndarray:
    """``(limits, 11)``: none by F, M, unknown; half, severity, unmeasurable; of a change, counts as cost, P needed,
    counts where paced, less a share of QRS where paced."""
    rows = [
        (*(limit.none[sex] for sex in ("F", "M", "unknown")), limit.half, limit.severity, limit.unmeasurable,
         limit.of == "change", limit.cost, bool(limit.absent_without), limit.paced, limit.quantity == "qtcf_ms")
        for limit in LIMITS
    ]  # fmt: skip
    return np.array(rows, float)


@compiled_exact
def _judge(
    table: np.ndarray, after: np.ndarray, before: np.ndarray, alike: np.ndarray, waves: np.ndarray,
    waves_before: np.ndarray, hr: np.ndarray, n_beats: np.ndarray, qrs: np.ndarray, paced: np.ndarray,
    female: np.ndarray, fewest: float, terms: np.ndarray, harm: np.ndarray, total: np.ndarray,
) -> None:  # fmt: skip
    for b in range(after.shape[1]):
        sex = 2 if np.isnan(female[b]) else 0 if female[b] != 0 else 1
        hidden = waves[b] == 0 and waves_before[b] == 0  # by atria that fibrillate or flutter
        safe = sound = 1.0
        for i in range(len(table)):
            change, now = table[i, 6] != 0, after[i, b]
            if paced[b] and table[i, 10] != 0 and not np.isnan(qrs[b]):
                now -= PACED_SHARE * max(qrs[b] - NARROW_MS, 0.0)
            value = now - before[i, b] if change else now
            none = table[i, sex]
            if change and (np.isnan(before[i, b]) or not alike[b]):
                penalty = 0.0
            elif np.isnan(now):
                penalty = 0.0 if change and hidden else table[i, 5]
            else:
                steps = max((value - none) / (table[i, 3] - none), 0.0)
                penalty = 1 - 2.0 ** -(steps * steps)
            if (table[i, 8] != 0 and waves[b] == 0) or (paced[b] and table[i, 9] == 0):
                penalty = 0.0
            terms[i, b] = table[i, 4] * penalty
            sound *= 1 - terms[i, b]
            if table[i, 7] != 0:
                safe *= 1 - terms[i, b]
        beats = n_beats[b] >= fewest and not np.isnan(hr[b])
        terms[len(table), b] = 0.0 if beats else 1.0
        harm[b], total[b] = 1 - (safe if beats else 0.0), 1 - (sound if beats else 0.0)
