"""``choose(client, plan)``: a language model's final choice among what was ranked and is allowed, as in the paper.

It comes last and is optional. The model sees the table of the plan as numbers and words of the formulary, and answers
with one of the candidates, which a schema binds it to. Its reason is quoted for people and read by nothing. The plan's
own recommendation stays beside it; where no usable answer comes, there is no choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ecg_gym.llm import ChatClient, NoAnswerError, choice_schema, render_facts
from ecg_gym.pharmacology import CONDITIONS
from planners.choice import Choice
from planners.plan import Candidate, Plan

LONGEST_REASON = 400  # characters
TASK = (
    "You choose one treatment for one simulated patient with a 12-lead electrocardiogram. Nothing here is given to a "
    "person. Every candidate was simulated: its score is a risk with a penalty for uncertainty, lower is better, with "
    "a 95 % interval. Changes are of measured intervals. Watch and wait is always a candidate. Give a short reason, "
    "then choose one of the allowed actions."
)


def choose(client: ChatClient, plan: Plan) -> Choice:
    """The model's choice among the candidates of ``plan``, and no other."""
    names = [str(row.treatment) for row in plan.candidates]
    try:
        answer = client.ask(messages(plan), choice_schema(names, "reason", LONGEST_REASON), "recommendation")
    except NoAnswerError as error:
        return Choice(None, "", False, error.slips)
    row = plan.candidates[names.index(answer.value["action"])]
    return Choice(row.treatment, str(answer.value["reason"]), row is plan.best, answer.slips)


def messages(plan: Plan) -> list[dict[str, str]]:
    """The question: the patient, and the table of the ranking."""
    words = {*CONDITIONS, *plan.findings, *(str(row.treatment) for row in plan.candidates), "female", "male"}
    patient = plan.patient
    facts: dict[str, Any] = {
        **{name: plan.intervals.get(name, math.nan) for name in ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")},
        "findings": list(plan.findings),
        "age_years": patient.age_years,
        "sex": {"F": "female", "M": "male", None: None}[patient.sex],
        "potassium": patient.potassium,
        "magnesium": patient.magnesium,
        "conditions": sorted(word for word in patient.conditions if word in CONDITIONS),
        "risk_now": plan.risk_now,
    }
    rows = [render_facts(_row(place, row), words) for place, row in enumerate(plan.candidates, start=1)]
    allowed: Sequence[str] = [str(row.treatment) for row in plan.candidates]
    text = "\n\n".join([render_facts(facts, words), *rows, render_facts({"allowed_actions": allowed}, words)])
    return [{"role": "system", "content": TASK}, {"role": "user", "content": text}]


def _row(place: int, row: Candidate) -> dict[str, Any]:
    changes = {f"change_{name}": change.mean for name, change in row.changes.items()}
    return {
        "rank": place,
        "treatment": str(row.treatment),
        "score": row.score,
        "score_low": row.score_ci[0],
        "score_high": row.score_ci[1],
        "better_than_watching": row.better_than_watching,
        "lethal_futures": row.n_lethal,
        **changes,
    }
