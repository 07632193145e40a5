"""The picture of a plan: beats before and after in all leads, lead II, the ranking, and what it comes down to."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import LEADS, MODEL_RATE_HZ, WATCH, State
from planners.plan import NOTICE, Candidate, Change, Plan
from planners.report import beats as beats_page
from planners.report.words import verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_SHOWN = 14  # of the ranking; watch and wait is always among them
BEST, OTHER, PALE = "#1f5fa8", "0.35", "0.65"
ENLARGED = 1.55  # inches on the screen for an inch of ECG paper
RANKING_INCHES = 6.4
TITLE_INCHES, RHYTHM_MM = 1.35, 250.0
MM_PER_INCH = 25.4
RHYTHMS = (  # a finding that names the rhythm, the first that holds
    "Ventricular tachycardia",
    "Electronic pacemaker",
    "Atrial flutter",
    "Atrial fibrillation",
    "Supraventricular tachycardia with aberrancy",
    "Sinus rhythm",
)


def plan_figure(plan: Plan, state: State | None = None) -> Figure:
    """Median beats of 12 leads before and after the recommended treatment, lead II, and the ranking beside them.

    ``state`` gives the strip before when the plan does not carry it (a plan read back from JSON). Everything is drawn
    on ECG paper at 25 mm/s and 10 mm/mV, enlarged, with a calibration pulse; nothing is cut off.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before = plan.before if plan.before.size or state is None else state.ecg[0]
    beats = beats_page.beats_of(before, plan.samples)
    wide, high = (ENLARGED * mm / MM_PER_INCH for mm in beats_page.size_mm(beats))
    strips = [strip for strip in (before, _one(plan)) if strip is not None and strip.size]
    heights = [_rhythm_mm(strip) for strip in strips]
    low = ENLARGED * (sum(heights) + 2) / MM_PER_INCH
    width = max(wide + RANKING_INCHES, ENLARGED * (RHYTHM_MM + beats_page.PULSE_MM) / MM_PER_INCH) + 0.4
    height = TITLE_INCHES + high + low + 0.55
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    _draw_title(figure, plan, width, height)
    bottom = (0.35 + low + 0.1) / height
    ax = figure.add_axes((0.2 / width, bottom, wide / width, high / height))
    beats_page.draw_beats(ax, beats)
    rows = rows_shown(plan)
    _draw_ranking(figure, rows, plan, ((wide + 0.35) / width, bottom, (width - wide - 0.5) / width, high / height))
    _draw_rhythm(figure, strips, heights, (0.2 / width, 0.33 / height, low / height), width)
    figure.text(
        0.2 / width, 0.12 / height, _small_print(plan, len(plan.candidates) - len(rows)), fontsize=8, color="0.3"
    )
    return figure


def rows_shown(plan: Plan) -> list[Candidate]:
    """The best rows, and watch and wait wherever it stands."""
    rows = list(plan.candidates[:ROWS_SHOWN])
    return rows + [c for c in plan.candidates[ROWS_SHOWN:] if c.treatment == WATCH]


def _one(plan: Plan) -> np.ndarray | None:
    """The future whose risk is the median: neither the best nor the worst one."""
    if not plan.samples.size:
        return None
    risks = np.array(plan.best.risks[: len(plan.samples)])
    return plan.samples[int(np.argsort(risks)[len(risks) // 2])]


def _draw_title(figure: Any, plan: Plan, width: float, height: float) -> None:
    """Who, which rhythm, and the recommendation."""
    who = ", ".join(filter(None, (plan.record, person(plan), rhythm(plan))))
    figure.text(0.2 / width, 1 - 0.28 / height, who, fontsize=13, weight="bold", va="center")
    now = ", ".join(
        f"{name} {plan.intervals.get(key, math.nan):.0f}"
        for name, key in (("HR", "hr_bpm"), ("PR", "pr_ms"), ("QRS", "qrs_ms"), ("QTcF", "qtcf_ms"))
        if math.isfinite(plan.intervals.get(key, math.nan))
    )
    after = f"black: before ({now}); blue: {len(plan.samples)} futures {plan.horizon * plan.dt_hours:g} h after"
    line = f"{after} {plan.best.treatment}: median and where 90 % lie"
    figure.text(0.2 / width, 1 - 0.55 / height, line, fontsize=10.5, va="center", color=BEST)
    words = verdict(plan) or f"Lowest score: {plan.best.treatment}."
    for i, text in enumerate(textwrap.wrap(words, int(width * 10.5))[:3]):
        figure.text(0.2 / width, 1 - (0.82 + 0.2 * i) / height, text, fontsize=10, va="center")


def person(plan: Plan) -> str:
    """The patient in a few words."""
    patient = plan.patient
    age = f"{patient.age_years:.0f} years" if patient.age_years is not None else ""
    levels = [f"{name} {value:g}" for name, value in (("K", patient.potassium), ("Mg", patient.magnesium)) if value]
    words = [age, {"F": "woman", "M": "man"}.get(patient.sex or "", ""), *levels]
    return ", ".join(filter(None, [*words, *(c.replace("_", " ") for c in sorted(patient.conditions))]))


def rhythm(plan: Plan) -> str:
    """The rhythm by its finding, and the other findings; "" where none is likely."""
    rhythms = [name for name in RHYTHMS if name in plan.findings][:1]
    others = [name for name in plan.findings if name not in RHYTHMS]
    return ", ".join([*rhythms, *others]).lower()


def _draw_ranking(figure: Any, rows: list[Candidate], plan: Plan, box: tuple[float, float, float, float]) -> None:
    """S with its interval and the predicted changes, one line per candidate; watching's line through all of them."""
    left, bottom, wide, high = box
    names, gap = 0.36 * wide, 0.02 * wide
    part = (wide - names - 2 * gap) / 3
    axes = [
        figure.add_axes((left + names + i * (part + gap), bottom + 0.09 * high, part, 0.84 * high)) for i in range(3)
    ]
    watching = next(c for c in plan.candidates if c.treatment == WATCH)
    places, line = _places(rows, plan)
    for y, row in zip(places, rows):
        colour = BEST if row is plan.best else OTHER if row.better_than_watching or row.treatment == WATCH else PALE
        _draw_score(axes[0], y, row, colour)
        _draw_change(axes[1], y, row.changes.get("qtcf_ms"), colour)
        _draw_change(axes[2], y, row.changes.get("hr_bpm"), colour)
        label = textwrap.fill(str(row.treatment) + ("" if row.indicated else " †"), 36)
        _name(axes[0], y, label, weight="bold" if row is plan.best else "normal")
    for ax, at in zip(axes, (watching.score, _mean(watching, "qtcf_ms"), _mean(watching, "hr_bpm"))):
        if math.isfinite(at):
            ax.axvline(at, color="black", lw=1.0, ls="--", zorder=1)
        if line is not None:
            ax.axhline(line, color="0.4", lw=0.8)
        ax.set_ylim(max(places[-1], 4) + 0.6, -0.6)
        ax.grid(axis="x", color="0.92", lw=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set_yticks([])
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
    if line is not None:
        _name(axes[0], line, "not better than watching", style="italic", color="0.4", fontsize=7.5)
    for ax, words in zip(axes, ("S (95 %)", "QTcF change [ms]", "HR change [1/min]")):
        ax.set_title(words, fontsize=8.5)


def _places(rows: list[Candidate], plan: Plan) -> tuple[list[float], float | None]:
    """Where each row stands, and the line between watching and what is not better than it."""
    watching = next(i for i, row in enumerate(rows) if row.treatment == WATCH)
    if plan.recommendation is None or watching + 1 >= len(rows):
        return [float(i) for i in range(len(rows))], None
    return [float(i + (i > watching)) for i in range(len(rows))], watching + 1.0


def _name(ax: Axes, y: float, words: str, **how: Any) -> None:
    """Words to the left of a row."""
    ax.text(-0.05, y, words, ha="right", va="center", transform=ax.get_yaxis_transform(), **{"fontsize": 8, **how})


def _mean(row: Candidate, name: str) -> float:
    change = row.changes.get(name)
    return math.nan if change is None else change.mean


def _draw_score(ax: Axes, y: float, row: Candidate, colour: str) -> None:
    ax.plot(row.score_ci, [y, y], color=colour, lw=1.4)
    ax.plot(row.score, y, "o", color=colour, ms=5)


def _draw_change(ax: Axes, y: float, change: Change | None, colour: str) -> None:
    if change is None or not change.n:
        ax.text(0.5, y, "not measurable", fontsize=7, color="0.5", va="center", ha="center",
                transform=ax.get_yaxis_transform())  # fmt: skip
        return
    ax.plot([change.low, change.high], [y, y], color=colour, lw=1.4)
    ax.plot(change.mean, y, "o", color=colour, ms=4)


def _rhythm_mm(strip: np.ndarray) -> float:
    """Height of lead II [mm], whatever it reaches."""
    lead = strip[LEADS.index("II")] - np.nanmedian(strip[LEADS.index("II")])
    finite = lead[np.isfinite(lead)]
    return 10 * float(np.ptp(np.append(finite, [0.0, 1.0]))) + 6 if len(finite) else 16.0


def _draw_rhythm(
    figure: Any, strips: list[np.ndarray], heights: list[float], box: tuple[float, ...], width: float
) -> None:
    """Lead II before (black) and in the median future (blue), 10 s each, with the calibration pulse."""
    from ecg_gym.waveform.plotting import INK, MM_PER_MV, MM_PER_S, draw_paper

    left, bottom, high = box
    total = sum(heights) + 2
    wide = ENLARGED * (RHYTHM_MM + beats_page.PULSE_MM) / MM_PER_INCH / width
    ax = figure.add_axes((left, bottom, wide, high))
    draw_paper(ax, RHYTHM_MM + beats_page.PULSE_MM, total)
    top = total
    for strip, tall, colour in zip(strips, heights, (INK, BEST)):
        lead = strip[LEADS.index("II")] - np.nanmedian(strip[LEADS.index("II")])
        below = -10 * float(np.nanmin(np.append(lead, 0.0)))
        level = top - tall + below + 3
        beats_page.draw_pulse(ax, level)
        x = beats_page.PULSE_MM + np.arange(len(lead)) / MODEL_RATE_HZ * MM_PER_S
        ax.plot(x, level + MM_PER_MV * lead, color=colour, lw=0.9, zorder=3)
        ax.text(beats_page.PULSE_MM + 0.5, top - 2.5, "II", fontsize=9, weight="bold", va="center", color=colour)
        top -= tall


def _small_print(plan: Plan, hidden: int) -> str:
    more = f"{hidden} more not shown. " if hidden else ""
    more += "† no indication. " if any(not row.indicated for row in plan.candidates) else ""
    return (
        f"25 mm/s, 10 mm/mV, enlarged {ENLARGED:g} times. S = {plan.measure} (lower is better), {plan.k} or more "
        f"futures each; dashed: watching. {more}{NOTICE}"
    )
