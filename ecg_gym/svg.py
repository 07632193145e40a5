"""A strip as a small SVG: what a notebook shows of an ECG. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

LAYOUT = ((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11))  # rows of the standard sheet, by place among the 12 leads
PX_PER_S, PX_PER_MV, PIECE_S, ROW_PX = 60.0, 24.0, 2.5, 84.0


def strip_svg(signal: np.ndarray, rate_hz: float, leads: Sequence[str], title: str = "") -> str:
    """The standard sheet of one strip ``(12, T)`` [mV]: three rows of four leads, 2.5 s each."""
    wide, high = 4 * PIECE_S * PX_PER_S, 3 * ROW_PX + 20
    parts = [f'<rect width="{wide:g}" height="{high:g}" fill="#fffaf8"/>']
    calm = signal - np.nanmedian(signal, axis=-1, keepdims=True)
    for row, places in enumerate(LAYOUT):
        level = 20 + ROW_PX * (row + 0.6)
        for column, place in enumerate(places):
            first, last = (round((column + i) * PIECE_S * rate_hz) for i in (0, 1))
            trace, left = calm[place, first:last], column * PIECE_S * PX_PER_S
            step = max(1, len(trace) // 600)
            points = " ".join(
                f"{left + i / rate_hz * PX_PER_S:.1f},{level - PX_PER_MV * trace[i]:.1f}"
                for i in range(0, len(trace), step)
                if np.isfinite(trace[i])
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="#1c1c24" stroke-width="1"/>')
            parts.append(f'<text x="{left + 3:g}" y="{level - 30:g}" font-size="10">{escape(leads[place])}</text>')
    head = f'<text x="3" y="13" font-size="11">{escape(title)}</text>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{high:g}">{"".join(parts)}{head}</svg>'
