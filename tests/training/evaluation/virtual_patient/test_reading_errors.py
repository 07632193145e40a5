"""The table of readings: what is sampled, what is fitted, and what a rate alone decides."""

import numpy as np
import pytest

from ecg_gym.look import READ, Look
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.risk.classifier import Findings
from ecg_gym.risk.margins import DEFINED
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient.defining_intervals import decide, rules
from training.evaluation.virtual_patient import reading_errors


@pytest.fixture(scope="module")
def sample():
    pairs = reading_errors.states(reading_errors.Size(people=2, blocked=1))[:24]
    return reading_errors.sample([pair for pair in pairs if len(pair)], 0, Findings.load(), 0, lambda: None)


def test_a_sample_holds_what_was_true_and_what_was_measured(sample):
    n = len(sample.group)
    assert len(sample.reading.hr_bpm) == len(sample.person) == len(sample.truth) == len(sample.logits) == n > 20
    close = np.abs(sample.reading.qrs_ms - sample.truth[:, 2])
    assert np.nanmedian(close) < 10
    assert np.nanmedian(np.abs(reading_errors.errors_of(sample)[:, 0])) < 0.05  # of the rate


def test_a_shift_makes_probabilities_right_on_average():
    rng = np.random.default_rng(0)
    logits, scatter, mean = rng.normal(size=(200, 2)), np.array([0.5, 2.0]), np.array([0.01, 0.7])
    shifted = logits + reading_errors._shift(logits, scatter, mean)
    logits = shifted[..., None] + scatter[:, None] * rng.standard_normal((200, 2, 4000))
    np.testing.assert_allclose(reading_errors._sigmoid(logits).mean(axis=(0, 2)), mean, atol=0.005)


def test_components_of_an_error():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(4000), 2)
    error = 3 + np.repeat(rng.normal(0, 2, 4000), 2) + rng.normal(0, 1, 8000)
    bias, between, within = reading_errors.components(error, person)
    assert bias == pytest.approx(3, abs=0.1)
    assert between / within == pytest.approx(2, rel=0.2)
    assert 1.7 < between < 2.0  # a hundredth at either end is left out


def test_a_rate_decides_what_it_defines():
    look = Look.empty(4)
    look.probabilities[:] = 0.3
    look.intervals[READ.index("hr_bpm")] = [120, 80, 45, np.nan]
    decide(look)
    fast, slow = (look.probabilities[FINDINGS.index(name)] for name in ("Tachycardia", "Bradycardia"))
    assert fast[0] > 0.99 > 0.01 > fast[1]
    assert slow[2] > 0.99 > 0.01 > slow[1]
    assert fast[3] == slow[3] == 0.3
    assert sorted(row[0] for row in rules()) == list(np.flatnonzero(DEFINED))


def test_vitals_and_strips_agree_on_what_a_rate_decides():
    state = VirtualPatient().initial(60, np.random.default_rng(5), rhythm="sinus")
    strips = Findings.load().probabilities(state.ecg) >= 0.5
    vitals = VirtualPatient().vitals(state).findings.T
    same = (strips == vitals)[:, DEFINED].mean()
    assert same >= 0.95
