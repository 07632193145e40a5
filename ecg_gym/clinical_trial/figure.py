"""The picture of a trial: six endpoints over time, an arm a line, 95 % intervals around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.clinical_trial.endpoints import ENDPOINTS
from ecg_gym.clinical_trial.protocol import Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_SPAN = 5.0  # of an axis, in the endpoint's unit
PANELS = ("HR", "PR", "QRS", "QTcF", "JTpeakc", "TpTe")
COLOURS = ("#3b6fb6", "#c8553d", "#2f8f6b", "#8a5fa8", "#b8860b", "#4a4a55", "#d16ba5", "#5aa9b8")


def trial_figure(protocol: Protocol, summary: Sequence[Mapping[str, Any]]) -> Figure:
    """Placebo-corrected time courses of the active arms (changes from baseline where there is no placebo)."""
    from matplotlib.figure import Figure

    effect = "placebo_corrected" if protocol.placebo else "change_from_baseline"
    visible = [name for name in PANELS if name in protocol.endpoints] or list(protocol.endpoints)[:6]
    arms = [arm for arm in protocol.arms if arm.name != protocol.placebo or effect != "placebo_corrected"]
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = np.atleast_1d(figure.subplots(2, 3, sharex=True)).ravel()
    for ax, endpoint in zip(grid, visible):
        for arm, colour in zip(arms, COLOURS * (1 + len(arms) // len(COLOURS))):
            rows = [r for r in summary if (r["effect"], r["arm"], r["endpoint"]) == (effect, arm.name, endpoint)]
            draw_course(ax, rows, colour, arm.label)
        finish(ax, f"{ENDPOINTS[endpoint].title} [{ENDPOINTS[endpoint].unit}]")
        _look_at_means(ax, [r for r in summary if (r["effect"], r["endpoint"]) == (effect, endpoint)])
    for ax in grid[len(visible) :]:
        ax.set_visible(False)
    for ax in grid[3:]:
        ax.set_xlabel("hours after the first dose")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize=9)
    what = "placebo-corrected change from baseline" if protocol.placebo else "change from baseline"
    figure.suptitle(f"{protocol.title or protocol.name}: {what}, mean and 95 % interval", fontsize=11)
    return figure


def _look_at_means(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Limits that show the means and, unless a handful of people make them huge, the intervals."""
    means = [0.0, *(row["mean"] for row in rows if row["mean"] is not None)]
    if len(means) == 1:
        ax.text(0.5, 0.5, "nothing to measure", transform=ax.transAxes, ha="center", color="#9a9aa5", fontsize=9)
        return
    span = max(max(means) - min(means), _LEAST_SPAN)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, min(means) - span), min(high, max(means) + span))


def draw_course(
    ax: Axes, rows: Sequence[Mapping[str, Any]], colour: str, label: str, prefix: str = "", dashed: bool = False
) -> None:
    """One line with its interval; ``prefix`` picks the columns."""
    rows = [row for row in rows if row[f"{prefix}mean"] is not None]
    if not rows:
        return
    hours = [row["hour"] for row in rows]
    ax.plot(hours, [row[f"{prefix}mean"] for row in rows], color=colour, lw=1.5, label=label, marker="o", ms=2.5,
            ls="--" if dashed else "-")  # fmt: skip
    bands = [row for row in rows if row[f"{prefix}ci_low"] is not None]
    ax.fill_between(
        [row["hour"] for row in bands], [row[f"{prefix}ci_low"] for row in bands],
        [row[f"{prefix}ci_high"] for row in bands], color=colour, alpha=0.16, lw=0,
    )  # fmt: skip


def finish(ax: Axes, title: str) -> None:
    """Title, a line at no effect, no frame."""
    ax.axhline(0, color="#9a9aa5", lw=0.8, zorder=0)
    ax.set_title(title, fontsize=10, loc="left")
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
