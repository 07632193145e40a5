"""``ChatWorld``: a language model says the intervals after a treatment, zero-shot; the strip before is moved to them.

The model sees measured intervals, the person and the doses, and answers each interval with an 80 % band. A future is a
draw from normal laws with these bands; its strip is the first one, its beats moved by McSharry's model. The prompt
holds our own sentences, numbers and words of closed vocabularies (``ecg_gym.llm.render_facts`` lets nothing else
through), and the answer is data. Where no usable answer comes, nothing changes, and the slips are counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ecg_gym.core import ECG, Administration, Patient, Randomness, State, Treatment
from ecg_gym.llm import ChatClient, NoAnswerError, render_facts
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model.conditioning import OBSERVED
from ecg_gym.world_model.interval_model import guards
from ecg_gym.world_model.model import WorldModel

INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "tpeak_tend_ms")
NUMBERS = ("age_years", "weight_kg", "potassium", "magnesium", "calcium", "creatinine_clearance")
HALF_BAND_SD = 1.2816  # standard deviations from the middle of a normal law to the end of its 80 % band
NOISE = 12  # first word of the seed of a future's noise
TASK = (
    "You forecast the electrocardiogram of one simulated patient after a treatment. Nothing here is given to a person. "
    "You see intervals measured on a first strip, what is known of the patient, and all doses since, with the hours "
    "from each to the forecast. Answer every interval at the time of the forecast as the middle and the ends of an "
    "80 % band, in the same units."
)
_AT = {name: i for i, name in enumerate(OBSERVED)}
Bands = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ChatWorld:
    """A World over a chat client; ``slips`` counts the replies that were of no use."""

    base: WorldModel  # keeps hours, doses and first strips, and moves the strips
    client: ChatClient
    dt_hours: float = 1.0  # clinical time of one step [h]
    answers: dict[str, Bands | None] = field(default_factory=dict)  # by question: each is put once
    slips: Counter[str] = field(default_factory=Counter)

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` virtual people, seen through the codec."""
        return self._mover.initial(n, rng, **who)

    def observe(self, ecg: ECG, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """A batch of one from a strip and the doses already taken."""
        return self._mover.observe(ecg, patient, doses)

    def start_from(self, state: State) -> State:
        """The same people at the same hour, out of the strips of another world's state."""
        return self._mover.start_from(state)

    def knows(self, treatment: Treatment) -> bool:
        """Whether it is of drugs, whose names the model may be told."""
        return all(dose.drug in FORMULARY.medicines for dose in treatment.doses)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A sample of each row ``dt_hours`` later; the model is asked once for equal rows."""
        later = self._mover.step(state, treatments, rng)
        observed = np.array(later.inner["observed"])
        for row in np.flatnonzero(state.alive):
            observed[row] = self._draw(later, int(row))
        return later.replaced(alive=state.alive.copy(), inner={**later.inner, "observed": observed})

    def question(self, state: State, row: int) -> str:
        """What the model is told of one row: intervals of the first strip, the person, the doses."""
        patient, baseline = state.patients[row], np.asarray(state.inner["baseline_observed"][row], float)
        person: dict[str, Any] = {name: float(baseline[_AT[name]]) for name in INTERVALS}
        person |= {name: getattr(patient, name) for name in NUMBERS}
        person["sex"] = {"F": "female", "M": "male", None: None}[patient.sex]
        person["conditions"] = sorted(word for word in patient.conditions if word in CONDITIONS)
        person["hours_since_the_strip"] = float(state.hours[row] - state.inner["baseline_hours"][row])
        lines = [render_facts(person, frozenset({*CONDITIONS, "female", "male"}))]
        for administration in state.doses[row]:
            dose = administration.dose
            spelt = f"{dose.amount:g} {dose.unit}"
            facts = {"dose": dose.drug, "amount": spelt, "route": dose.route,
                     "hours_before": float(state.hours[row] - administration.hours)}  # fmt: skip
            lines.append(render_facts(facts, frozenset({*FORMULARY.names, spelt, dose.route})))
        return "\n".join(lines)

    @property
    def _mover(self) -> WorldModel:
        return replace(self.base, dt_hours=self.dt_hours, draws="warp", fidelity="vitals", reference="first")

    def _draw(self, state: State, row: int) -> np.ndarray:
        """The intervals ``(len(OBSERVED),)`` of one future; those of the first strip where there is no answer."""
        baseline = np.array(state.inner["baseline_observed"][row], float)
        bands = self._bands(self.question(state, row))
        if bands is None:
            return baseline
        rng = np.random.default_rng([NOISE, int(state.inner["key"][row])])
        normal = dict(zip(INTERVALS, rng.standard_normal(len(INTERVALS))))
        value = {}
        for name in INTERVALS:
            low, middle, high = sorted(float(bands[name][end]) for end in ("low", "middle", "high"))
            value[name] = middle + (high - low) / (2 * HALF_BAND_SD) * normal[name]
        return move(baseline, value)

    def _bands(self, question: str) -> Bands | None:
        if question not in self.answers:
            messages = [{"role": "system", "content": TASK}, {"role": "user", "content": question}]
            try:
                answer = self.client.ask(messages, schema(), "intervals")
                self.slips.update(answer.slips)
                self.answers[question] = json.loads(json.dumps(answer.value))
            except NoAnswerError as error:
                self.slips.update([*error.slips, "no answer"])
                self.answers[question] = None
        return self.answers[question]


def schema() -> dict[str, Any]:
    """What an answer has to fit."""
    ends = ("low", "middle", "high")
    band = {
        "type": "object", "properties": {end: {"type": "number", "minimum": 0} for end in ends},
        "required": list(ends), "additionalProperties": False,
    }  # fmt: skip
    return {
        "type": "object", "properties": dict.fromkeys(INTERVALS, band), "required": list(INTERVALS),
        "additionalProperties": False,
    }  # fmt: skip


def move(baseline: np.ndarray, value: Mapping[str, float]) -> np.ndarray:
    """Measurements ``(len(OBSERVED),)`` of a strip with these intervals, kept within what hearts have; what was not
    measured on the first strip stays unknown.
    """
    low, high = guards()["log_hr"]
    hr = float(np.clip(value["hr_bpm"], low, high))
    result, rr_s = np.array(baseline, float), 60 / hr
    limits = {"pr_ms": "pr", "qrs_ms": "qrs", "tpeak_tend_ms": "tpeak_tend"}
    result[_AT["hr_bpm"]] = hr
    for name, target in limits.items():
        if np.isfinite(baseline[_AT[name]]):
            result[_AT[name]] = np.clip(value[name], *guards()[target])
    if np.isfinite(baseline[_AT["qtcf_ms"]]):
        qt = value["qtcf_ms"] * rr_s ** (1 / 3)
        rest = qt - result[_AT["qrs_ms"]] - result[_AT["tpeak_tend_ms"]]
        jtpeakc = float(np.clip(rest / rr_s**JTPEAK_EXPONENT, *guards()["jtpeakc"]))
        result[_AT["jtpeakc_ms"]], result[_AT["jtpeak_ms"]] = jtpeakc, jtpeakc * rr_s**JTPEAK_EXPONENT
        qt = result[_AT["qrs_ms"]] + result[_AT["jtpeak_ms"]] + result[_AT["tpeak_tend_ms"]]
        result[_AT["qt_ms"]], result[_AT["qtcf_ms"]] = qt, qt / rr_s ** (1 / 3)
    return result
