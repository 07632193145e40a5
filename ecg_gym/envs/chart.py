"""The chart below the strip: doses over the hours, and the trend of what was read, as on an anaesthetist's sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import Administration
from ecg_gym.risk import LIMITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, WORRY, ALARM, DOSE = "#1c1c24", "#d08700", "#c0392b", "#1f5fa8"
EARLIEST_HOURS = -6.0  # doses before that stand at the left edge
LETTER = 0.017  # width of a letter of the dose panel, in widths of a panel
DRUGS_SHOWN = 7  # rows of the dose panel; the latest ones
LEGEND = "dashed: a limit begins to count in the risk    red: it counts half    x: not measurable    blue: a dose"
PANELS = (  # name of the reading, heading, unit, and the range that is always shown, so that frames do not jump
    ("hr_bpm", "HR", "/min", (30.0, 160.0)),
    ("pr_ms", "PR", "ms", (100.0, 320.0)),
    ("qrs_ms", "QRS", "ms", (60.0, 200.0)),
    ("qtcf_ms", "QTcF", "ms", (340.0, 540.0)),
    ("risk", "risk", "", (0.0, 1.0)),
)


@dataclass(frozen=True)
class Moment:
    """What was read at one time; NaN where it could not be."""

    hours: float  # [h]
    values: Mapping[str, float]  # intervals [ms, bpm] and risk, by the names of PANELS


def draw_chart(
    figure: Any, moments: Sequence[Moment], doses: Sequence[Administration], until_hours: float, sex: str | None = None
) -> None:
    """Six panels of one time axis on ``figure`` (a figure or subfigure): five trends and the doses.

    Dashed lines are where a limit of ``risk/limits.yaml`` begins to count, solid ones where it counts half. A reading
    that could not be made is a gap in its line and a cross at the bottom.
    """
    earliest = min([0.0, *(max(a.hours, EARLIEST_HOURS) for a in doses)])
    axes = figure.subplots(2, 3, gridspec_kw={"left": 0.035, "right": 0.985, "top": 0.86, "bottom": 0.11,
                                              "wspace": 0.13, "hspace": 0.52})  # fmt: skip
    hours_of_doses = [a.hours for a in doses if a.hours >= EARLIEST_HOURS]
    for ax, (name, heading, unit, usual) in zip(axes.flat, PANELS):
        _draw_trend(ax, moments, name, usual, sex)
        ax.set_title(_heading(moments, name, heading, unit), fontsize=10, loc="left", pad=4, color=INK)
    _draw_doses(axes.flat[len(PANELS)], doses, earliest, until_hours)
    for ax in axes.flat:
        for hours in hours_of_doses:
            ax.axvline(hours, color=DOSE, lw=0.7, alpha=0.45, zorder=1)
        ax.set_xlim(earliest - 0.02 * (until_hours - earliest), until_hours * 1.02)
        ax.tick_params(labelsize=8, length=2, pad=2, colors=INK)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    for ax in axes[1]:
        ax.set_xlabel("hours", fontsize=8, labelpad=1)
    figure.text(0.985, 0.965, LEGEND, fontsize=8, ha="right", va="center", color=INK)


def _heading(moments: Sequence[Moment], name: str, heading: str, unit: str) -> str:
    """The last reading in words, with its change since the first."""
    first, last = (m.values.get(name, np.nan) for m in (moments[0], moments[-1]))
    digits = 2 if name == "risk" else 0
    value = f"{last:.{digits}f}" if np.isfinite(last) else "not measurable"
    difference = last - first
    change = f"  ({difference:+.{digits}f})" if len(moments) > 1 and np.isfinite(difference) else ""
    return f"{heading}  {value} {unit if np.isfinite(last) else ''}".rstrip() + change


def _draw_trend(ax: Axes, moments: Sequence[Moment], name: str, usual: tuple[float, float], sex: str | None) -> None:
    hours = np.array([m.hours for m in moments])
    values = np.array([m.values.get(name, np.nan) for m in moments], dtype=float)
    finite = values[np.isfinite(values)]
    low, high = min([usual[0], *finite]), max([usual[1], *finite])
    pad = 0.04 * (high - low)
    ax.set_ylim(low - pad, high + pad)
    ax.locator_params(axis="y", nbins=4)
    for limit in (limit for limit in LIMITS if limit.quantity == name and limit.of == "value"):
        edge = limit.none[sex or "unknown"]
        ax.axhline(edge, color=WORRY, lw=0.8, ls=(0, (4, 3)), zorder=1)
        ax.axhline(limit.half, color=ALARM, lw=0.8, zorder=1)
        beyond = high + pad if limit.side == "high" else low - pad
        ax.axhspan(min(limit.half, beyond), max(limit.half, beyond), color=ALARM, alpha=0.06, lw=0, zorder=0)
    ax.plot(hours, values, color=INK, lw=1.4, marker="o", ms=3.5, zorder=3)
    ax.plot(hours[-1:], values[-1:], color=INK, marker="o", ms=6, zorder=4)
    lost = ~np.isfinite(values)
    ax.plot(hours[lost], np.full(lost.sum(), low), "x", color=ALARM, ms=5, mew=1.2, zorder=4, clip_on=False)


def _draw_doses(ax: Axes, doses: Sequence[Administration], earliest: float, until: float) -> None:
    """A row per drug, the one given last on top; the amount beside each mark, infusions as bars."""
    drugs = list(dict.fromkeys(a.dose.drug for a in sorted(doses, reverse=True)))
    rows = drugs[:DRUGS_SHOWN]
    more = f", {len(drugs) - len(rows)} drugs more" if len(drugs) > len(rows) else ""
    ax.set_title(f"doses{more}" if doses else "no doses so far", fontsize=10, loc="left", pad=4, color=INK)
    ax.set(yticks=[], ylim=(-0.6, DRUGS_SHOWN - 0.3))
    for a in doses:
        if a.dose.drug not in rows:
            continue
        y, at = DRUGS_SHOWN - 1 - rows.index(a.dose.drug), max(a.hours, earliest)
        words = f"{a.dose.drug} {a.dose.amount:g} {a.dose.unit}".replace("_", " ")
        if a.hours < earliest:
            words = f"{words} ({a.hours:g} h)"
        ax.plot([at, at + a.dose.duration_hours], [y, y], color=DOSE, lw=3, solid_capstyle="butt", zorder=3)
        ax.plot(at, y, marker=">" if a.hours >= earliest else "<", color=DOSE, ms=5, zorder=3)
        end = at + a.dose.duration_hours
        fits = (until - end) / (until - earliest) > LETTER * len(words)
        end, aside, align = (end, 6, "left") if fits else (at, -6, "right")
        ax.annotate(words, (end, y), xytext=(aside, 0), textcoords="offset points", fontsize=8, va="center",
                    ha=align, color=INK)  # fmt: skip
