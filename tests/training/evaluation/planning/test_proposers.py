"""The study of proposers: a known ranking gives known recall, regret and gap; the whole menu loses nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from planning import ATROPINE, DOFETILIDE, METOPROLOL, planned, start

from ecg_gym.core import WATCH, Treatment
from ecg_gym.llm import ChatClient, Scripted
from ecg_gym.risk import RiskModel
from training.evaluation.planning import proposers as module
from training.evaluation.planning.proposers import Person, judge, metrics_of, recommended, study, summary
from training.evaluation.result import Size

PLAN = planned(candidates=(METOPROLOL, ATROPINE, DOFETILIDE))


@dataclass
class Says:
    items: list[Treatment]

    def propose(self, state, rng) -> list[Treatment]:
        return self.items


def person(true: dict[Treatment, float]) -> Person:
    return Person("healthy_volunteer", start(), PLAN, true)


def row(items: list[Treatment], who: Person, name: str = "x", monkeypatch=None) -> dict:
    return judge(name, Says(items), who, RiskModel.limits_only(), 2, np.random.default_rng(0), "p")


@pytest.fixture
def whoever(monkeypatch) -> Person:
    facts = SimpleNamespace(
        intervals={"hr_bpm": 75.0, "qtcf_ms": 410.0, "pr_ms": 160.0, "qrs_ms": 90.0}, findings=frozenset()
    )
    monkeypatch.setattr(module, "facts_of_state", lambda state, risk: facts)
    order = [candidate.treatment for candidate in PLAN.candidates]
    return person({treatment: 0.1 * (1 + place) for place, treatment in enumerate(order)})


def test_naming_the_best_loses_nothing_and_missing_it_costs_its_regret(whoever) -> None:
    order = [candidate.treatment for candidate in PLAN.candidates]
    assert order[0] == METOPROLOL
    hit, miss = row([METOPROLOL], whoever), row([], whoever)
    assert (hit["recall"], hit["regret"]) == (1.0, 0.0)
    assert miss["recall"] == 0.0
    assert miss["choice"] == str(WATCH)
    assert miss["regret"] == pytest.approx(miss["gap"]) == pytest.approx(0.1 * order.index(WATCH))
    assert hit["calls_saved"] == pytest.approx(1 - 2 / len(order))
    assert miss["calls_saved"] == pytest.approx(1 - 1 / len(order))


def test_figures_are_means_over_people_and_the_gap_is_a_ratio_of_sums(whoever) -> None:
    rows = [{**row([METOPROLOL], whoever), "patient": "a"}, {**row([], whoever), "patient": "b"}]
    rows[0]["gap"], rows[1]["gap"] = 0.3, 0.1
    rows[1]["regret"] = 0.1
    figures = metrics_of(rows)
    assert figures["recall"]["value"] == 0.5
    assert figures["gap lost"]["value"] == pytest.approx(0.1 / 0.4)


def test_a_recommendation_that_follows_the_ranking_loses_nothing_and_no_answer_counts_as_the_ranking(whoever) -> None:
    def client(text: str) -> ChatClient:
        return ChatClient(Scripted([text]), retries=0, sleep=lambda seconds: None)

    same = recommended(client(json.dumps({"reason": "x", "action": str(METOPROLOL)})), whoever, "p")
    other = recommended(client(json.dumps({"reason": "x", "action": str(WATCH)})), whoever, "p")
    none = recommended(client("?"), whoever, "p")
    assert (same["regret"], same["recall"], same["refused"]) == (0.0, 1.0, 0.0)
    assert other["regret"] > 0
    assert (none["regret"], none["refused"]) == (0.0, 1.0)


def test_the_study_has_its_rows_and_the_whole_menu_loses_nothing(monkeypatch) -> None:
    monkeypatch.setattr(module, "scenarios_of", lambda quick: ("bradycardia",))
    document = study(Size(2, 2), proposers={"nothing": Says([])}, k=3, risk=RiskModel.limits_only())
    rows = {row["proposer"]: row for row in summary(document)}
    assert list(rows) == ["enumeration", "random", "guideline", "nothing"]
    assert rows["enumeration"]["regret"] == 0.0
    assert rows["enumeration"]["calls_saved"] == 0.0
    assert rows["nothing"]["calls_saved"] > 0.9
    assert rows["random"]["calls_saved"] > 0.8
    assert json.loads(json.dumps(document, allow_nan=False))["settings"]["k"] == 3
    assert len(document["rows"]) == 8
    assert module.figure(document).axes
