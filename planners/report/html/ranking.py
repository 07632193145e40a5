"""The ranking: a slider for lambda, S against lambda, and the table that both reorder in the browser."""

from __future__ import annotations

import math

import numpy as np

from planners.plan import Candidate, Change, Plan
from planners.report.html import charts
from planners.report.html.markup import Markup, join, tag
from planners.report.html.sections import INTERVALS, section
from planners.report.table import LAMBDA_SHOWN, number, preference, remarks
from planners.report.words import below_line, verdict

HIGHLIGHTED = charts.SERIES  # lines of the chart of S against lambda that have a colour
LAMBDA_MOST = 3.0  # right end of slider and chart; the number field goes further
BAR = {"left": 4.0, "width": 182.0}  # pixels of the risk axis in the ranking


def ranking(plan: Plan) -> Markup:
    """Slider, chart of S against lambda, and the table that both reorder."""
    label = tag("label", "λ, weight of the spread in S = mean risk + λ × SD", for_="lambda")
    slider = tag("input", type="range", id="lambda", min=0, max=LAMBDA_MOST, step=0.01, value=plan.risk_aversion)
    field = tag("input", type="number", id="lambda-number", min=0, max=100, step=0.01, value=plan.risk_aversion,
                aria_label="λ as a number")  # fmt: skip
    reset = tag("button", f"back to {plan.risk_aversion:g}", id="lambda-reset", type="button")
    most = bar_most(plan)
    headings = ("", "treatment", "risk ± SD", "S, 95 %", "S − best, paired 95 %", f"risk from 0 to {most:g}",
                *(f"{name} [{unit}] 5–95 %" for _, name, unit in INTERVALS), "note")  # fmt: skip
    head = [tag("th", h, scope="col", class_="words" if h in ("treatment", "note") else None) for h in headings]
    body = [_ranked(i, c, plan, most) for i, c in enumerate(plan.candidates)]
    caption = (
        f"{plan.k} futures each, {plan.horizon * plan.dt_hours:g} h ahead; lower S is better. Coloured rows, "
        "marked =, cannot be told from the best: their paired 95 % interval of the difference holds 0. Bars: mean ± SD "
        "of risk; dot: S with its interval; dotted: risk before. Pale rows are not better than watching. HR to QTcF: "
        "predicted change, and where 90 % of the futures lie."
    )
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), id="ranking", aria_label="Ranking")
    stretches = [p for p in plan.preferences if p.low <= LAMBDA_SHOWN]
    exact = tag("p", "Best by λ, exactly: ", "; ".join(map(preference, stretches)), ".", class_="soft")
    return section(
        "ranked", "Ranking", _verdict(plan), tag("div", label, slider, field, reset, class_="control"),
        tag("output", id="said", for_="lambda lambda-number", aria_live="polite"), _lambda_chart(plan), exact,
        tag("p", caption, class_="soft"),
        tag("div", table, class_="scroll"), [tag("p", w, class_="warning") for w in plan.warnings],
    )  # fmt: skip


def _verdict(plan: Plan) -> Markup:
    """The recommendation, and what is no candidate because nothing indicates it."""
    parts = [tag("p", verdict(plan), class_="verdict")] if plan.recommendation is not None else []
    if plan.unindicated:
        drugs = dict.fromkeys(dose.drug for u in plan.unindicated for dose in u.treatment.doses)
        parts.append(tag("p", f"No candidates, because nothing indicates them: {', '.join(drugs)}.", class_="soft"))
    return join(parts)


def bar_most(plan: Plan) -> float:
    """Right end of the risk axis in the ranking, for any lambda the slider reaches."""
    reached = [c.mean + LAMBDA_MOST * (c.sd if math.isfinite(c.sd) else 0.0) for c in plan.candidates]
    return max(0.1, min(1.0, math.ceil(10 * max(*reached, plan.risk_now)) / 10))


def lambda_frame(plan: Plan) -> charts.Frame:
    """Where the chart of S against lambda stands; the script needs it to move the mark."""
    ends = [c.mean + at * (c.sd if math.isfinite(c.sd) else 0.0) for c in plan.candidates for at in (0, LAMBDA_MOST)]
    return charts.Frame((0.0, LAMBDA_MOST), charts.span([np.array(ends)], 0.05), width=900, height=280)


def _ranked(i: int, row: Candidate, plan: Plan, most: float) -> Markup:
    tied = row.tie == plan.best.tie
    place = f"{1 if tied else i + 1}{'=' if tied and len(plan.tied) > 1 else ''}"
    first = row is plan.best
    cells = [
        tag("td", place, class_="place"),
        tag("th", row.treatment, scope="row"),
        tag("td", f"{row.mean:.3f}", tag("small", f"± {number(row.sd, '.3f')}")),
        tag("td", tag("span", f"{row.score:.3f}", class_="s"), tag("small", _span(row.score_ci), class_="s-ci")),
        tag("td", tag("span", "best" if first else f"{row.difference:+.3f}", class_="d"),
            tag("small", "" if first else _span(row.difference_ci), class_="d-ci")),
        tag("td", _bar(row, plan, most), class_="bar"),
        *(_change(row.changes.get(key)) for key, _, _ in INTERVALS),
        tag("td", "; ".join(remarks(row)), class_="words"),
    ]  # fmt: skip
    kinds = [name for name, holds in (("best", tied), ("below", below_line(row, plan))) if holds]
    return tag("tr", *cells, data_i=i, class_=" ".join(kinds) or None)


def _bar(row: Candidate, plan: Plan, most: float) -> Markup:
    """Mean ± SD as a bar, S as a dot with a whisker; the script moves the last two."""

    def at(x: float) -> str:
        return f"{BAR['left'] + BAR['width'] * min(max(x, 0.0), most) / most:.2f}"

    sd = row.sd if math.isfinite(row.sd) else 0.0
    low, high = row.score_ci if math.isfinite(row.score_ci[0]) else (row.score, row.score)
    return tag(
        "svg", tag("line", x1=at(plan.risk_now), x2=at(plan.risk_now), y1=0, y2=26, class_="today"),
        tag("line", x1=at(row.mean - sd), x2=at(row.mean + sd), y1=13, y2=13, class_="spread"),
        tag("line", x1=at(row.mean), x2=at(row.mean), y1=7, y2=19, class_="mean"),
        tag("line", x1=at(low), x2=at(high), y1=13, y2=13, class_="whisker"),
        tag("circle", cx=at(row.score), cy=13, r=4, class_="score"), viewBox="0 0 190 26", aria_hidden="true",
    )  # fmt: skip


def _lambda_chart(plan: Plan) -> Markup:
    """S of every candidate against lambda: straight lines, whose lower envelope is the ranking's first place."""
    frame = lambda_frame(plan)
    treatments = list(dict.fromkeys([p.treatment for p in plan.preferences] + [c.treatment for c in plan.candidates]))
    coloured = treatments[:HIGHLIGHTED]
    by_name = {c.treatment: c for c in plan.candidates}
    x = np.array([0.0, LAMBDA_MOST])
    lines = [
        charts.Line(str(t), x, by_name[t].mean + x * np.nan_to_num(by_name[t].sd), kind=i)
        for i, t in enumerate(coloured)
    ]
    grey = [c for c in plan.candidates if c.treatment not in coloured]
    others = [charts.Line(str(c.treatment), x, c.mean + x * np.nan_to_num(c.sd), kind=-1) for c in grey]
    names = [str(t) for t in coloured]
    alt = f"S against λ from 0 to {LAMBDA_MOST:g}, a straight line per treatment; lowest: " + "; ".join(
        preference(p) for p in plan.preferences if p.low <= LAMBDA_MOST
    )
    at = frame.at(min(plan.risk_aversion, LAMBDA_MOST), 0)[0]
    mark = tag("line", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=frame.top, y2=frame.height - frame.bottom, class_="now")
    samples = charts.chart(frame, "S against λ: lines that cross change places", "λ", [*others, *lines], alt,
                         over=[mark], id="lines")  # fmt: skip
    return join(
        [samples, charts.legend(names), tag("p", "Grey: all other candidates.", class_="soft") if grey else None]
    )


def _change(change: Change | None) -> Markup:
    if change is None or not change.n:
        return tag("td", "-")
    return tag("td", f"{change.mean:+.0f}", tag("small", f"{change.low:+.0f} to {change.high:+.0f}"))


def _span(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}" if math.isfinite(pair[0]) else "-"
