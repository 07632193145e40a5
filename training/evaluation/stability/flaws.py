"""Violations of physiology: what a strip shows that no living adult does, out of ``stability_bounds.yaml``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, State, independent_from_leads, limb_from_independent
from ecg_gym.waveform import measure
from ecg_gym.yaml_files import read_yaml
from training.evaluation.questions import INTERVALS

BOUNDS = Path(__file__).with_name("bounds.yaml")
MEASURED = (*INTERVALS, "qt_ms", "rr_ms")  # of every strip
FLAWS = (
    "not_finite", "einthoven", "amplitude", "flat", "no_beats",
    "hr", "pr", "qrs", "qt", "qtcf", "qt_beyond_rr", "pr_beyond_rr",
)  # fmt: skip


@lru_cache(maxsize=1)
def bounds() -> dict[str, dict[str, dict[str, Any]]]:
    """The table: ``intervals`` and ``strip``, each a row with low, high, unit, source and confidence."""
    return read_yaml(BOUNDS)


def readings_of(ecg: np.ndarray) -> np.ndarray:
    """Intervals ``(B, 8)``, columns ``MEASURED``, of strips ``(B, 12, 1024)`` [mV]; NaN where they cannot be read."""
    return np.asarray(measure(ECG(ecg, MODEL_RATE_HZ)).as_array(MEASURED))


def flaws(state: State, intervals: np.ndarray) -> np.ndarray:
    """``(B, len(FLAWS))``: 1 violated, 0 kept, NaN not judged (dead, or an interval that could not be measured).

    ``intervals (B, 8)`` are the strips' own, columns ``MEASURED``. QT longer than RR means that the ventricles are
    still repolarising when they beat again; PR longer than RR that a beat skips one.
    """
    table = bounds()
    ecg = np.nan_to_num(state.ecg, nan=0.0, posinf=0.0, neginf=0.0)
    column = dict(zip(MEASURED, intervals.T))
    strip = {name: row.get("high", row.get("low")) for name, row in table["strip"].items()}
    twelve = limb_from_independent(independent_from_leads(ecg))
    result = {
        "not_finite": ~np.isfinite(state.ecg).all(axis=(1, 2)),
        "einthoven": np.abs(twelve - ecg).max(axis=(1, 2)) > strip["einthoven_mv"],
        "amplitude": np.abs(ecg).max(axis=(1, 2)) > strip["amplitude_mv"],
        "flat": np.ptp(ecg, axis=2).max(axis=1) < strip["flat_mv"],
        "no_beats": ~np.isfinite(column["hr_bpm"]),
        "qt_beyond_rr": _above(column["qt_ms"], column["rr_ms"]),
        "pr_beyond_rr": _above(column["pr_ms"], column["rr_ms"]),
    }
    for name, row in table["intervals"].items():
        value = column[name]
        outside = ((value < row["low"]) | (value > row["high"])).astype(float)
        result[name.rsplit("_", 1)[0]] = np.where(np.isfinite(value), outside, np.nan)
    stacked = np.stack([np.asarray(result[name], dtype=float) for name in FLAWS], axis=1)
    return np.where(state.alive[:, None], stacked, np.nan)


def _above(value: np.ndarray, limit: np.ndarray) -> np.ndarray:
    finite = np.isfinite(value) & np.isfinite(limit)
    return np.where(finite, (value > limit).astype(float), np.nan)
