"""A second opinion: the leading candidates again, with another's findings; disagreement is shown, nothing reranked."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
from planning import ATROPINE, DOFETILIDE, METOPROLOL, MOXIFLOXACIN, PLACEBO, no_rules, start
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from ecg_gym.risk import FINDINGS, RiskModel
from ecg_gym.waveform.intervals import Intervals
from planners.advice import advise
from planners.facts import facts_of_state
from planners.plan import jsonable
from planners.report.table import footnotes
from planners.second_opinion import MOST, second_opinion

MENU = (WATCH, DOFETILIDE, ATROPINE, METOPROLOL, MOXIFLOXACIN, PLACEBO)
VT = FINDINGS.index("Ventricular tachycardia")


class Constant:
    """Findings that do not depend on the strip, but on how often it was asked."""

    name, sha256 = "constant", "abc"

    def __init__(self, probabilities: list[float]) -> None:
        self.left = list(probabilities)
        self.sizes: list[int] = []

    def probabilities(
        self, strips: np.ndarray, deterministic: str | None = None, intervals: Intervals | None = None
    ) -> np.ndarray:
        result = np.zeros((len(strips), len(FINDINGS)))
        result[:, VT] = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        self.sizes.append(len(strips))
        return result

    seen: ClassVar[float] = 0.25

    def beyond_findings(self, strips: np.ndarray) -> dict[str, np.ndarray]:
        return {"PROLONGED QT": np.full(len(strips), self.seen)}


def plan(judge, ours=None):
    world = AnalyticWorld()
    state = start(world)
    risk = ours or RiskModel(Constant([0.0]), use_limits=False)
    facts = facts_of_state(state, AnalyticRisk())
    return advise(world, state, MENU, risk, facts=facts, by_name=True, rules=no_rules, k=4, extra=0, judge=judge)


def test_the_five_that_lead_are_judged_in_the_order_of_the_plan_and_no_other() -> None:
    judge = Constant([0.1])
    made = plan(judge)
    opinion = made.second_opinion
    assert opinion is not None
    assert [row.treatment for row in opinion.rows] == [row.treatment for row in made.candidates][:MOST]
    assert judge.sizes == [4] * MOST
    assert sorted(row.rank for row in opinion.rows) == [1, 2, 3, 4, 5]
    assert (opinion.judge, opinion.sha256, opinion.agrees) == ("constant", "abc", True)


def test_a_judge_that_prefers_another_is_said_and_the_plan_stays_as_it_was() -> None:
    without = plan(None)
    made = plan(Constant([0.9, 0.9, 0.0, 0.9, 0.9]))
    assert [row.treatment for row in made.candidates] == [row.treatment for row in without.candidates]
    assert [row.score for row in made.candidates] == [row.score for row in without.candidates]
    opinion = made.second_opinion
    assert opinion is not None
    assert not opinion.agrees
    assert opinion.best == made.candidates[2].treatment
    assert [len(row.differences) for row in opinion.rows] == [1, 1, 0, 1, 1]
    assert (opinion.rows[0].differences[0].finding, opinion.rows[0].differences[0].theirs) == (FINDINGS[VT], 0.9)
    text = "\n".join(opinion.sentences())
    assert f"puts {opinion.best} first" in text
    assert "ventricular tachycardia 0.90 (ours 0.00)" in text
    assert "prolonged qt" in text
    assert opinion.sentences()[0] in footnotes(made)
    assert json.loads(json.dumps(jsonable(made.to_json_dict())))["second_opinion"]["agrees"] is False


def test_without_a_judge_there_is_no_opinion() -> None:
    made = plan(None)
    assert made.second_opinion is None
    assert made.to_json_dict()["second_opinion"] is None


def test_scores_are_those_of_a_risk_model_with_the_judges_findings() -> None:
    judge = Constant([0.4])
    made = plan(judge)
    assert made.second_opinion is not None
    state = start(AnalyticWorld())
    alone = RiskModel(Constant([0.4]), use_limits=False)(state.ecg, state.ecg, state.patients)
    assert [row.mean for row in made.second_opinion.rows] == pytest.approx([float(alone.total[0])] * MOST)


def test_dead_futures_say_nothing_beyond_the_findings() -> None:
    from dataclasses import replace

    from planners.measures import MeanVariance
    from planners.rollout import common_seeds, futures

    world = AnalyticWorld()
    state, ours = start(world), RiskModel(Constant([0.0]), use_limits=False)
    sample = futures(world, state, [WATCH], common_seeds(0, 2), ours)
    dead = {WATCH: replace(sample, alive=np.zeros((1, 2), bool))}
    (row,) = second_opinion(Constant([0.1]), [WATCH], dead, state, MeanVariance(), ours).rows
    assert row.mean == 1.0
    assert row.beyond == {}
