"""The rhythms of ``rhythms.yaml`` as rows of numbers, for compiled loops: one row a rhythm, one column a property."""

from __future__ import annotations

from functools import cache

import numpy as np

from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.rhythm_table import rhythm_yaml, rhythms, timing

RHYTHMS = tuple(rhythms())
LEADERS = ("sinus", "atrial", "pathway", "reentry", "ventricular", "torsade", "paced", "none")
WAVES = ("", "fibrillation", "flutter", "ventricular", "torsade")
COLUMNS = (
    "leader", "waves", "infranodal", "passes_bpm", "conduct_of", "growth_ms", "escape_bpm", "junctional",
    "ectopic_share", "every", "run_low", "run_high", "run_bpm", "coupling", "focus", "gamma_shape", "refractory_s",
    "atrial_bpm", "atrial_sd", "conducts_ms", "fusion_low", "fusion_high", "begins_low", "begins_high", "lasts_low",
    "lasts_high", "cycle_low", "cycle_high", "pause_s",
)  # fmt: skip
TIMINGS = (
    "respiratory_share", "breathing_low", "breathing_high", "slow_low", "slow_high", "sdnn_rr_exponent",
    "shortest_rr_s", "pr_sd_ms", "flutter_sd_ms", "escape_sdnn_ms", "reentry_sdnn_ms", "ventricular_sdnn_ms",
    "paced_sdnn_ms", "spike_ms", "largest_ectopic_share", "regular_ectopy_from", "after_ectopic",
    "longest_wenckebach", "block_exponent", "pathway_pr_ms", "fusion_step_ms", "whole_fusion_ms",
)  # fmt: skip


@cache
def rhythm_table() -> np.ndarray:
    """``(rhythms, columns)`` in the order of RHYTHMS and COLUMNS; NaN where a rhythm has no such property."""
    return np.array([[_cell(row, name) for name in COLUMNS] for row in rhythms().values()], float)


def _cell(row: dict, name: str) -> float:
    if name in ("leader", "waves", "focus"):
        names = {"leader": LEADERS, "waves": WAVES, "focus": KINDS}[name]
        return names.index(row.get(name, "")) if name in row or name == "waves" else np.nan
    if name == "junctional":
        return row.get("escape") == "junctional"
    if name == "atrial_bpm" or name == "atrial_sd":
        pair = np.atleast_1d(row.get("atrial_bpm", np.nan))
        return float(pair[0 if name == "atrial_bpm" else -1])
    stem, _, end = name.rpartition("_")
    if end in ("low", "high"):
        for key in (stem, f"{stem}_ms", f"{stem}_s"):
            if key in row:
                return float(row[key][0 if end == "low" else 1])
    usual = {"infranodal": 0, "growth_ms": 0, "ectopic_share": 0, "every": 1, "run_low": 1, "run_high": 1,
             "escape_bpm": timing("escape_bpm")}  # fmt: skip
    return float(row.get(name, usual.get(name, np.nan)))


@cache
def timing_row() -> np.ndarray:
    """``(timings,)`` in the order of TIMINGS."""
    return np.array([_timing(name) for name in TIMINGS])


def _timing(name: str) -> float:
    stem, _, end = name.rpartition("_")
    if end in ("low", "high"):
        return float(rhythm_yaml()["timing"][f"{stem}_hz"][end])
    return float(timing(name))
