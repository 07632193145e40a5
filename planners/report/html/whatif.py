"""Branches: the best treatments followed over the hours, and a second treatment a step later."""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.core import Treatment
from planners.report.html import charts
from planners.report.html.markup import Markup, Piece, tag
from planners.report.html.sections import INTERVALS, section
from planners.report.html.story import SECOND_K, Story
from planners.report.table import number


def whatif(story: Story) -> Markup:
    """Branches: the best followed over the hours, and a second treatment a step later."""
    plan, lines = story.plan, story.lines
    hours = plan.dt_hours * np.arange(len(lines[0].risks) + 1)
    samples = []
    for key, name, unit in (("risk", "risk", ""), *INTERVALS):
        start = plan.risk_now if key == "risk" else plan.intervals.get(key, math.nan)
        rows = [np.vstack([np.full(plan.k, start), b.risks if key == "risk" else b.intervals[key]]) for b in lines]
        fans = [charts.fan(str(b.course[0]), hours, values, i) for i, (b, values) in enumerate(zip(lines, rows))]
        visible = [x for fan in fans for x in (fan.y, fan.low, fan.high) if x is not None]
        y = (0.0, 1.0) if key == "risk" else charts.span(visible, 20.0)
        alt = f"{name} over {hours[-1]:g} h: " + "; ".join(f"{f.name} {_path(f.y, key)}" for f in fans)
        title = f"{name} [{unit}]" if unit else name
        frame = charts.Frame((0.0, float(hours[-1])), y)
        samples.append(charts.chart(frame, title, "hours", fans, alt, key, story.patient.sex))
    caption = (
        "Given now, then watched. Line: median of the futures; whiskers: where 90 % of them lie. All branches share "
        "their random numbers, so that they differ by the treatment and not by luck. Dashed amber: a limit begins to "
        "count in the risk; red: it counts half."
    )
    parts: list[Piece] = [tag("p", caption, class_="soft"), charts.legend([str(b.course[0]) for b in lines]),
                          tag("div", *samples, class_="charts")]  # fmt: skip
    if story.pairs:
        parts.append(_pairs(story))
    return section("what-if", "And then? Branches over the hours", *parts)


def _pairs(story: Story) -> Markup:
    """The second step: mean risk over all hours of a treatment now and another one a step later."""
    courses = [*story.pairs, *story.barred]
    firsts = list(dict.fromkeys(c[0] for c in courses))
    seconds = list(dict.fromkeys(c[1] for c in sorted(courses, key=lambda c: (not c[1], str(c[1])))))
    least = {f: min((b.mean for c, b in story.pairs.items() if c[0] == f), default=math.nan) for f in firsts}
    steps = len(story.lines[0].risks)
    head = [tag("th", "now", scope="col", class_="words"), *(tag("th", s, scope="col") for s in seconds)]
    rows = [
        tag("tr", tag("th", f, scope="row"), *(_pair(story, (f, s), least[f]) for s in seconds)) for f in firsts
    ]  # fmt: skip
    hours, k = story.plan.dt_hours, min(story.plan.k, SECOND_K)
    caption = (
        f"Mean risk ± SD over {steps * hours:g} h when one thing is given now and another {hours:g} h later "
        f"({k} futures each). Bold: the least of a row. Where the rules would forbid the "
        "second in any future it is not followed."
    )
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), aria_label="Second treatments")
    why = [
        tag("li", f"{first}, then {second}: {'; '.join(result.reasons)} ({result.futures} of {k} futures)")
        for (first, second), result in story.barred.items()
    ]
    return tag(
        "div", tag("h3", f"A second treatment, {hours:g} h later"), tag("p", caption, class_="soft"),
        tag("div", table, class_="scroll"), [tag("p", "Not followed:"), tag("ul", *why)] if why else None,
    )  # fmt: skip


def _pair(story: Story, course: tuple[Treatment, Treatment], least: float) -> Markup:
    if course in story.barred:
        return tag("td", "not allowed", class_="barred")
    branch = story.pairs[course]
    lost = int((~branch.alive[-1]).sum())
    return tag(
        "td", f"{branch.mean:.3f}", tag("small", f"± {number(branch.sd, '.3f')}"),
        tag("small", f"lethal in {lost}") if lost else None, class_="least" if branch.mean <= least else None,
    )  # fmt: skip


def _path(values: np.ndarray, key: str) -> str:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "not measurable"
    digits = 2 if key == "risk" else 0
    return f"from {finite[0]:.{digits}f} to {finite[-1]:.{digits}f}"
