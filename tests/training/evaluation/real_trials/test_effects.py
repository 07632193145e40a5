"""Group effects in closed form: pairs in a crossover, groups in a parallel trial, subjects in the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import WATCH, Administration, Dose, Patient, State
from training.evaluation.questions import INTERVALS, Questions
from training.evaluation.real_trials.effects import cells, delineation_metrics, effect_metrics, effect_rows, effects
from training.evaluation.real_trials.forecasts import RealQuestions, treatment_mean, wrong_doses

GIVEN = {
    "t: a": (Administration(0.0, Dose("dofetilide", 0.5, "mg", "PO")),),
    "t: b": (Administration(0.0, Dose("ranolazine", 1500.0, "mg", "PO")),),
    "t: p": (),
}
QTCF = INTERVALS.index("qtcf_ms")


def questions_of(rows: list[tuple[int, str, float, float, float]], published: float = 0.0) -> RealQuestions:
    """Questions ``(subject, arm, hour, change, weight)``: every interval is 400 before and 400 + change after."""
    n = len(rows)
    subject, arm, hour, change, weight = map(np.array, zip(*rows))
    start = State(
        np.zeros((n, 12, 1024), np.float32),
        (Patient(),) * n,
        tuple(GIVEN[a] for a in arm),
        np.full(n, -0.5),
        np.ones(n, bool),
    )
    questions = Questions(start, (WATCH,) * n, subject.astype(int), arm, hour + 0.5, np.zeros(n, bool))
    before = np.full((n, len(INTERVALS)), 400.0)
    after = before + change[:, None]
    return RealQuestions(
        questions, before, after, before + published, after + published, hour, weight, arm == "t: p", np.full(n, "t")
    )


def test_a_crossover_compares_everybody_with_himself() -> None:
    rows = [(s, arm, 2.0, s * 10 + (20 if arm == "t: a" else 5), 1.0) for s in range(4) for arm in ("t: a", "t: p")]
    data = questions_of(rows)
    effect, resampled = effects(cells(data, data.change))
    assert effect[0, 0, QTCF] == pytest.approx(15.0)
    np.testing.assert_allclose(resampled[:, 0, 0, QTCF], 15.0)  # no subject differs in it, though they differ by 30 ms
    assert resampled[:, 1, 0, QTCF].std() > 1, "placebo itself is a change from baseline, and people differ"


def test_a_person_without_placebo_is_left_out_of_a_crossover() -> None:
    rows = [(s, arm, 2.0, 20.0 if arm == "t: a" else 5.0, 1.0) for s in range(3) for arm in ("t: a", "t: p")]
    data = questions_of([*rows, (3, "t: a", 2.0, 100.0, 1.0)])
    assert effects(cells(data, data.change))[0][0, 0, QTCF] == pytest.approx(15.0)


def test_parallel_groups_are_compared_by_their_means() -> None:
    rows = [(s, "t: a", 2.0, 20.0 + s, 1.0) for s in range(3)] + [(s, "t: p", 2.0, float(s), 1.0) for s in range(3, 6)]
    data = questions_of(rows)
    effect, resampled = effects(cells(data, data.change))
    assert effect[0, 0, QTCF] == pytest.approx(21.0 - 4.0)
    known = resampled[np.isfinite(resampled[:, 0, 0, QTCF]), 0, 0, QTCF]
    assert known.std() == pytest.approx(np.sqrt(2 / 3 / 3 + 2 / 3 / 3), rel=0.3)


def test_replicates_count_by_their_weights() -> None:
    data = questions_of([(0, "t: a", 2.0, 30.0, 1 / 3), (0, "t: a", 2.0, 0.0, 2 / 3), (1, "t: a", 2.0, 4.0, 1.0)])
    assert effects(cells(data, data.change))[0][0, 0, QTCF] == pytest.approx((10.0 + 4.0) / 2)


def test_one_person_has_no_interval_and_unmeasured_ecgs_are_left_out() -> None:
    data = questions_of([(0, "t: a", 2.0, 30.0, 1.0), (0, "t: a", 2.0, np.nan, 1.0)])
    table = cells(data, data.change)
    known = {"recorded": effects(table), "model": effects(table)}
    (row,) = [row for row in effect_rows(table, known, "recorded") if row["interval"] == "qtcf_ms"]
    assert (row["effect"], row["ci95"], row["model_inside"]) == (30.0, None, None)
    metrics = effect_metrics([row], known)
    assert metrics["inside_qtcf"]["value"] is None
    assert metrics["effect_error_qtcf"]["value"] == 0.0


def test_the_table_counts_what_lies_inside() -> None:
    rows = [(s, arm, 2.0, (20.0 + s if arm == "t: a" else 0.0), 1.0) for s in range(6) for arm in ("t: a", "t: p")]
    data = questions_of(rows)
    table = cells(data, data.change)
    far = effects(cells(data, data.change + np.where(data.control, 0, 40)[:, None]))
    known = {"recorded": effects(table), "model": effects(table), "no change": far}
    rows_of_table = list(effect_rows(table, known, "recorded"))
    metrics = effect_metrics(rows_of_table, known)
    assert metrics["inside_qtcf"]["value"] == 1.0
    assert metrics["inside_qtcf"]["baselines"]["no change"] == 0.0
    assert metrics["effect_error_qtcf"]["baselines"]["no change"] == pytest.approx(40.0)
    assert {row["control"] for row in rows_of_table if row["arm"] == "t: p"} == {True}
    assert {row["placebo_corrected"] for row in rows_of_table if row["arm"] == "t: a"} == {True}


def test_the_delineators_bias_is_against_the_trials_readers() -> None:
    metrics = delineation_metrics(questions_of([(s, "t: a", 2.0, float(s), 1.0) for s in range(4)], published=-3.0))
    assert metrics["delineation_bias_qtcf"]["value"] == pytest.approx(3.0)
    assert metrics["delineation_bias_qtcf"]["sd"] == pytest.approx(0.0)


def test_a_wrong_drug_shares_nothing_with_the_right_one() -> None:
    data = questions_of([(0, arm, 2.0, 0.0, 1.0) for arm in GIVEN])
    assert wrong_doses(data) == [GIVEN["t: b"], GIVEN["t: a"], GIVEN["t: a"]]


def test_the_treatment_mean_is_other_peoples() -> None:
    others = questions_of([(0, "t: a", 2.0, 10.0, 1.0), (1, "t: a", 2.0, 30.0, 1.0), (1, "t: a", 4.0, 50.0, 1.0)])
    mine = questions_of([(5, "t: a", 2.0, 0.0, 1.0), (5, "t: a", 4.0, 0.0, 1.0), (5, "t: b", 2.0, 0.0, 1.0)])
    np.testing.assert_allclose(treatment_mean(others, mine)[:, QTCF], [20.0, 50.0, 0.0])
