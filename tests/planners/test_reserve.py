"""What guidelines keep in reserve stands behind what cannot be told from it, and before what is worse."""

from __future__ import annotations

import numpy as np
import pytest
from planning import METOPROLOL, no_rules, start
from worlds import RESPONSES, AnalyticRisk, AnalyticWorld, Response

from ecg_gym.core import WATCH, Dose, Patient, Treatment
from ecg_gym.pharmacology import Reasons
from ecg_gym.pharmacology.indications import table as indications
from planners.advice import advise
from planners.facts import Facts
from planners.plan import Plan
from planners.reserve import in_reserve, table

AMIODARONE = Treatment((Dose("amiodarone", 150.0, "mg", "IV"),))
FAST_AF = {"hr_bpm": 130.0, "pr_ms": np.nan, "qrs_ms": 92.0, "qtcf_ms": 410.0, "p_present": 0.0, "regular": 0.0}
LAST = "when other drugs cannot be given"


def plan_of(as_much: float) -> Plan:
    """The advice where amiodarone slows ``as_much`` times as much as metoprolol does."""
    slows = RESPONSES["metoprolol"].hr_bpm * METOPROLOL.doses[0].amount / AMIODARONE.doses[0].amount
    world = AnalyticWorld(responses={**RESPONSES, "amiodarone": Response(hr_bpm=as_much * slows)})
    known = Facts(FAST_AF, np.full(17, np.nan), frozenset({"Atrial fibrillation"}), FAST_AF)
    state = start(world, hr_bpm=90.0, patient=Patient())
    menu = (WATCH, AMIODARONE, METOPROLOL)
    return advise(world, state, menu, AnalyticRisk(), facts=known, rules=no_rules, k=8)


def test_every_row_is_an_indication_that_there_is() -> None:
    for drug, words in table().items():
        assert words <= {row.says for row in indications()[drug]}, drug


@pytest.mark.parametrize(
    ("present", "held"),
    [
        ((f"amiodarone: rate control or conversion of atrial fibrillation or flutter {LAST}",), True),
        ((f"amiodarone: rate control or conversion of atrial fibrillation or flutter {LAST}",
          "amiodarone: ventricular tachycardia"), False),
        (("metoprolol: control of the ventricular rate in atrial fibrillation or flutter",), False),
        ((f"amiodarone: rate control or conversion of atrial fibrillation or flutter {LAST}",
          "metoprolol: control of the ventricular rate in atrial fibrillation or flutter"), True),
        ((), False),
    ],
)  # fmt: skip
def test_a_drug_with_another_reason_is_not_in_reserve(present, held) -> None:
    assert in_reserve(Reasons(present, (), ())) == held
    assert not in_reserve(None)


def test_of_two_that_cannot_be_told_apart_the_usual_one_comes_first() -> None:
    made = plan_of(as_much=1.0)
    assert [row.treatment for row in made.candidates] == [METOPROLOL, AMIODARONE, WATCH]
    assert made.candidates[1].tie == made.best.tie
    assert made.recommendation is not None
    assert made.recommendation.treatment == METOPROLOL


def test_what_is_surely_better_comes_first_from_reserve_too() -> None:
    made = plan_of(as_much=1.5)
    assert [row.treatment for row in made.candidates] == [AMIODARONE, METOPROLOL, WATCH]
    assert made.candidates[1].tie != made.best.tie
