"""``ChatProposer``: a language model, or one that sees the strip, proposes treatments; its text is data and no order.

The prompt holds our own sentences, numbers, and words of closed vocabularies (``ecg_gym.llm.render_facts`` lets nothing
else through): no name, no path, no text of a record's header. Its answer is bound to a schema and checked; each reason
is kept as a quotation for people and read by nothing. Where no usable answer comes, nothing is proposed and the slips
are counted.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.core import MODEL_RATE_HZ, Dose, State, Treatment
from ecg_gym.llm import ChatClient, NoAnswerError, render_facts
from ecg_gym.pharmacology import CONDITIONS, FORMULARY, resolve_medications
from ecg_gym.risk import FINDINGS
from ecg_gym.rollout import RiskFunction
from planners.facts import Facts, facts_of_state

LONGEST_WHY = 200  # characters of a reason
MOST = 8  # proposals of one answer
INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "p_present", "regular")
NUMBERS = ("age_years", "weight_kg", "potassium", "magnesium", "calcium", "creatinine_clearance")
TASK = (
    "You propose drugs for one simulated patient with a 12-lead electrocardiogram. Nothing here is given to a person. "
    "You see measured intervals, findings, what is known of the patient, doses that were taken, and a menu. Propose "
    f"up to {MOST} treatments worth simulating, the most promising first, each with drug, amount, unit, route and a "
    "short reason. Amounts near those of the menu are best. Clinical rules check every proposal afterwards. Abstain "
    "where no drug is worth a simulation."
)


@dataclass(frozen=True)
class Quotation:
    """What a model said for a proposal, word for word; for people, never parsed."""

    proposal: str
    why: str


class ChatProposer:
    """``propose`` for a chat client. ``slips``, ``requests``, ``questions`` count; ``quotations`` are of the last."""

    def __init__(self, client: ChatClient, risk: RiskFunction, send_strip: bool = False) -> None:
        self.client, self.risk, self.send_strip = client, risk, send_strip
        self.slips: Counter[str] = Counter()
        self.requests = self.questions = 0
        self.abstained = False
        self.quotations: tuple[Quotation, ...] = ()

    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """What the model proposes, in its order; empty where it abstains or gives no usable answer."""
        self.questions += 1
        self.quotations, self.abstained = (), False
        try:
            answer = self.client.ask(self.messages(state), schema(), "proposals")
        except NoAnswerError as error:
            self.slips.update(error.slips)
            self.slips["nothing proposed"] += 1
            self.requests += len(error.slips)
            return []
        self.slips.update(answer.slips)
        self.requests += answer.requests
        self.abstained = bool(answer.value["abstain"])
        if self.abstained:
            return []
        items = answer.value["proposals"]
        treatments = [Treatment((Dose(p["drug"], float(p["amount"]), p["unit"], p["route"]),)) for p in items]
        self.quotations = tuple(Quotation(str(t), str(p["why"])) for t, p in zip(treatments, items))
        return treatments

    def messages(self, state: State) -> list[dict[str, Any]]:
        """The question about the one patient of ``state``."""
        text = question(state, facts_of_state(state, self.risk))
        content: Any = text
        if self.send_strip:
            picture = base64.b64encode(strip_png(state.ecg[0])).decode()
            content = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            ]
        return [{"role": "system", "content": TASK}, {"role": "user", "content": content}]


def schema() -> dict[str, Any]:
    """What an answer has to fit."""
    doses = [dose for name in FORMULARY.names for dose in FORMULARY.usual_doses(name)]
    item = {
        "drug": {"type": "string", "enum": list(FORMULARY.names)},
        "amount": {"type": "number", "minimum": 0},
        "unit": {"type": "string", "enum": sorted({dose.unit for dose in doses})},
        "route": {"type": "string", "enum": sorted({dose.route for dose in doses})},
        "why": {"type": "string", "maxLength": LONGEST_WHY},
    }
    proposals = {"type": "object", "properties": item, "required": list(item), "additionalProperties": False}
    return {
        "type": "object",
        "properties": {
            "proposals": {"type": "array", "items": proposals, "maxItems": MOST},
            "abstain": {"type": "boolean"},
        },
        "required": ["proposals", "abstain"],
        "additionalProperties": False,
    }


def question(state: State, facts: Facts) -> str:
    """What is known, as lines of numbers and known words."""
    parts = [patient_facts(state, facts)]
    menu = {}
    for name in FORMULARY.names:
        doses = FORMULARY.usual_doses(name)
        menu[name] = [word for dose in doses for word in (_spelt(dose), dose.route)]
    parts.append("Menu, amount and route:\n" + render_facts(menu, _words()))
    return "\n\n".join(parts)


def patient_facts(state: State, facts: Facts) -> str:
    """Intervals, likely findings, the person and the doses taken, rendered."""
    patient, now = state.patients[0], float(state.hours[0])
    person: dict[str, Any] = {name: facts.intervals.get(name, math.nan) for name in INTERVALS}
    person["findings"] = sorted(facts.findings)
    person |= {name: getattr(patient, name) for name in NUMBERS}
    person["sex"] = {"F": "female", "M": "male", None: None}[patient.sex]
    person["conditions"] = sorted(word for word in patient.conditions if word in CONDITIONS)
    person["medication"] = sorted(word for word in resolve_medications(patient.medication)[0] if word in FORMULARY)
    lines = [render_facts(person, _words())]
    for administration in state.doses[0]:
        dose = administration.dose
        row = {"taken": dose.drug, "amount": _spelt(dose), "route": dose.route, "hours_ago": now - administration.hours}
        lines.append(render_facts(row, {*_words(), _spelt(dose), dose.route}))
    return "\n".join(lines)


def _spelt(dose: Dose) -> str:
    return f"{dose.amount:g} {dose.unit}"


def _words() -> frozenset[str]:
    """Every word that may stand in a prompt."""
    doses = [dose for name in FORMULARY.names for dose in FORMULARY.usual_doses(name)]
    spelt = {_spelt(dose) for dose in doses} | {dose.route for dose in doses}
    return frozenset({*FORMULARY.names, *CONDITIONS, *FINDINGS, *spelt, "female", "male"})


def strip_png(strip: np.ndarray) -> bytes:
    """A strip ``(12, 1024)`` [mV] as a picture: twelve traces with the names of the leads, and nothing else."""
    from matplotlib.figure import Figure

    from ecg_gym.core import LEADS

    figure = Figure(figsize=(10, 9), dpi=80)
    seconds = np.arange(strip.shape[-1]) / MODEL_RATE_HZ
    axes: Sequence[Any] = figure.subplots(len(LEADS), 1, sharex=True)
    for ax, name, lead in zip(axes, LEADS, strip):
        ax.plot(seconds, lead, lw=0.7, color="black")
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_yticks([])
    axes[-1].set_xlabel("s")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def counts(proposer: ChatProposer) -> Mapping[str, int]:
    """What the client did so far: questions, requests and slips by word."""
    return {"questions": proposer.questions, "requests": proposer.requests, **proposer.slips}
