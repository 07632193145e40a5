"""``LLMAgent``: a chat model chooses the next edit among the allowed ones; what it says is never executed or obeyed.

The prompt holds our own sentences, numbers, and words of the catalogue (``render_facts`` lets nothing else through).
The answer is ``{"diagnosis": text, "action": one of the allowed}``. When none comes that fits, the greedy agent acts
and the slip is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ecg_gym.llm import ChatClient, NoAnswerError, choice_schema, render_facts
from training.leads.agents import diagnostics_of, greedy_agent, rows_of
from training.leads.structure import ACTIONS, FULL, features

WORDS = frozenset((*ACTIONS, *(str(value) for _, value in features(FULL))))
SHOWN = (
    "log10_validation_error", "log10_train_error", "log10_gain", "activation_error_10ms", "apd_error_10ms",
    "second_beat_error_10ms", "missed_fraction", "log10_parameters",
)  # fmt: skip
TASK = (
    "You choose the structure of a reaction-diffusion model of cardiac tissue for one patient. A reaction from "
    "a catalogue "
    "of ionic models is combined with a diffusion operator and an optional residual network; gradient descent fits the "
    "numbers. You see the candidates that were fitted, newest first, and diagnostics of the best one. Errors "
    "of the plateau, "
    "of the action potential duration and of the second beat suggest another reaction; activation errors that "
    "grow with "
    "the distance from the pacing site suggest another diffusion; a validation error far above the training "
    "error suggests "
    "fewer parameters. An action edits the best candidate. Say in one sentence what is wrong, then choose one "
    "allowed action."
)


class LLMAgent:
    """``choose`` for a chat client. ``slips`` counts what went wrong; ``requests`` and ``choices`` what was done."""

    def __init__(self, client: ChatClient) -> None:
        self.client = client
        self.slips: Counter[str] = Counter()
        self.requests = self.choices = 0
        self.diagnosis = ""  # of the last answer: a quotation for people, read by nothing

    def __call__(self, observation: Mapping[str, np.ndarray], mask: np.ndarray, rng: np.random.Generator) -> int:
        """The model's action, or the greedy agent's."""
        allowed = [ACTIONS[number] for number in np.flatnonzero(mask)]
        self.choices += 1
        try:
            answer = self.client.ask(messages(observation, allowed), choice_schema(allowed), "leads_action")
        except NoAnswerError as error:
            self.slips.update(error.slips)
            self.slips["greedy acted"] += 1
            self.requests += len(error.slips)
            return greedy_agent(observation, mask, rng)
        self.slips.update(answer.slips)
        self.requests += answer.requests
        self.diagnosis = str(answer.value["diagnosis"])
        return ACTIONS.index(answer.value["action"])


def messages(observation: Mapping[str, np.ndarray], allowed: list[str]) -> list[dict[str, str]]:
    """The question: what was fitted, what is wrong with the best, what is allowed."""
    parts = []
    for number, row in enumerate(rows_of(observation)):
        facts = {"candidate": number + 1, **{name: str(value) for name, value in row.spec.items()}}
        facts |= {name: row.numbers[name] for name in SHOWN}
        facts |= {"stable": row.stable, "best": row.numbers["is_best"] > 0}
        parts.append(render_facts(facts, WORDS))
    if not parts:
        parts = ["No candidate was fitted yet."]
    best = render_facts(diagnostics_of(observation))
    left = render_facts({"share_of_budget_left": float(observation["budget"][0]), "allowed_actions": allowed}, WORDS)
    text = "\n\n".join([*parts, f"Diagnostics of the best:\n{best}", left])
    return [{"role": "system", "content": TASK}, {"role": "user", "content": text}]
