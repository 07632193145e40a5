"""ECG paper: 25 mm/s and 10 mm/mV, as a cardiologist expects it. matplotlib is imported when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.core import ECG, LEADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MM_PER_S, MM_PER_MV = 25.0, 10.0
MM_PER_INCH = 25.4
PAPER, FINE, COARSE, INK = "#fffaf8", "#f9d9d4", "#f0aca3", "#1c1c24"
STANDARD_LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
OFF = "#8a8a94"  # a lead that was not recorded
ROW_MM = 28.0  # from one row of leads to the next: 2.8 mV
SHEET_MM = (10 * MM_PER_S + 10, 4 * ROW_MM + 6)  # width and height of the standard sheet
SCALE = "25 mm/s   10 mm/mV"


def draw_paper(ax: Axes, width_mm: float, height_mm: float, bottom_mm: float = 0.0) -> None:
    """Fine lines every millimetre, coarse ones every five; the axes are in millimetres of paper, at equal scale."""
    from matplotlib.collections import LineCollection

    for step, colour, width in ((1, FINE, 0.4), (5, COARSE, 0.6)):
        x = np.arange(0, width_mm + 0.5, step)
        y = np.arange(bottom_mm, bottom_mm + height_mm + 0.5, step)
        lines = [[(at, bottom_mm), (at, bottom_mm + height_mm)] for at in x] + [[(0, at), (width_mm, at)] for at in y]
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=0))
    ax.set(xlim=(0, width_mm), ylim=(bottom_mm, bottom_mm + height_mm), xticks=[], yticks=[], aspect="equal")
    ax.set_facecolor(PAPER)
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_strip(
    ax: Axes,
    ecg: ECG,
    leads: Sequence[str] = ("II", "V2", "V5"),
    seconds: float | None = None,
    colour: str = INK,
    paper: bool = True,
    label: str = "",
    alpha: float = 1.0,
) -> None:
    """Draw some leads of one strip ``(12, T)`` above each other on ECG paper; ``paper=False`` overlays another.

    Coordinates are millimetres of paper: 25 to the second, 10 to the millivolt, ``ROW_MM`` from lead to lead.
    """
    signal = _single(ecg)
    count = signal.shape[-1] if seconds is None else min(signal.shape[-1], round(seconds * ecg.rate_hz))
    x = np.arange(count) / ecg.rate_hz * MM_PER_S
    if paper:
        draw_paper(ax, 5 * np.ceil(count / ecg.rate_hz * MM_PER_S / 5), ROW_MM * len(leads))
    for row, lead in enumerate(leads):
        level = ROW_MM * (len(leads) - row - 0.55)
        trace = signal[LEADS.index(lead), :count]
        ax.plot(x, level + MM_PER_MV * (trace - np.median(trace)), color=colour, lw=0.8, alpha=alpha,
                label=label if row == 0 else None, zorder=3)  # fmt: skip
        if paper:
            _name(ax, 1.5, level + 11, lead, lead in ecg.missing)


def draw_twelve_leads(ecg: ECG, title: str = "", rhythm_lead: str = "II") -> Figure:
    """A figure of the standard sheet (see :func:`draw_sheet`) with a title above and the scale below."""
    from matplotlib.figure import Figure

    width, height = SHEET_MM
    figure = Figure(figsize=((width + 6) / MM_PER_INCH, (height + 14) / MM_PER_INCH), facecolor="white")
    ax = figure.add_axes((3 / (width + 6), 7 / (height + 14), width / (width + 6), height / (height + 14)))
    draw_sheet(ax, ecg, rhythm_lead)
    figure.text(3 / (width + 6), 1 - 5 / (height + 14), title, fontsize=9, color=INK)
    figure.text(1 - 3 / (width + 6), 3 / (height + 14), f"{SCALE}   research only", fontsize=7, color=INK, ha="right")
    return figure


def draw_sheet(ax: Axes, ecg: ECG, rhythm_lead: str = "II") -> None:
    """The standard sheet, ``SHEET_MM`` wide and high: three rows of four leads, 2.5 s each, over a 10 s rhythm strip.

    A lead that is missing is a grey dashed line with its name and "(missing)", never a flat trace, which is asystole.
    """
    signal = _single(ecg)
    width, height = SHEET_MM
    draw_paper(ax, width, height)
    offset = signal - np.median(signal, axis=-1, keepdims=True)
    for row, names in enumerate((*STANDARD_LAYOUT, (rhythm_lead,))):
        level = height - ROW_MM * (row + 0.55)
        _calibration(ax, level)
        piece = 10.0 / len(names)
        for column, lead in enumerate(names):
            first, last = (round(edge * piece * ecg.rate_hz) for edge in (column, column + 1))
            trace = offset[LEADS.index(lead), first:last]
            x = 10 + (first + np.arange(len(trace))) / ecg.rate_hz * MM_PER_S
            if lead in ecg.missing:
                start = 10 + column * piece * MM_PER_S
                ax.plot([start, start + piece * MM_PER_S], [level, level], color=OFF, lw=0.8, ls=(0, (6, 4)), zorder=3)
            else:
                ax.plot(x, level + MM_PER_MV * trace, color=INK, lw=0.8, zorder=3, solid_joinstyle="round")
            _name(ax, 11.5 + column * piece * MM_PER_S, level + 11, lead, lead in ecg.missing)


def _single(ecg: ECG) -> np.ndarray:
    """The signal of one strip ``(12, T)``."""
    if ecg.signal.ndim == 2:
        return ecg.signal
    if len(ecg.signal) == 1:
        return ecg.signal[0]
    raise ValueError(
        f"signal has shape {ecg.signal.shape}; expected one strip (12, T); "
        "choose a row: ECG(ecg.signal[i], ecg.rate_hz)"
    )


def _name(ax: Axes, x: float, y: float, lead: str, missing: bool) -> None:
    words, colour = (f"{lead} (missing)", OFF) if missing else (lead, INK)
    ax.text(x, y, words, fontsize=8, color=colour, va="center", weight="bold", zorder=4,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8})  # fmt: skip


def _calibration(ax: Axes, level: float) -> None:
    """The 1 mV, 0.2 s pulse at the beginning of a row."""
    ax.plot([2, 3, 3, 8, 8, 9], level + np.array([0, 0, 10, 10, 0, 0.0]), color=INK, lw=0.8, zorder=3)
