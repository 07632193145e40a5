"""The agent behind a chat model: scripted, over HTTP on this machine, and with models that misbehave."""

from __future__ import annotations

import json
from pathlib import Path

import chat_server
import leads_tables
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_gym.llm import ChatClient, Scripted, Transcript, connect
from training.leads.agents import greedy_agent, run_agent
from training.leads.env import DiscoveryEnv
from training.leads.llm_agent import LLMAgent, messages
from training.leads.structure import ACTIONS


def say(action: str, diagnosis: str = "the plateau is too short") -> str:
    return json.dumps({"diagnosis": diagnosis, "action": action})


def env(budget: int = 12) -> DiscoveryEnv:
    return DiscoveryEnv(cases=leads_tables.cases(), budget=budget)


def test_a_scripted_model_walks_to_the_best() -> None:
    agent = LLMAgent(ChatClient(Scripted([say("reaction ms"), say("diffusion spline"), say("stop")])))
    made = env()
    done = run_agent(made, agent, np.random.default_rng(0), case=3)
    assert done.best is not None
    assert done.best[0] == leads_tables.best("ms")
    assert (agent.choices, agent.requests, dict(agent.slips)) == (3, 3, {})
    assert agent.diagnosis == "the plateau is too short"


def test_the_question_holds_our_words_only_and_the_schema_the_allowed_actions() -> None:
    script = Scripted([say("reaction ms"), say("stop")])
    run_agent(env(), LLMAgent(ChatClient(script)), np.random.default_rng(0), case=3)
    first, second = script.requests
    choices = second["response_format"]["json_schema"]["schema"]["properties"]["action"]["enum"]
    assert "reaction ms" not in choices  # it was fitted
    assert set(choices) <= set(ACTIONS)
    assert {"stop", "refine"} <= set(choices)
    text = second["messages"][-1]["content"]
    assert "reaction: ms" in text
    assert "activation_error_10ms" in text
    assert "seed" not in text
    assert "truth" not in text
    assert "No candidate was fitted yet." in first["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("content", "slip"),
    [
        ("I would rather not.", "not json"),
        (say("reaction lenia"), "off schema"),
        (say("os.system('true')"), "off schema"),
        ("", "empty"),
        ('{"diagnosis": "x"}', "off schema"),
    ],
)
def test_a_model_that_answers_nothing_useful_is_replaced_by_greedy(content: str, slip: str) -> None:
    agent = LLMAgent(ChatClient(Scripted([content] * 200), sleep=lambda _: None))
    made, other = env(), env()
    assert run_agent(made, agent, np.random.default_rng(0), case=2) == run_agent(
        other, greedy_agent, np.random.default_rng(0), case=2
    )
    assert agent.slips["greedy acted"] == agent.choices
    assert agent.slips[slip] == 3 * agent.choices


def test_over_http_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    answers = [
        chat_server.completion(say("reaction ms")),
        chat_server.raw("500 Internal Server Error", b""),
        chat_server.completion("Well. " + say("diffusion spline")),
        chat_server.completion(say("stop")),
    ]
    with chat_server.serve(answers) as server:
        agent = LLMAgent(ChatClient(Transcript(connect(server.url), path), sleep=lambda _: None))
        first = run_agent(env(), agent, np.random.default_rng(0), case=3)
    replayed = LLMAgent(ChatClient(connect(f"replay://{path}"), sleep=lambda _: None))
    second = run_agent(env(), replayed, np.random.default_rng(0), case=3)
    assert first == second
    assert first.best is not None
    assert first.best[0] == leads_tables.best("ms")
    assert agent.slips == replayed.slips == {"server error": 1}


@given(st.lists(st.text(max_size=80) | st.sampled_from(ACTIONS).map(say), max_size=8))
@settings(max_examples=40, deadline=None)
def test_whatever_a_model_says_the_episode_stays_within_the_mask(contents: list[str]) -> None:
    made = env(budget=4)
    agent = LLMAgent(ChatClient(Scripted(contents), sleep=lambda _: None))

    def watched(observation: dict[str, np.ndarray], mask: np.ndarray, rng: np.random.Generator) -> int:
        action = agent(observation, mask, rng)
        assert mask[action]
        return action

    run_agent(made, watched, np.random.default_rng(0), case=1)
    assert len(made.history) <= 4


def test_the_question_is_a_function_of_the_observation() -> None:
    made = env()
    observation, _ = made.reset(seed=0)
    assert messages(observation, ["stop"]) == messages({k: v.copy() for k, v in observation.items()}, ["stop"])
