"""The ranking makes clinical sense on mechanistic hearts, measured from their waveforms, with and without findings."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import WATCH, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import FINDINGS, Risk, RiskModel
from ecg_gym.virtual_patient import FINDINGS as TRUE_FINDINGS
from ecg_gym.virtual_patient import VirtualPatient

WORLD = VirtualPatient(dt_hours=2.0)
N = 3


def risks(model: RiskModel, words: str, **who) -> Risk:
    """The risk two hours after a dose (or ``watch``) in the same N people."""
    state = WORLD.initial(N, np.random.default_rng(1), **who)
    treatment = WATCH if words == "watch" else Treatment((FORMULARY.check(parse_dose(words), Patient()),))
    after = WORLD.step(state, [treatment] * N, np.random.default_rng(2))
    return model(state.ecg, after.ecg, after.patients, after.alive)


@pytest.fixture(scope="module", params=["limits", "both"])
def model(request) -> RiskModel:
    return RiskModel.limits_only() if request.param == "limits" else RiskModel.load()


def test_both_sides_name_the_findings_alike() -> None:
    assert FINDINGS == TRUE_FINDINGS


def test_dofetilide_in_a_healthy_heart_is_worse_than_nothing(model: RiskModel) -> None:
    watch = risks(model, "watch", healthy=True)
    dofetilide = risks(model, "dofetilide 0.5 mg PO", healthy=True)
    assert watch.total.mean() < 0.1
    assert dofetilide.total.mean() > watch.total.mean() + 0.1
    assert dofetilide.cost.mean() > watch.cost.mean() + 0.1


def test_rate_control_in_rapid_fibrillation_is_better_than_nothing(model: RiskModel) -> None:
    watch = risks(model, "watch", rhythm="af_rapid")
    control = risks(model, "metoprolol 50 mg PO", rhythm="af_rapid")
    assert control.total.mean() < watch.total.mean() - 0.1
    assert control.intervals.hr_bpm.mean() < watch.intervals.hr_bpm.mean() - 10


@pytest.mark.slow
def test_a_slow_heart_wants_atropine_and_no_beta_blocker(model: RiskModel) -> None:
    watch, atropine, metoprolol = (
        risks(model, words, rhythm="sinus_bradycardia").total.mean()
        for words in ("watch", "atropine 1 mg IV", "metoprolol 50 mg PO")
    )
    assert atropine < watch < metoprolol
