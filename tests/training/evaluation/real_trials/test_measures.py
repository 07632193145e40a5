"""Errors, coverage and CRPS of forecasts for real people, from numbers whose answers can be written down."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import WATCH, Patient, State
from training.evaluation.questions import INTERVALS, Questions
from training.evaluation.real_trials import calibration, intervals, leave_one_out
from training.evaluation.real_trials.forecasts import Forecasts, RealQuestions

QTCF = INTERVALS.index("qtcf_ms")


def queries(change: np.ndarray, arm: str = "t: a", subjects: int = 4) -> RealQuestions:
    """Questions whose intervals are 400 before and 400 + ``change (N,)`` after."""
    n = len(change)
    start = State(np.zeros((n, 12, 1024), np.float32), (Patient(),) * n, ((),) * n, np.zeros(n), np.ones(n, bool))
    subject = np.arange(n) % subjects
    before = np.full((n, len(INTERVALS)), 400.0)
    after = before + change[:, None]
    arms = np.full(n, arm)
    return RealQuestions(
        Questions(start, (WATCH,) * n, subject, arms, np.full(n, 2.0), np.zeros(n, bool)), before, after, before, after,
        np.full(n, 2.0), np.ones(n), arms == "t: p", np.full(n, "t"),
    )  # fmt: skip


def forecasts(questions: RealQuestions, samples: np.ndarray) -> Forecasts:
    """The model says 400 + ``samples (K, N)`` of every interval; "no change" is the only rival."""
    levels = np.repeat((400.0 + samples)[:, :, None], len(INTERVALS), axis=2)
    return Forecasts(questions, levels, {"no change": questions.before})


def test_errors_are_against_what_was_recorded() -> None:
    change = np.array([10.0, 20.0, 30.0, 40.0])
    metrics = intervals.metrics(forecasts(queries(change), np.tile(change + 3, (5, 1))))
    assert metrics["mae_qtcf"]["value"] == pytest.approx(3.0)
    assert metrics["mae_qtcf"]["baselines"]["no change"] == pytest.approx(25.0)
    assert metrics["mae_qtcf"]["ci95"] == pytest.approx([3.0, 3.0])
    low, high = metrics["mae_qtcf"]["baselines_ci95"]["no change"]
    assert low < 25 < high, "people differ, and the interval knows"


def test_errors_are_compared_on_the_same_ecgs_and_placebo_stands_apart() -> None:
    change = np.array([10.0, np.nan, 30.0, 40.0])
    metrics = intervals.metrics(forecasts(queries(change, arm="t: p"), np.zeros((5, 4))))
    assert "mae_qtcf" not in metrics
    assert metrics["mae_placebo_qtcf"]["n"] == 3
    assert metrics["mae_placebo_qtcf"]["value"] == metrics["mae_placebo_qtcf"]["baselines"]["no change"]


def test_a_perfect_forecaster_covers_and_knows_its_spread() -> None:
    rng = np.random.default_rng(0)
    true, samples = rng.normal(20, 10, 800), rng.normal(20, 10, (19, 800))
    metrics = calibration.metrics(forecasts(queries(true, subjects=40), samples), None, {})
    assert metrics["coverage90_qtcf"]["value"] == pytest.approx(0.9, abs=0.03)
    assert metrics["spread_skill_qtcf"]["value"] == pytest.approx(1.0, abs=0.05)
    assert metrics["crps_qtcf"]["value"] < metrics["crps_qtcf"]["baselines"]["no change"]
    assert metrics["coverage90_qtcf"]["corrected"] is False


def test_others_lend_their_scatter_to_the_rivals() -> None:
    others, mine = queries(np.array([10.0, 30.0])), queries(np.array([20.0, 20.0, 20.0]))
    rivals = calibration.rivals(mine, others, QTCF)
    np.testing.assert_allclose(rivals["climatology"], [[10.0] * 3, [30.0] * 3])
    np.testing.assert_allclose(rivals["treatment mean, dressed"], [[10.0] * 3, [30.0] * 3])
    assert set(calibration.rivals(mine, None, QTCF)) == {"no change"}


def test_people_who_are_left_out_count_once_each() -> None:
    rows = [
        {"subject": who, "arm": "a", "interval": "qtcf_ms", "n": 1, "model": error, "no change": 9.0}
        for who, error in (("x", 2.0), ("y", 4.0), ("z", None))
    ]
    metrics = leave_one_out.metrics(rows)
    assert metrics["mae_qtcf"]["value"] == pytest.approx(3.0)
    assert metrics["mae_qtcf"]["baselines"] == {"no change": 9.0}
