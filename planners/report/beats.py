"""Typical beats before and after, R-aligned, in all 12 leads, with QT marked: what a drug does in one look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, limb_from_independent
from ecg_gym.waveform.beats import RATE_HZ, Beat, median_beat
from ecg_gym.waveform.delineation import fiducials
from ecg_gym.waveform.plotting import INK, MM_PER_MV, MM_PER_S, draw_paper

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = (LEADS[:6], LEADS[6:])
BEFORE_S = 0.26  # shown before R; P and PR
LEAST_AFTER_S, MOST_AFTER_S = 0.50, 0.76  # shown behind R
MARGIN_S = 0.06  # behind the latest T end
PULSE_MM, GAP_MM, MARGIN_MM = 9.0, 3.0, 3.0  # calibration pulse; between leads; above and below the traces
AFTER = "#1f5fa8"


@dataclass(frozen=True)
class Typical:
    """The typical beat of one strip, all 12 leads, R at 0 s."""

    leads: np.ndarray  # (12, W) [mV] at 500 Hz, 0 at the level before the QRS
    seconds: np.ndarray  # (W,) [s] from R
    onset_s: float  # QRS onset; NaN where not found
    end_s: float  # T end


def typical(strips: np.ndarray) -> list[Typical]:
    """The typical beats of strips ``(B, 12, 1024)`` [mV] on the model grid; those without one are left out."""
    finite = strips[np.isfinite(strips).all(axis=(1, 2))]
    if not len(finite):
        return []
    return [_typical(beat) for beat in median_beat(ECG(finite, MODEL_RATE_HZ)) if beat is not None]


def _typical(beat: Beat) -> Typical:
    marks = fiducials(beat, beat.next_rr_ms)
    seconds = (np.arange(beat.signal.shape[1]) - beat.r) / RATE_HZ
    leads = limb_from_independent(beat.signal)
    level = slice(max(0, beat.r - round(0.10 * RATE_HZ)), max(1, beat.r - round(0.06 * RATE_HZ)))
    leads = leads - np.median(leads[:, level], axis=1, keepdims=True)
    return Typical(leads, seconds, *((at - beat.r) / RATE_HZ for at in (marks.qrs_onset, marks.t_end)))


@dataclass(frozen=True)
class Beats:
    """Beats of one strip before and of many after, on one clock."""

    before: Typical | None
    after: tuple[Typical, ...]

    @property
    def until_s(self) -> float:
        """How far behind R to draw [s]."""
        ends = [b.end_s for b in (*self.after, *([self.before] if self.before else [])) if math.isfinite(b.end_s)]
        return float(np.clip(max(ends, default=0.0) + MARGIN_S, LEAST_AFTER_S, MOST_AFTER_S))

    def curves(self, lead: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Seconds ``(W,)``, the beat before ``(W,)`` [mV], and 5 %, median and 95 % of those after ``(3, W)`` [mV]."""
        seconds = np.arange(-round(BEFORE_S * RATE_HZ), round(self.until_s * RATE_HZ)) / RATE_HZ
        i = LEADS.index(lead)

        def on_clock(beat: Typical) -> np.ndarray:
            return np.interp(seconds, beat.seconds, beat.leads[i], left=np.nan, right=np.nan)

        after = np.stack([on_clock(beat) for beat in self.after]) if self.after else None
        band = None if after is None else np.nanquantile(after, [0.05, 0.5, 0.95], axis=0)
        return seconds, None if self.before is None else on_clock(self.before), band


def beats_of(before: np.ndarray, after: np.ndarray) -> Beats:
    """The typical beats of a strip ``(12, 1024)`` and of futures ``(K, 12, 1024)`` [mV]."""
    first = typical(before[None]) if before.size else []
    return Beats(first[0] if first else None, tuple(typical(after)) if after.size else ())


def size_mm(beats: Beats) -> tuple[float, float]:
    """Width and height of the drawing in millimetres of paper."""
    return PULSE_MM + 6 * _cell_mm(beats), sum(_height_mm(beats, row)[0] for row in ROWS) + 6


def draw_beats(ax: Axes, beats: Beats) -> None:
    """Two rows of six leads on ECG paper: black before; blue the median of the futures and where 90 % of them lie.

    Under each row the QT intervals: from the QRS onset to the T end, before and (median) after.
    """
    width, height = size_mm(beats)
    draw_paper(ax, width, height)
    top = height
    for row in ROWS:
        tall, below = _height_mm(beats, row)
        level = top - tall + below + MARGIN_MM + 3
        draw_pulse(ax, level)
        for column, lead in enumerate(row):
            _draw_lead(ax, beats, lead, PULSE_MM + column * _cell_mm(beats), level, top - 3)
        _mark_qt(ax, beats, PULSE_MM + _cell_mm(beats), top - tall + 2.0)  # below the second lead of the row
        top -= tall


def qt_ms(beat: Typical) -> float:
    """QT of a typical beat [ms]; NaN where it could not be read."""
    return 1000 * (beat.end_s - beat.onset_s)


def _draw_lead(ax: Axes, beats: Beats, lead: str, left: float, level: float, name_at: float) -> None:
    seconds, before, after = beats.curves(lead)
    x = left + (seconds - seconds[0]) * MM_PER_S
    if after is not None:
        low, middle, high = level + MM_PER_MV * after
        ax.fill_between(x, low, high, color=AFTER, alpha=0.25, lw=0, zorder=2)
        ax.plot(x, middle, color=AFTER, lw=1.3, zorder=4)
    if before is not None:
        ax.plot(x, level + MM_PER_MV * before, color=INK, lw=1.1, zorder=3)
    ax.text(left + 0.5, name_at, lead, fontsize=9, weight="bold", va="center", zorder=5)


def _mark_qt(ax: Axes, beats: Beats, left: float, y: float) -> None:
    """One bar per QT below a lead, with its length in words."""
    start = left + BEFORE_S * MM_PER_S
    rows: Sequence[tuple[str, float, float, float]] = []
    if beats.before is not None and math.isfinite(qt_ms(beats.before)):
        rows = [(INK, beats.before.onset_s, beats.before.end_s, y + 2.4)]
    read = [(b.onset_s, b.end_s) for b in beats.after if math.isfinite(qt_ms(b))]
    if read:
        onset, end = np.median(np.array(read), axis=0)
        rows = [*rows, (AFTER, float(onset), float(end), y)]
    for colour, onset, end, at in rows:
        x = [start + onset * MM_PER_S, start + end * MM_PER_S]
        ax.plot(x, [at, at], color=colour, lw=1.6, solid_capstyle="butt", zorder=5, marker="|", ms=5)
        ax.text(x[1] + 1, at, f"QT {1000 * (end - onset):.0f} ms", fontsize=7.5, color=colour, va="center", zorder=6)


def draw_pulse(ax: Axes, level: float) -> None:
    """The calibration pulse: 1 mV for 0.2 s."""
    ax.plot([1, 1.8, 1.8, 6.8, 6.8, 7.6], level + np.array([0, 0, 10, 10, 0, 0.0]), color=INK, lw=0.9, zorder=3)


def _cell_mm(beats: Beats) -> float:
    return (BEFORE_S + beats.until_s) * MM_PER_S + GAP_MM


def _height_mm(beats: Beats, row: Sequence[str]) -> tuple[float, float]:
    """Height of a row of leads with its QT bars, and how far its traces go below the level [mm]."""
    high, low = 10.0, 0.0  # the pulse
    for lead in row:
        _, before, after = beats.curves(lead)
        for curve in (before, after):
            if curve is not None and np.isfinite(curve).any():
                high = max(high, float(np.nanmax(curve)) * MM_PER_MV)
                low = max(low, -float(np.nanmin(curve)) * MM_PER_MV)
    return high + low + 2 * MARGIN_MM + 7, low
