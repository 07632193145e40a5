"""The table and the picture of a plan say what the plan says."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from planning import ATROPINE, DOFETILIDE, MENU, PLACEBO, Objection, planned, start
from rich.console import Console

from ecg_gym.core import LEADS, WATCH
from planners.plan import Recommendation
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
    output = text(planned(rules=rules, record="somebody"))
    for treatment in {*MENU, WATCH} - {DOFETILIDE}:
        assert str(treatment) in output
    assert "Not allowed: dofetilide 0.5 mg PO (QTc is too long for it)" in output
    assert "1: glaucoma?" in output
    assert "somebody" in output
    assert "Research only" in output


def test_the_table_fits_120_columns_and_keeps_brackets_in_names() -> None:
    output = text(planned(record="night [bold] shift"))
    assert "[bold]" in output
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= 120


def test_ties_are_marked() -> None:
    tied = text(planned(candidates=(PLACEBO,)))
    assert tied.count(" 1= ") == 2
    assert "cannot be told from the best" in tied


def test_one_future_has_dashes_for_what_is_not_known() -> None:
    with pytest.warns(UserWarning, match="lambda"):
        output = text(planned(k=1))
    assert "nan" not in output
    assert "± -" in output


def test_the_picture_shows_twelve_leads_a_rhythm_strip_and_one_line_per_candidate() -> None:
    plan = planned(k=4)
    figure = plan_figure(plan, start())
    beats, *ranking, rhythm = figure.axes
    words = [text.get_text() for text in beats.texts]
    assert set(LEADS) <= set(words)
    assert sum("QT" in word for word in words) == 4, "before and after, under each row"
    assert len(beats.collections) == 12 + 2, "a band of futures in each lead, and two sets of grid lines"
    names = [text.get_text().replace("\n", " ") for text in ranking[0].texts]
    assert names == [str(c.treatment) for c in plan.candidates]
    assert len(rhythm.lines) == 2 * 2, "lead II before and after, each with its pulse"
    for ax in ranking:
        assert any(line.get_linestyle() == "--" for line in ax.lines), "watching's line"
    figure.canvas.draw()


def test_nothing_of_the_picture_is_cut_off() -> None:
    figure = plan_figure(planned(k=3), start())
    for ax in (figure.axes[0], figure.axes[-1]):
        low, high = ax.get_ylim()
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
        assert np.nanmin(values) > low
        assert np.nanmax(values) < high


def test_a_recommendation_is_in_the_title_the_table_and_the_line_below_watching() -> None:
    advice = Recommendation(WATCH, False, "nothing is better", True, "usual")
    plan = replace(planned(k=3), recommendation=advice, findings=("Sinus rhythm",))
    plan = replace(plan, candidates=tuple(sorted(plan.candidates, key=lambda c: bool(c.treatment))))
    title = " ".join(text.get_text() for text in plan_figure(plan, start()).texts)
    for words in (title, text(plan)):
        assert "Recommendation: watch and wait: nothing is better." in " ".join(words.split())
    assert "sinus rhythm" in title
    assert "not better than watching" in " ".join(t.get_text() for t in plan_figure(plan, start()).axes[1].texts)
    assert "not better than" in text(plan)


def test_watching_is_shown_wherever_it_ranks(monkeypatch) -> None:
    monkeypatch.setattr("planners.report.figure.ROWS_SHOWN", 1)
    rows = rows_shown(planned())
    assert [c.treatment for c in rows][1:] == [WATCH]
