"""The picture of a plan: the strip now, what it may look like after, and the ranking behind the choice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import LEADS, MODEL_RATE_HZ, WATCH, State
from planners.plan import NOTICE, Candidate, Change, Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_SHOWN = 14  # of the ranking; watch and wait is always among them
PANEL_SECONDS, GAP_MM = 2.5, 2.5  # of each lead, as on a printed strip; between leads
BEST, OTHER = "#1f5fa8", "0.55"
RANKING = {"width_ratios": (2.2, 1.2, 1.2), "wspace": 0.05, "left": 0.24, "right": 0.98}
STRIPS_INCHES, RANKING_INCHES, ROW_INCHES = 4.9, 1.3, 0.28  # heights: the strips, the frame of the ranking, each row


def plan_figure(plan: Plan, state: State | None = None) -> Figure:
    """The strip before on ECG paper with the best candidate's futures over it; below, the ranking and what it rests on.

    ``state`` gives the strip before when the plan does not carry it (a plan read back from JSON).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before = plan.before if plan.before.size or state is None else state.ecg[0]
    rows = rows_shown(plan)
    low = RANKING_INCHES + ROW_INCHES * len(rows)
    figure = Figure(figsize=(14, STRIPS_INCHES + low))
    FigureCanvasAgg(figure)
    halves = figure.add_gridspec(2, 1, height_ratios=(STRIPS_INCHES, low))
    _draw_strips(figure.add_subfigure(halves[0]), before, plan.samples, plan)
    _draw_ranking(figure.add_subfigure(halves[1]), low, rows, plan)
    return figure


def rows_shown(plan: Plan) -> list[Candidate]:
    """The best rows, and watch and wait wherever it stands."""
    rows = list(plan.candidates[:ROWS_SHOWN])
    return rows + [c for c in plan.candidates[ROWS_SHOWN:] if c.treatment == WATCH]


def _draw_strips(figure: Any, before: np.ndarray, samples: np.ndarray, plan: Plan) -> None:
    """Twelve leads in three rows of four, 2.5 s each; all strips begin at the same distance before an R peak."""
    from ecg_gym.waveform.plotting import MM_PER_MV, MM_PER_S, ROW_MM, STANDARD_LAYOUT, draw_paper

    n = int(PANEL_SECONDS * MODEL_RATE_HZ)
    x, panel = np.arange(n) / MODEL_RATE_HZ * MM_PER_S, PANEL_SECONDS * MM_PER_S + GAP_MM
    ax = figure.add_axes((0.02, 0.01, 0.96, 0.91))
    draw_paper(ax, 4 * panel - GAP_MM, 3 * ROW_MM)
    for row, names in enumerate(STANDARD_LAYOUT):
        for column, lead in enumerate(names):
            level, start, i = ROW_MM * (2.45 - row), column * panel, LEADS.index(lead)
            strips = [(strip, BEST, 0.8 if k == 0 else 0.2, 3) for k, strip in enumerate(samples[:, i])]
            for strip, color, alpha, order in [*strips, (before[i], "black", 1.0, 4)]:
                millimetres = level + MM_PER_MV * (strip - np.median(strip))  # NaN draws nothing
                ax.plot(start + x, millimetres[:n], color=color, alpha=alpha, lw=0.8, zorder=order)
            ax.text(start + 1.5, level + 11, lead, weight="bold", fontsize=9, va="center", zorder=5)
    tied = f"  (tied with {len(plan.tied) - 1} more)" if len(plan.tied) > 1 else ""
    figure.text(0.02, 0.955, f"{plan.record}   black: before".strip(), fontsize=12, va="center")
    after = f"{plan.horizon * plan.dt_hours:g} h after {plan.best.treatment}{tied}"
    words = f"blue: {len(samples)} futures (one of them darker) {after}"
    figure.text(0.98, 0.955, words, fontsize=12, va="center", ha="right", color=BEST)


def _draw_ranking(figure: Any, inches: float, visible: list[Candidate], plan: Plan) -> None:
    """Mean risk with SD, S with its interval, and the predicted changes of QTcF and rate, one line per candidate."""
    frame = {"top": 1 - 0.15 / inches, "bottom": 0.9 / inches}
    axes = figure.subplots(1, 3, sharey=True, gridspec_kw={**RANKING, **frame})
    for y, row in enumerate(visible):
        color = BEST if row.tie == plan.best.tie else OTHER
        _draw_risk(axes[0], y, row, color)
        _draw_change(axes[1], y, row.changes.get("qtcf_ms"), color)
        _draw_change(axes[2], y, row.changes.get("hr_bpm"), color)
    axes[0].set_yticks(range(len(visible)), [str(c.treatment) for c in visible], fontsize=9)
    axes[0].set_ylim(len(visible) - 0.4, -0.6)
    axes[0].axvline(plan.risk_now, color="black", lw=0.8, ls=":")
    axes[0].set_xlabel(f"risk: bar mean ± SD, dot S = {plan.measure} with 95 % interval, dotted: now")
    axes[1].set_xlabel("change of QTcF [ms], 5-95 %")
    axes[2].set_xlabel("change of rate [bpm], 5-95 %")
    for ax in axes[1:]:
        ax.axvline(0, color="black", lw=0.8, ls=":")
    for ax in axes:
        ax.grid(axis="x", color="0.9", lw=0.6)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    hidden = len(plan.candidates) - len(visible)
    more = f"  {hidden} more not shown." if hidden else ""
    figure.text(
        0.02, 0.15 / inches, f"Blue rows cannot be told from the best.{more}  {NOTICE}", fontsize=9, color="0.3"
    )


def _draw_risk(ax: Axes, y: int, row: Candidate, color: str) -> None:
    spread = 0.0 if math.isnan(row.sd) else row.sd
    ax.plot([max(row.mean - spread, 0), row.mean + spread], [y, y], color=color, lw=6, alpha=0.3, solid_capstyle="butt")
    ax.plot([row.mean, row.mean], [y - 0.22, y + 0.22], color=color, lw=1.5)
    ax.plot(row.score_ci, [y, y], color=color, lw=1.2)
    ax.plot(row.score, y, "o", color=color, ms=5)


def _draw_change(ax: Axes, y: int, moved: Change | None, color: str) -> None:
    if moved is None or not moved.measured:
        ax.text(0, y, "not measurable", fontsize=7, color="0.5", va="center", ha="center")
        return
    ax.plot([moved.low, moved.high], [y, y], color=color, lw=1.2)
    ax.plot(moved.mean, y, "o", color=color, ms=4)
