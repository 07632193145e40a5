"""How far a measured interval is beyond what defines a finding: ``findings.yaml``, ``margin``."""

from __future__ import annotations

import numpy as np

from ecg_gym.risk.aggregate import FINDINGS, ROWS
from ecg_gym.waveform.intervals import Intervals

LARGEST = 3.0  # units of ``per``; beyond, there is nothing left to doubt
STEEPNESS = 1.702  # of the sigmoid that is closest to the normal distribution function (Camilli 1994)
DEFINED = np.array([finding.margin is not None and finding.margin.defines for finding in ROWS])


def margins(intervals: Intervals) -> np.ndarray:
    """Margins ``(B, 17)`` in [-3, 3], positive beyond the limit; 0 for findings that no interval defines.

    Where the interval was not measured the row's ``absent`` stands, or NaN if it would have decided alone.
    """
    result = np.zeros((len(intervals.hr_bpm), len(FINDINGS)))
    for column, finding in enumerate(ROWS):
        if (margin := finding.margin) is not None:
            value = np.asarray(getattr(intervals, margin.quantity), dtype=float)
            sign = 1.0 if margin.side == "high" else -1.0
            beyond = np.clip(sign * (value - margin.at) / margin.per, -LARGEST, LARGEST)
            result[:, column] = np.where(np.isfinite(value), beyond, np.nan if margin.defines else margin.absent)
    return result
