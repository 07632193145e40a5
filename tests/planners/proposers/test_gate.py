"""The gate: whatever a proposer says, nothing passes that the formulary or the rules forbid; property-tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import start

from ecg_gym.core import WATCH, Administration, Dose, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY, violations
from planners.proposers import Enumeration, proposed

NORMAL = {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 92.0, "qtcf_ms": 410.0}
DOSES = [dose for name in FORMULARY.names for dose in FORMULARY.usual_doses(name)]


class Says:
    """A proposer that says what it was made with."""

    def __init__(self, *items: object) -> None:
        self.items = items

    def propose(self, state, rng) -> list:
        return list(self.items)


class AtRandom:
    """Any drug, any amount, any unit and route, known or not, alone or together."""

    def propose(self, state, rng) -> list[Treatment]:
        names, units = [*FORMULARY.names, "ketchup", ""], ["mg", "g", "mcg", "mmol", "U", "mg/kg", "spoons"]

        def dose() -> Dose:
            amount = float(rng.choice([0.0, 1e-3, 0.5, 5.0, 50.0, 400.0, 1e6, -1.0, np.nan, np.inf]))
            return Dose(str(rng.choice(names)), amount, str(rng.choice(units)), str(rng.choice(["PO", "IV", "SC", ""])))

        return [Treatment(tuple(dose() for _ in range(int(rng.integers(0, 4))))) for _ in range(30)]


class TenTimes:
    """The menu at ten times the dose, as one dose and as ten of one."""

    def propose(self, state, rng) -> list[Treatment]:
        chosen = [DOSES[i] for i in rng.permutation(len(DOSES))[:20]]
        return [
            item
            for dose in chosen
            for item in (Treatment((replace(dose, amount=10 * dose.amount),)), Treatment((dose,) * 10))
        ]


PATIENTS = [
    Patient(),
    Patient(age_years=81, sex="F", potassium=2.9, creatinine_clearance=22.0, conditions=frozenset({"heart_failure"})),
    Patient(age_years=30, sex="M", weight_kg=48.0, conditions=frozenset({"asthma"})),
]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    proposer=st.sampled_from([AtRandom(), TenTimes()]),
    patient=st.sampled_from(PATIENTS),
    qtcf=st.sampled_from([380.0, 470.0, 530.0, np.nan]),
    finding=st.sampled_from(["Sinus rhythm", "Atrial fibrillation", "Atrioventricular block"]),
    taken=st.sampled_from(["", "dofetilide 0.5 mg PO", "verapamil 80 mg PO"]),
)
def test_nothing_passes_that_formulary_or_rules_forbid(seed, proposer, patient, qtcf, finding, taken) -> None:
    intervals, findings = {**NORMAL, "qtcf_ms": qtcf}, frozenset({finding})
    past = (Administration(-1.0, FORMULARY.check(parse_dose(taken), patient)),) if taken else ()
    state = start(patient=patient).replaced(doses=(past,))
    rng = np.random.default_rng(seed)
    result = proposed(proposer, state, 8, rng, intervals=intervals, findings=findings)
    assert WATCH in result.treatments
    assert len(set(result.treatments)) == len(result.treatments) <= 9
    for treatment in result.treatments:
        checked = tuple(FORMULARY.check(dose, patient) for dose in treatment.doses)
        assert treatment == Treatment(checked), "it is spelt as the formulary spells it"
        broken = violations(treatment, patient, intervals, past, float(state.hours[0]), findings)
        assert not [v for v in broken if v.hard]
    assert all(refusal.reasons for refusal in result.refusals)
    assert len(result.refusals) <= result.n


def test_ten_times_the_usual_dose_is_mostly_refused_and_counted() -> None:
    result = proposed(TenTimes(), start(), 40, np.random.default_rng(0), intervals=NORMAL)
    assert result.refused_share > 0.8
    assert any("at most" in reason for refusal in result.refusals for reason in refusal.reasons)
    sentences = result.sentences("ten times")
    assert sentences[0] == f"Proposer ten times: {result.n} proposals, {len(result.treatments) - 1} ranked, " + (
        f"{len(result.refusals)} refused."
    )
    assert len(sentences) == 1 + len(result.refusals)


def test_order_spelling_and_number_of_proposals() -> None:
    metoprolol, same = (
        Treatment((Dose("Metoprolol", 0.05, "g", "PO"),)),
        Treatment((Dose("metoprolol", 50, "mg", "PO"),)),
    )
    atropine = Treatment((parse_dose("atropine 1 mg IV"),))
    result = proposed(Says(atropine, metoprolol, same, WATCH, same), start(), 2, intervals=NORMAL)
    assert [str(t) for t in result.treatments][:2] == ["atropine 1 mg IV", "metoprolol 50 mg PO"]
    assert result.treatments[2:] == (WATCH,)
    first = proposed(Says(WATCH, atropine), start(), 2, intervals=NORMAL)
    assert first.treatments[0] == WATCH
    assert len(proposed(Enumeration(), start(), 3, intervals=NORMAL).treatments) == 4


def test_what_is_no_treatment_is_refused_and_nothing_leaves_watching() -> None:
    odd = proposed(Says("aspirin", None, 7, Treatment((Dose("ketchup", 1, "mg", "PO"),))), start(), intervals=NORMAL)
    assert odd.treatments == (WATCH,)
    assert [r.reasons[0][:12] for r in odd.refusals] == ["a str is no ", "a NoneType i", "a int is no ", "drug is 'ket"]
    silent = proposed(Says(), start(), intervals=NORMAL)
    assert (silent.treatments, silent.refusals, silent.refused_share) == ((WATCH,), (), 0.0)


def test_several_patients_or_no_proposals_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="2 patients and k = 8"):
        proposed(Says(), start().repeat(2), intervals=NORMAL)
    with pytest.raises(ValueError, match="k = 0"):
        proposed(Says(), start(), 0, intervals=NORMAL)
