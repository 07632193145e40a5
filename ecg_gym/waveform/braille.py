"""One lead as braille: ECG paper for a terminal, two dots to the column and four to the row."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG

_BLANK = 0x2800
_DOT = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # rows from the top, columns from the left
RANGE_MV = (-0.4, 0.8)  # always shown, so that a small beat looks small; more where the trace needs it


def braille(
    ecg: ECG, lead: str = "II", seconds: float = 5.0, columns: int = 100, rows: int = 4
) -> tuple[list[str], float]:
    """``rows`` lines of ``columns`` characters with the first ``seconds`` of one lead, and the height of a row [mV].

    Consecutive samples are joined by vertical strokes, so that a narrow QRS is not lost between two columns. A lead
    that is missing, or not finite, is empty lines.
    """
    trace = np.asarray(ecg.lead(lead), dtype=float).reshape(-1)[: round(seconds * ecg.rate_hz)]
    if lead in ecg.missing or not np.isfinite(trace).all() or not len(trace):
        return [chr(_BLANK) * columns] * rows, float("nan")
    trace = trace - np.median(trace)
    low, high = min(RANGE_MV[0], trace.min()), max(RANGE_MV[1], trace.max())
    height, width = 4 * rows, 2 * columns
    level = np.clip(np.round((high - trace) / (high - low) * (height - 1)).astype(int), 0, height - 1)
    at = np.minimum(np.arange(len(trace)) * width // len(trace), width - 1)
    cells = np.full((rows, columns), _BLANK)
    previous = level[0]
    for x, y in zip(at, level):
        for dot in range(min(previous, y), max(previous, y) + 1):
            cells[dot // 4, x // 2] |= _DOT[dot % 4, x % 2]
        previous = y
    return ["".join(map(chr, row)) for row in cells], float(high - low) / rows
