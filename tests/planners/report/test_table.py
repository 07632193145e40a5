"""The table and the picture of a plan say what the plan says."""

from __future__ import annotations

import io

import pytest
from planning import ATROPINE, DOFETILIDE, MENU, PLACEBO, Objection, planned, start
from rich.console import Console

from ecg_gym.core import LEADS, WATCH
from planners.report.figure import rows_shown
from planners.report.table import plan_figure, plan_table


def text(plan, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(plan_table(plan))
    return console.export_text()


def rules(treatment, *_args, **_kwargs):
    if treatment == DOFETILIDE:
        return [Objection("QTc is too long for it", hard=True)]
    return [Objection("glaucoma?", hard=False)] if treatment == ATROPINE else []


def test_the_table_tells_every_candidate_the_remarks_and_what_is_not_allowed() -> None:
    said = text(planned(rules=rules, record="somebody"))
    for treatment in {*MENU, WATCH} - {DOFETILIDE}:
        assert str(treatment) in said
    assert "Not allowed: dofetilide 0.5 mg PO (QTc is too long for it)" in said
    assert "1: glaucoma?" in said
    assert "somebody" in said
    assert "Research only" in said


def test_the_table_fits_120_columns_and_keeps_brackets_in_names() -> None:
    said = text(planned(record="night [bold] shift"))
    assert "[bold]" in said
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 120


def test_ties_are_marked() -> None:
    tied = text(planned(candidates=(PLACEBO,)))
    assert tied.count(" 1= ") == 2
    assert "cannot be told from the best" in tied


def test_one_future_has_dashes_for_what_is_not_known() -> None:
    with pytest.warns(UserWarning, match="lambda"):
        said = text(planned(k=1))
    assert "nan" not in said
    assert "± -" in said


def test_the_picture_shows_twelve_leads_all_futures_and_one_line_per_candidate() -> None:
    plan = planned(k=4)
    figure = plan_figure(plan, start())
    strips, *ranking = [ax for half in figure.subfigs for ax in half.axes]
    assert len(strips.lines) == 12 * (4 + 1), "in each lead four futures and the strip before"
    assert {text.get_text() for text in strips.texts} == set(LEADS)
    names = [label.get_text() for label in ranking[0].get_yticklabels()]
    assert names == [str(c.treatment) for c in plan.candidates]
    figure.canvas.draw()


def test_watching_is_shown_wherever_it_ranks(monkeypatch) -> None:
    monkeypatch.setattr("planners.report.figure.ROWS_SHOWN", 1)
    rows = rows_shown(planned())
    assert [c.treatment for c in rows][1:] == [WATCH]
