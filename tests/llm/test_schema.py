"""What fits a schema and what does not, and that no answer off the schema ever comes back from the client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecg_gym.llm import ChatClient, NoAnswerError, Scripted, choice_schema, violations

PROPOSALS = {
    "type": "object",
    "properties": {
        "proposals": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {
                    "drug": {"type": "string", "enum": ["sotalol"]},
                    "amount": {"type": "number", "minimum": 0, "maximum": 500},
                },
                "required": ["drug", "amount"],
                "additionalProperties": False,
            },
        },
        "abstain": {"type": "boolean"},
    },
    "required": ["proposals", "abstain"],
    "additionalProperties": False,
}
ONE = {"drug": "sotalol", "amount": 80}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"proposals": [ONE], "abstain": False}, None),
        ({"proposals": [], "abstain": True}, None),
        ({"proposals": [ONE] * 3, "abstain": False}, "3 items"),
        ({"proposals": [ONE], "abstain": 0}, "expected boolean"),
        ({"proposals": [{**ONE, "amount": True}], "abstain": False}, "expected number"),
        ({"proposals": [{**ONE, "amount": 501}], "abstain": False}, "0 to 500"),
        ({"proposals": [{**ONE, "amount": 10**400}], "abstain": False}, "0 to 500"),
        ({"proposals": [{**ONE, "amount": "80"}], "abstain": False}, "expected number"),
        ({"proposals": [{**ONE, "drug": "Sotalol"}], "abstain": False}, "allowed are sotalol"),
        ({"proposals": [{"drug": "sotalol"}], "abstain": False}, "lacks 'amount'"),
        ({"proposals": ONE, "abstain": False}, "expected array"),
        ([], "expected object"),
        (None, "expected object"),
    ],
)
def test_one_sentence_for_each_violation(value: Any, wrong: str | None) -> None:
    sentences = violations(value, PROPOSALS)
    assert (sentences == []) if wrong is None else any(wrong in sentence for sentence in sentences)


def test_enum_does_not_take_true_for_one() -> None:
    assert violations(True, {"enum": [1]})
    assert violations(1, {"enum": [1]}) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ACTION = st.fixed_dictionaries({"diagnosis": JSON, "action": st.sampled_from(["a", "b", "c"]) | JSON})


@given(st.text() | JSON.map(json.dumps) | ACTION.map(json.dumps))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_model_says_only_an_allowed_action_comes_back(content: str) -> None:
    client = ChatClient(Scripted([content]), retries=0)
    try:
        value = client.ask([{"role": "user", "content": "choose"}], choice_schema(["a", "b"])).value
    except NoAnswerError:
        return
    assert value["action"] in ("a", "b")
    assert set(value) == {"diagnosis", "action"}
    assert isinstance(value["diagnosis"], str)
