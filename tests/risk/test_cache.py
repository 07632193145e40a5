"""A strip that comes again is not measured again, and no row's answer depends on who stands beside it."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ecg_gym.core import ECG, MODEL_RATE_HZ, Patient
from ecg_gym.risk import RiskModel, cache
from ecg_gym.risk.cache import MeasuredStrips
from ecg_gym.risk.classifier import Findings
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform import measure
from ecg_gym.waveform.intervals import NUMERIC, Intervals


@pytest.fixture(scope="module")
def strips() -> np.ndarray:
    return VirtualPatient().initial(11, np.random.default_rng(3)).ecg


def same(a: Intervals, b: Intervals) -> bool:
    return a.reason == b.reason and np.array_equal(a.as_array(NUMERIC), b.as_array(NUMERIC), equal_nan=True)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many strips were measured, call by call."""
    counted: list[int] = []

    def counting(ecg: ECG) -> Intervals:
        counted.append(len(ecg.signal))
        return measure(ecg)

    monkeypatch.setattr(cache, "measure", counting)
    return counted


def test_every_different_strip_is_measured_once(strips: np.ndarray, counts: list[int]) -> None:
    known = MeasuredStrips()
    several = strips[[0, 1, 0, 2, 1]]
    assert same(known(several), measure(ECG(several, MODEL_RATE_HZ)))
    assert same(known(strips[:4]), measure(ECG(strips[:4], MODEL_RATE_HZ)))
    assert counts == [3, 1]


def test_a_changed_sample_and_another_precision_are_other_strips(strips: np.ndarray, counts: list[int]) -> None:
    known, other = MeasuredStrips(), strips[:1].copy()
    other[0, 1, 500] += 1e-4
    for strip in (strips[:1], other, strips[:1].astype(float)):
        assert same(known(strip), measure(ECG(strip, MODEL_RATE_HZ)))
    assert counts == [1, 1, 1]


def test_it_forgets_what_was_used_longest_ago(strips: np.ndarray, counts: list[int]) -> None:
    known = MeasuredStrips(most=2)
    for i in (0, 1, 0, 2, 0, 1):
        known(strips[[i]])
    assert len(known) == 2
    assert counts == [1, 1, 1, 1]  # 0, 1, 2, and 1 again


def test_copies_and_pickles_begin_empty_and_answer_alike(strips: np.ndarray) -> None:
    risk = RiskModel.limits_only()
    people = [Patient()] * 4
    total = risk(strips[:4], strips[4:8], people).total
    for twin in (pickle.loads(pickle.dumps(risk)), copy.deepcopy(risk)):
        assert len(twin._measure) == 0
        assert np.array_equal(twin(strips[:4], strips[4:8], people).total, total)


def test_threads_share_one(strips: np.ndarray) -> None:
    known = MeasuredStrips(most=5)
    alone = [measure(ECG(strips[[i]], MODEL_RATE_HZ)) for i in range(len(strips))]
    order = np.random.default_rng(0).integers(len(strips), size=60)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: known(strips[[i]]), order))
    assert all(same(answer, alone[i]) for answer, i in zip(answers, order))
    assert len(known) == 5


def test_with_batch_determinism_a_rows_findings_do_not_depend_on_its_batch(strips: np.ndarray) -> None:
    findings = Findings.load()
    together = findings.probabilities(strips, "batch")
    for rows in ([3], [10, 3], [4, 3, 2, 1, 0, 9, 8, 7, 6, 5]):
        assert np.array_equal(findings.probabilities(strips[rows], "batch"), together[rows])
    assert findings.probabilities(strips[:0], "batch").shape == (0, together.shape[1])
    assert np.allclose(findings.probabilities(strips), together, atol=1e-5)


def test_a_whole_risk_with_batch_determinism_is_the_same_alone(strips: np.ndarray) -> None:
    risk, people = RiskModel.load(deterministic="batch"), [Patient()] * 11
    together = risk(strips, strips[::-1], people)
    for i in (0, 5, 10):
        alone = risk(strips[[i]], strips[::-1][[i]], people[:1])
        assert alone.total[0] == together.total[i]
        assert alone.cost[0] == together.cost[i]


def test_an_unknown_determinism_is_refused() -> None:
    with pytest.raises(ValueError, match="deterministic is 'row'; expected None or 'batch'"):
        RiskModel(deterministic="row")
