"""A plan for people: ``plan_table`` for the terminal, ``plan_figure`` for the eye. Both say what is tied or unknown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planners.plan import NOTICE, Candidate, Change, Plan, Preference
from planners.report.figure import plan_figure
from planners.report.words import below_line, verdict

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["plan_figure", "plan_table"]
COLUMNS = (("hr_bpm", "HR", "bpm"), ("pr_ms", "PR", "ms"), ("qrs_ms", "QRS", "ms"), ("qtcf_ms", "QTcF", "ms"))
LAMBDA_SHOWN = 5.0  # winners that need more risk aversion than this are in the JSON only


def plan_table(plan: Plan) -> Table:
    """A rich table, best first, two lines a row: the number, and below it its spread or interval. Fits 120 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text  # plain text: a bracket in a record's name is no markup

    notes = marked_notes(plan)
    table = Table(
        title=Text(title(plan)),
        caption=Text(footnotes(plan)),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    table.add_column("treatment", overflow="fold", min_width=18)
    for heading in ("risk\n± SD", "S\n95 %", "S - best", *(f"{short} {unit}\n5-95 %" for _, short, unit in COLUMNS)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("note")
    first_below = next((row for row in plan.candidates if below_line(row, plan)), None)
    for place, row in enumerate(plan.candidates, start=1):
        if row is first_below:
            table.add_row("", Text("not better than watching"), style="dim", end_section=False)
        tied = row.tie == plan.best.tie
        mark = "=" if tied and len(plan.tied) > 1 else ""
        cells = (
            f"{1 if tied and not below_line(row, plan) else place}{mark}",
            str(row.treatment),
            f"{row.mean:.3f}\n± {number(row.sd, '.3f')}",
            f"{row.score:.3f}\n{span(row.score_ci, '.3f')}",
            "" if row is plan.best else f"{row.difference:+.3f}",
            *(change(row.changes.get(name)) for name, _, _ in COLUMNS),
            " ".join(str(notes.index(sentence) + 1) for sentence in remarks(row)),
        )
        table.add_row(*map(Text, cells), style="bold" if tied else None)
    return table


def title(plan: Plan) -> str:
    """What was asked, in one line."""
    whose = f"{plan.record}: " if plan.record else ""
    return (
        f"{whose}{len(plan.candidates)} treatments, {plan.k} futures each, {plan.horizon} x {plan.dt_hours:g} h, "
        f"S = {plan.measure} (lower is better)"
    )


def footnotes(plan: Plan) -> str:
    """What a reader must know to read the table right."""
    now = ", ".join(f"{short} {number(plan.intervals.get(name, math.nan), '.0f')}" for name, short, _ in COLUMNS)
    lines = [verdict(plan)] if plan.recommendation else []
    lines += [f"Before: {now}; risk {plan.risk_now:.3f}. HR, PR, QRS, QTcF: predicted changes over the futures."]
    lines += dict.fromkeys(f"Given for {sentence}" for row in plan.candidates for sentence in row.indications)
    lines += [f"{i}: {sentence}" for i, sentence in enumerate(marked_notes(plan), start=1)]
    for reasons in dict.fromkeys(e.reasons for e in plan.excluded):
        alike = ", ".join(str(e.treatment) for e in plan.excluded if e.reasons == reasons)
        lines.append(f"Not allowed: {alike} ({'; '.join(reasons)})")
    if plan.unindicated:
        drugs = dict.fromkeys(dose.drug for u in plan.unindicated for dose in u.treatment.doses)
        lines.append(f"No indication, so no candidates (--drugs or --all-drugs has them): {', '.join(drugs)}")
    if len(stretches := [p for p in plan.preferences if p.low <= LAMBDA_SHOWN]) > 1:
        lines.append("Best by lambda: " + ", ".join(map(preference, stretches)) + ".")
    if len(plan.tied) > 1:
        lines.append("Rows with = cannot be told from the best: their paired 95 % interval of the difference holds 0.")
    return "\n".join([*lines, *plan.outside, *plan.warnings, NOTICE])


def marked_notes(plan: Plan) -> list[str]:
    """Every remark once, in the order of the ranking; the table refers to them by number."""
    return list(dict.fromkeys(sentence for row in plan.candidates for sentence in remarks(row)))


def preference(stretch: Preference) -> str:
    """One stretch of lambda and who wins on it."""
    until = f"to {stretch.high:.2g}" if math.isfinite(stretch.high) else "upwards"
    return f"{stretch.treatment} from {stretch.low:.2g} {until}"


def remarks(row: Candidate) -> list[str]:
    """What speaks against a candidate, and what went wrong in its futures."""
    sentences = list(row.remarks)
    if not row.indicated:
        sentences.append(f"no indication: {', '.join(dict.fromkeys(dose.drug for dose in row.treatment.doses))}")
    if row.n_lethal:
        sentences.append(f"lethal in {row.n_lethal} of {len(row.risks)} futures")
    if row.n_nonfinite:
        sentences.append(f"{row.n_nonfinite} of {len(row.risks)} futures not finite")
    return sentences


def change(shift: Change | None) -> str:
    """A predicted change and below it where 90 % of the futures lie, or a dash."""
    if shift is None or not shift.n:
        return "-"
    return f"{shift.mean:+.0f}\n{shift.low:+.0f} to {shift.high:+.0f}"


def number(value: float, form: str) -> str:
    """A number, or a dash for one that is not known."""
    return format(value, form) if math.isfinite(value) else "-"


def span(pair: tuple[float, float], form: str) -> str:
    """An interval, or a dash."""
    return f"{pair[0]:{form}}-{pair[1]:{form}}" if math.isfinite(pair[0]) else "-"
