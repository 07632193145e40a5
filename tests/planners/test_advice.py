"""Advice: nothing without an indication, watching wins ties, and the record speaks, not its reconstruction."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from planning import ATROPINE, DOFETILIDE, METOPROLOL, MOXIFLOXACIN, PLACEBO, no_rules, start
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH, Patient
from planners.advice import advise
from planners.facts import Facts, compared, facts_of_state, tolerances
from planners.plan import Plan

MENU = (WATCH, DOFETILIDE, ATROPINE, METOPROLOL, MOXIFLOXACIN, PLACEBO)
NORMAL = {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 92.0, "qtcf_ms": 410.0, "p_present": 1.0, "regular": 1.0}
FAST_AF = {**NORMAL, "hr_bpm": 130.0, "pr_ms": np.nan, "p_present": 0.0, "regular": 0.0}


def facts(intervals=FAST_AF, findings=("Atrial fibrillation",), **more) -> Facts:
    return Facts(intervals, np.full(17, np.nan), frozenset(findings), intervals, **more)


def advised(world: AnalyticWorld | None = None, patient: Patient | None = None, hr: float = 90.0, **options) -> Plan:
    world = world or AnalyticWorld()
    state = start(world, hr_bpm=hr, patient=patient or Patient())
    options = {"facts": facts(), "rules": no_rules, "k": 8, **options}
    return advise(world, state, options.pop("candidates", MENU), AnalyticRisk(), **options)


def test_with_no_indication_watching_is_the_only_candidate() -> None:
    made = advised(hr=70.0, facts=facts(NORMAL, ("Sinus rhythm",)))
    assert [row.treatment for row in made.candidates] == [WATCH]
    assert {u.treatment for u in made.unindicated} == set(MENU) - {WATCH}
    assert made.recommendation is not None
    assert made.recommendation.treatment == WATCH
    assert not made.recommendation.better_than_watching
    assert "no treatment has an indication" in made.recommendation.why


def test_what_helps_and_is_indicated_is_recommended_with_its_reason() -> None:
    made = advised()
    assert made.best.treatment == METOPROLOL
    assert made.recommendation is not None
    assert (made.recommendation.treatment, made.recommendation.better_than_watching) == (METOPROLOL, True)
    assert "control of the ventricular rate" in made.recommendation.why
    assert made.best.from_watching_ci[1] < 0
    order = [row.treatment for row in made.candidates]
    assert order.index(WATCH) == 1
    assert DOFETILIDE in order  # conversion of AF is an indication, and it is not better here
    assert PLACEBO not in order


def test_what_is_asked_for_by_name_stays_and_is_never_recommended_without_an_indication() -> None:
    slow = {**NORMAL, "hr_bpm": 45.0}
    made = advised(
        hr=45.0, facts=facts(slow, ("Sinus rhythm", "Bradycardia")), candidates=(WATCH, ATROPINE), by_name=True
    )
    row = next(row for row in made.candidates if row.treatment == ATROPINE)
    assert row.from_watching_ci[1] < 0, "in this world it lowers the score"
    assert not row.indicated
    assert not row.better_than_watching
    assert made.recommendation is not None
    assert made.recommendation.treatment == WATCH
    assert made.candidates[0].treatment == WATCH


def test_watching_wins_ties() -> None:
    nothing = AnalyticWorld(responses={})
    made = advised(nothing)
    assert made.best.treatment == WATCH
    assert len(made.tied) == len(made.candidates)
    assert made.recommendation is not None
    assert "excludes 0" in made.recommendation.why
    assert made.recommendation.settled  # common random numbers: every difference is exactly 0
    assert all(row.from_watching == pytest.approx(0, abs=1e-12) for row in made.candidates)


def test_a_treatment_that_kills_now_and_then_is_not_better() -> None:
    made = advised(AnalyticWorld(lethal=("metoprolol",)))
    row = next(row for row in made.candidates if row.treatment == METOPROLOL)
    assert row.n_lethal == 8
    assert made.best.treatment == WATCH


class Noisy(AnalyticWorld):
    """Metoprolol helps in most futures and harms in some: few futures do not settle it."""

    def step(self, state, treatments, rng):
        after = super().step(state, treatments, rng)
        generators = rng if isinstance(rng, list) else [rng]
        shift = np.array([g.normal(0, 9) if t else g.normal(0, 0) for t, g in zip(treatments, generators)])
        rest = after.inner["rest"].copy()
        rest[:, 0] += shift
        later = replace(after, inner={"rest": rest})
        return replace(later, ecg=self._record(later, [np.random.default_rng(i) for i in range(len(later))]))


def test_contenders_are_drawn_further_until_it_is_settled_or_the_budget_is_spent() -> None:
    short, long = (advised(Noisy(), k=6, extra=extra, candidates=(WATCH, METOPROLOL)) for extra in (0, 600))
    assert (len(short.seeds), len(long.seeds) > 12) == (6, True)
    assert short.recommendation is not None
    assert short.recommendation.treatment == WATCH
    assert not short.recommendation.settled
    assert "not settled" in " ".join(short.warnings)
    assert long.model_calls <= short.model_calls + 600
    assert long.recommendation is not None
    assert long.recommendation.treatment == METOPROLOL
    assert len(long.candidates[0].risks) == len(long.seeds)


def test_json_has_what_a_reader_needs() -> None:
    document = json.loads(json.dumps(advised().to_json_dict(), allow_nan=False))
    assert {"treatment", "better_than_watching", "why"} <= set(document["recommendation"])
    assert document["recommendation"]["treatment"] == document["candidates"][0]["treatment"]
    assert document["candidates"][0]["indications"]
    assert {"treatment", "why"} <= set(document["unindicated"][0])
    assert any("potassium is unknown" in warning for warning in advised(candidates=None).warnings)


def test_what_was_not_understood_is_in_the_warnings() -> None:
    taken = Patient(medication=frozenset({"Tagamet", "aspirin"}))
    made = advised(patient=taken, remarks=("sex 'Marsian' in the header is not understood",))
    text = " ".join(made.warnings)
    assert "Marsian" in text
    assert "'Tagamet' was read as cimetidine" in text
    assert "aspirin: no rule" in text


def test_rules_and_indications_read_the_record_not_its_reconstruction() -> None:
    state = start(AnalyticWorld(), hr_bpm=75.0, qtcf_ms=430.0)
    seen = facts_of_state(state, AnalyticRisk())
    record = {"hr_bpm": 75.0, "qtcf_ms": 560.0, "p_present": 0.0, "regular": 0.0}
    differing = compared(record, np.full(17, np.nan), seen)
    assert differing.intervals["qtcf_ms"] == 560
    assert not differing.confident
    assert "qtcf_ms is 560 on the record and 42" in differing.disagreements[0]
    assert differing.reference["qtcf_ms"] == 560  # changes are counted from the record where the two disagree
    assert differing.reference["hr_bpm"] == seen.intervals["hr_bpm"]  # and from the reconstruction where they agree
    made = advise(AnalyticWorld(), state, (WATCH, MOXIFLOXACIN), AnalyticRisk(), facts=differing, by_name=True, k=4)
    assert [str(e.treatment) for e in made.excluded] == [str(MOXIFLOXACIN)]
    assert made.recommendation is not None
    assert made.recommendation.confidence.startswith("low")
    assert made.intervals["qtcf_ms"] == 560
    assert made.candidates[0].changes["qtcf_ms"].before == 560


def test_tolerances_are_three_sds_of_reading_a_heart_twice() -> None:
    assert tolerances()["qtcf_ms"][0] == pytest.approx(3 * np.hypot(12.6, 5.2))
