"""The prior beside an independent mechanism: hearts of activation and lead field, no Gaussians anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import (
    ECG,
    MODEL_RATE_HZ,
    Patient,
    Treatment,
    independent_from_leads,
    limb_from_independent,
    parse_dose,
)
from ecg_gym.pharmacology import FORMULARY, exposure, modulate
from ecg_gym.pharmacology.modulation import REST
from ecg_gym.physiology import TARGET_INTERVALS, anchor_traces, epk, epk_traces, fit_leads, mcsharry, recorded_rhythm
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient.world import hearts_of
from ecg_gym.waveform import measure

N = 6


def test_it_follows_sinus_rhythm_and_keeps_silent_in_fibrillation() -> None:
    world = VirtualPatient()
    for rhythm, silent in (("sinus", False), ("af", True)):
        ecg = world.initial(3, np.random.default_rng(0), rhythm=rhythm, conduction="normal", scar="").ecg
        measured = measure(ECG(ecg, MODEL_RATE_HZ))
        anchor = epk_traces(ecg, [measured.row(i) for i in range(3)], REST, REST)
        assert (anchor.abstained == silent).all()


@pytest.mark.slow
def test_dofetilide_moves_the_prior_as_it_moves_the_mechanism() -> None:
    """QT and Tpeak-Tend two hours after 0.5 mg: the prior errs by less than 40 % of it and ranks people alike."""
    world = VirtualPatient(dt_hours=2.0)
    before = world.initial(N, np.random.default_rng(13), healthy=True)
    dose = FORMULARY.check(parse_dose("dofetilide 0.5 mg PO"), Patient())
    after = world.step(before, [Treatment((dose,))] * N, np.random.default_rng(4))
    measured = measure(ECG(before.ecg, MODEL_RATE_HZ))
    change = [
        [
            modulate(exposure(state.doses[i], state.patients[i], hours, who), state.patients[i], who, clock_hours=hours)
            for i, who in enumerate(heart.sensitivity for heart in hearts_of(state))
        ]
        for state, hours in ((before, 0.0), (after, 2.0))
    ]
    rows, rr_s = [measured.row(i) for i in range(N)], measured.rr_ms / 1000
    traces = [epk_traces(before.ecg, rows, change[0], later) for later in change]
    new_rr_s = rr_s * np.array([old.sinus_rate / new.sinus_rate for old, new in zip(*change)])
    prior = [refitted(anchor.trace_mv, rr) for anchor, rr in zip(traces, (rr_s, new_rr_s))]
    for name in ("qt_ms", "tpeak_tend_ms"):
        old, new = (np.array([t.intervals[name] for t in world.truth(s)]) for s in (before, after))
        moved = prior[1][name] - prior[0][name]
        assert (moved > 0).all()  # people differ: one of six answers by 3 ms, in the truth too
        assert np.median(moved) > 10
        assert abs(np.mean(moved - (new - old))) < 0.4 * np.mean(new - old)
        assert np.corrcoef(moved, new - old)[0, 1] > 0.5


@pytest.mark.slow
def test_told_the_intervals_and_the_beats_it_draws_the_strip_after_dofetilide() -> None:
    """In all eight leads: an eighth of what a copy of the strip before leaves of the power, intervals as they are."""
    world = VirtualPatient(dt_hours=2.0)
    before = world.initial(N, np.random.default_rng(13), healthy=True)
    dose = FORMULARY.check(parse_dose("dofetilide 0.5 mg PO"), Patient())
    after = world.step(before, [Treatment((dose,))] * N, np.random.default_rng(4))
    seen, then = (measure(ECG(state.ecg, MODEL_RATE_HZ)) for state in (before, after))
    fit = fit_leads(before.ecg, seen)
    assert not fit.abstained.any()
    assert (fit.quality > 0.97).all()
    beats_s, first_s = recorded_rhythm(after.ecg)
    anchor = anchor_traces(fit, then.as_array(TARGET_INTERVALS), beats_s, first_s=first_s)
    true, copy = independent_from_leads(after.ecg), independent_from_leads(before.ecg)
    assert np.mean((anchor - true) ** 2) < np.mean((copy - true) ** 2) / 8
    samples = measure(ECG(limb_from_independent(anchor), MODEL_RATE_HZ))
    for name, within in (("hr_bpm", 0.2), ("pr_ms", 4), ("qrs_ms", 4), ("qt_ms", 4)):
        assert np.median(np.abs(getattr(samples, name) - getattr(then, name))) <= within, name


def refitted(trace_mv: np.ndarray, rr_s: np.ndarray) -> dict[str, np.ndarray]:
    """Intervals [ms] of traces ``(B, 1024)``, each read back by a fit of its own."""
    fit, _ = epk.fit_strips(np.repeat(trace_mv[:, None], 12, axis=1), rr_s)
    return mcsharry.intervals_ms(fit.waves(rr_s), rr_s)
