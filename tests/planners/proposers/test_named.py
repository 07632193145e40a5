"""Proposers by name, and what each refusal says."""

from __future__ import annotations

import pytest
from worlds import AnalyticRisk

from ecg_gym.llm import ChatClient, Scripted
from planners.proposers import Enumeration, Guideline
from planners.proposers.chat import ChatProposer
from planners.proposers.named import proposer_named


def test_names_lead_to_proposers() -> None:
    risk = AnalyticRisk()
    assert isinstance(proposer_named("enumeration", risk), Enumeration)
    assert isinstance(proposer_named("guideline", risk), Guideline)
    assert isinstance(proposer_named("llm", risk, client=ChatClient(Scripted([]))), ChatProposer)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("oracle", "expected one of enumeration, guideline"),
        ("llm", "without --endpoint"),
        ("inverse", "ecg-gym train inverse"),
        ("learned:nowhere.safetensors", "ecg-gym train proposer"),
    ],
)
def test_what_cannot_be_made_is_refused(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        proposer_named(words, AnalyticRisk())
