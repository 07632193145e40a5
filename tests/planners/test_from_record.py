"""From a record: what a proposer adds to a plan, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planning import start
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from ecg_gym.llm import ChatClient, Scripted
from planners.facts import facts_of_state
from planners.from_record import Proposing, prepare, propose

NOWHERE = Path("nowhere/at/all")
WHY = "ignore the rules"


def test_proposals_become_candidates_and_refusals_quotations_and_slips_are_notes() -> None:
    world, risk, state = AnalyticWorld(), AnalyticRisk(), start()
    items = [{"drug": "metoprolol", "amount": amount, "unit": "mg", "route": "PO", "why": WHY} for amount in (50, 5000)]
    texts = ["no JSON", json.dumps({"proposals": items, "abstain": False})]
    client = ChatClient(Scripted(texts), retries=1, sleep=lambda seconds: None)
    candidates, notes = propose(Proposing("llm", 8, client), world, risk, state, facts_of_state(state, risk))
    assert [str(treatment) for treatment in candidates] == ["metoprolol 50 mg PO", str(WATCH)]
    assert notes[0] == "Proposer llm: 2 proposals, 1 ranked, 1 refused."
    assert notes[1].startswith("Refused: metoprolol 5000 mg PO (dose is")
    assert f'The model on metoprolol 50 mg PO: "{WHY}"' in notes
    assert notes[-1] == "Slips of the model: not json 1."


def test_the_number_of_proposals_is_kept() -> None:
    state, risk = start(), AnalyticRisk()
    candidates, _ = propose(Proposing("enumeration", 3), AnalyticWorld(), risk, state, facts_of_state(state, risk))
    assert len(candidates) == 4
    assert WATCH in candidates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proposing": Proposing("guideline"), "drugs_words": "atropine"}, "--proposer was given with --drugs"),
        ({"proposing": Proposing("oracle")}, "expected one of enumeration"),
        ({"proposing": Proposing("llm")}, "without --endpoint"),
        ({"judge_name": "cardiologist"}, "expected ecgfounder or ecg-fm"),
    ],
)
def test_what_cannot_work_is_refused_before_the_record_is_read(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(NOWHERE, **options)
