"""One number out of two channels, from waveforms: what should be worse is worse, and what cannot be judged is worst."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from ecg_gym.core import ECG, MODEL_RATE_HZ, R_PEAK_OFFSET_S, Patient
from ecg_gym.look import READ, Look
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.physiology import mcsharry, wave_modulation
from ecg_gym.risk import FINDINGS, RiskModel, aggregate
from ecg_gym.risk.classifier import Findings, FindingsConfig, FindingsNet
from ecg_gym.waveform import measure

GAINS = np.array([0.6, 1, 0.4, -0.8, 0.2, 0.7, -0.5, 0.3, 0.6, 1, 1, 0.8])
MAN = Patient(sex="M")


def strip(change: Modulation = REST, rr_s: float = 1.0, p_mv: float = 0.15, seed: int = 0) -> np.ndarray:
    """A healthy heart ``(12, 1024)`` [mV] under a modulation: Gaussian beats, 5 uV of noise."""
    centre, width = np.array([[-0.164, -0.032, 0.0, 0.032, 0.272]]), np.array([[0.020, 0.006, 0.009, 0.006, 0.040]])
    waves = mcsharry.from_times(centre, width, np.array([[p_mv, -0.10, 1.0, -0.15, 0.30]]), np.array([1.0]))
    waves, rr = wave_modulation.apply(waves, np.array([1.0]), change, rr_after_s=np.array([rr_s]))
    phase = mcsharry.turn(rr[:, None], -2 * np.pi * R_PEAK_OFFSET_S / rr, 1024, MODEL_RATE_HZ)
    lead, _ = mcsharry.gaussians(waves, phase)
    return (GAINS[:, None] * lead + 0.005 * np.random.default_rng(seed).normal(size=(12, 1024))).astype(np.float32)


def batch(*strips: np.ndarray) -> np.ndarray:
    return np.stack(strips)


def network(seed: int = 0) -> Findings:
    torch.manual_seed(seed)
    return Findings(FindingsNet(FindingsConfig(width=8, blocks=1)))


def test_a_drug_that_prolongs_qt_is_worse_than_watching_and_more_of_it_worse_still() -> None:
    rest = strip()
    after = [strip(Modulation(jtpeak_ms=40 * x, tpeak_tend_ms=40 * x)) for x in (0.0, 0.5, 1.0, 1.5)]
    risk = RiskModel.limits_only()(batch(*[rest] * 4), batch(*after), [MAN] * 4)
    assert risk.total[0] < 0.02
    assert (np.diff(risk.total) > 0.02).all()
    assert risk.total[2] > 0.3
    assert (risk.cost <= risk.total + 1e-12).all()


def test_slowing_a_racing_heart_is_better_than_watching_and_stopping_it_is_not() -> None:
    racing, controlled, slow = strip(rr_s=0.4), strip(rr_s=0.75), strip(rr_s=1.9)
    risk = RiskModel.limits_only()(batch(*[racing] * 3), batch(racing, controlled, slow), [MAN] * 3)
    watch, control, too_much = risk.total
    assert control < watch - 0.2
    assert too_much > control + 0.2


def test_missing_p_waves_are_not_a_long_pr() -> None:
    without = strip(p_mv=0.0)
    risk = RiskModel.limits_only()(batch(without), batch(without), [MAN])
    assert risk.terms["pr_long"][0] == 0
    assert risk.total[0] < 0.02


def test_what_is_not_finite_or_not_alive_is_risk_one() -> None:
    rest, broken, endless = strip(), strip(), strip()
    broken[3, 5], endless[0, 0] = np.nan, np.inf
    risk = RiskModel(network())(
        batch(rest, rest, rest, broken, rest), batch(rest, broken, endless, rest, rest), [MAN] * 5,
        alive=np.array([True, True, True, True, False]),
    )  # fmt: skip
    np.testing.assert_array_equal(risk.finite, [True, False, False, False, True])
    np.testing.assert_array_equal(risk.total[1:], 1)
    np.testing.assert_array_equal(risk.cost[1:], 1)
    assert risk.total[0] < 1
    assert np.isfinite(risk.probabilities).all()


def test_a_flat_strip_is_a_standstill() -> None:
    risk = RiskModel.limits_only()(batch(strip()), np.zeros((1, 12, 1024), np.float32), [MAN])
    assert risk.total[0] == risk.cost[0] == 1
    assert risk.finite[0]


def test_rows_do_not_touch_each_other() -> None:
    after = batch(strip(), strip(Modulation(jtpeak_ms=60)), strip(rr_s=0.45), np.zeros((12, 1024), np.float32))
    before = batch(strip(), strip(seed=1), strip(rr_s=0.8), strip(seed=2))
    patients = [MAN, Patient(sex="F"), Patient(), MAN]
    model, order = RiskModel(network()), [2, 0, 3, 1]
    straight = model(before, after, patients)
    shuffled = model(before[order], after[order], [patients[i] for i in order])
    np.testing.assert_allclose(shuffled.total, straight.total[order], atol=1e-6)
    np.testing.assert_allclose(shuffled.probabilities, straight.probabilities[order], atol=1e-6)
    for name in straight.terms:
        np.testing.assert_allclose(shuffled.terms[name], straight.terms[name][order], atol=1e-6)
    np.testing.assert_allclose(shuffled.intervals.qtcf_ms, straight.intervals.qtcf_ms[order])


@pytest.mark.parametrize("name", list(aggregate.AGGREGATES))
def test_the_papers_risk_is_the_aggregate_and_nothing_else(name: str) -> None:
    after = batch(strip(), strip(rr_s=0.5))
    risk = RiskModel(network(), aggregation=name, use_limits=False)(after, after, [MAN] * 2)
    np.testing.assert_allclose(risk.total, aggregate.AGGREGATES[name](risk.probabilities))
    assert list(risk.terms) == ["findings"]


def test_findings_and_limits_make_one_number() -> None:
    after = batch(strip(), strip(Modulation(jtpeak_ms=80)))
    risk = RiskModel(network())(batch(strip(), strip()), after, [MAN] * 2)
    terms = np.stack(list(risk.terms.values()))
    np.testing.assert_allclose(risk.total, 1 - np.prod(1 - terms, axis=0))
    np.testing.assert_allclose(risk.terms["findings"], aggregate.SHARE * aggregate.adverse(risk.probabilities))
    assert risk.probabilities.shape == (2, len(FINDINGS))


def test_readings_without_strips_are_judged_as_readings_of_strips() -> None:
    """Findings and limits are combined as independent chances of harm, ``1 - (1 - a)(1 - b)``."""
    after, reading = batch(strip(), strip(Modulation(jtpeak_ms=80))), network()
    intervals = Look.empty(2).intervals
    for i, name in enumerate(READ[:-1]):
        intervals[i] = getattr(measure(ECG(after, MODEL_RATE_HZ)), name)
    look = Look(intervals, reading.probabilities(after).T)
    risk = RiskModel(reading)(batch(after[0], after[0]), after, [MAN] * 2)
    first = look.take([0, 0])
    other = RiskModel(reading).of_looks(first, look, [MAN] * 2, np.ones(2, bool))
    np.testing.assert_allclose(other.total, risk.total)
    terms = np.stack(list(other.terms.values()))
    np.testing.assert_allclose(other.total, 1 - np.prod(1 - terms, axis=0))
    assert (other.total > other.terms["findings"]).any()
    assert RiskModel(reading).of_looks(first, look, [MAN] * 2, np.array([True, False])).total[1] == 1


@pytest.mark.parametrize("aggregation", list(aggregate.AGGREGATES))
def test_the_dead_whom_nobody_read_have_no_term_of_findings(aggregation: str) -> None:
    """A soak met NaN in ``info["risk_findings"]`` of who died in the learned world."""
    risk = RiskModel(network(), aggregation=aggregation)
    nothing = Look.empty(2)
    assert np.isnan(nothing.probabilities).all()
    dead = risk.of_looks(nothing, nothing, [MAN] * 2, np.zeros(2, bool))
    assert all(np.isfinite(term).all() for term in dead.terms.values())
    assert (dead.terms["findings"] == 0).all()
    assert (dead.total == 1).all()
    alive = risk.of_looks(nothing, nothing, [MAN] * 2, np.ones(2, bool))
    assert np.isnan(alive.terms["findings"]).all()  # who lives and was not read stays unknown


def test_limits_alone_have_no_probabilities_and_load_no_torch() -> None:
    risk = RiskModel.limits_only()(batch(strip()), batch(strip()), [MAN])
    assert np.isnan(risk.probabilities).all()
    code = "import sys, ecg_gym.risk; ecg_gym.risk.RiskModel.limits_only(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RiskModel.limits_only()(strip()[None], strip()[None, :8], [MAN]), "to_model_grid"),
        (lambda: RiskModel.limits_only()(batch(strip()), batch(strip(), strip()), [MAN] * 2), "for every strip after"),
        (lambda: RiskModel(use_limits=False), "at least one channel"),
        (lambda: RiskModel(network(), aggregation="median"), "expected one of"),
        (lambda: RiskModel.load("nowhere.safetensors"), "no file"),
    ],
)
def test_bad_input_is_answered_with_a_letter(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
