"""Branches: shared beginnings, common random numbers, and numbers that can be written down."""

from __future__ import annotations

import numpy as np
import pytest
from planning import ATROPINE, DOFETILIDE, METOPROLOL, PLACEBO, WORLD, start
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH, Dose, Treatment
from planners.branches import branches
from planners.rollout import common_seeds, futures

SEEDS = common_seeds(0, 4)


def follow(courses, steps: int = 3, world: AnalyticWorld = WORLD, **options):
    return branches(world, start(), courses, SEEDS, AnalyticRisk(), steps=steps, **options)


def test_one_step_is_what_a_plan_looks_at() -> None:
    sampled = futures(WORLD, start(), [METOPROLOL, WATCH], SEEDS, AnalyticRisk())
    for i, branch in enumerate(follow([(METOPROLOL,), ()], steps=1)):
        np.testing.assert_array_equal(branch.risks[0], sampled.risks[i])
        np.testing.assert_array_equal(branch.intervals["qtcf_ms"][0], sampled.intervals["qtcf_ms"][i])
        np.testing.assert_array_equal(branch.first, sampled.ecg[i])


def test_several_steps_are_the_horizon_of_a_plan() -> None:
    sampled = futures(WORLD, start(), [METOPROLOL], SEEDS, AnalyticRisk(), horizon=3)
    (branch,) = follow([(METOPROLOL,)])
    np.testing.assert_allclose(branch.risks.mean(axis=0), sampled.risks[0])
    assert branch.mean == pytest.approx(sampled.risks.mean())
    np.testing.assert_array_equal(branch.state.hours, [3.0] * 4)


def test_courses_that_begin_alike_are_alike_until_they_part() -> None:
    one, two = follow([(METOPROLOL, ATROPINE), (METOPROLOL, DOFETILIDE)])
    np.testing.assert_array_equal(one.risks[0], two.risks[0])
    np.testing.assert_array_equal(one.first, two.first)
    assert (one.risks[1] != two.risks[1]).all()


def test_the_same_random_numbers_in_every_branch() -> None:
    watch, placebo = follow([(), (PLACEBO,)])
    np.testing.assert_array_equal(watch.risks, placebo.risks)  # the analytic world does not know a placebo


def test_risk_can_be_judged_against_an_earlier_strip() -> None:
    seen: list[np.ndarray] = []

    class Watched(AnalyticRisk):
        def __call__(self, before, *rest):
            seen.append(before)
            return super().__call__(before, *rest)

    first = np.full((1, 12, 1024), 0.25, np.float32)
    branches(WORLD, start(), [()], SEEDS, Watched(), steps=2, first=first)
    assert all((before == 0.25).all() and len(before) == len(SEEDS) for before in seen)
    assert len(seen) == 2


def test_a_second_treatment_acts_a_step_later() -> None:
    """Atropine adds 20 bpm per mg at the step it is given at, and half of it is gone after four hours."""
    later, never = follow([(WATCH, ATROPINE), ()], steps=2)
    added = later.intervals["hr_bpm"] - never.intervals["hr_bpm"]
    np.testing.assert_allclose(added[0], 0.0)
    np.testing.assert_allclose(added[1], 20.0, atol=2.5)  # rates are read off peaks on a grid of 10 ms
    assert [len(t) for t in later.state.doses] == [1] * 4
    assert {a.hours for taken in later.state.doses for a in taken} == {1.0}


def test_neither_the_batch_nor_the_company_changes_a_branch() -> None:
    alone = follow([(METOPROLOL,)], batch_rows=1)[0]
    among = follow([(ATROPINE,), (METOPROLOL,), (DOFETILIDE, ATROPINE)], batch_rows=64)[1]
    np.testing.assert_array_equal(alone.risks, among.risks)


def test_shared_steps_are_paid_for_once() -> None:
    value: list[tuple[int, int]] = []
    follow([(METOPROLOL, ATROPINE), (METOPROLOL,), ()], progress=lambda done, total: value.append((done, total)))
    # layers: {metoprolol, watch}, {metoprolol+atropine, metoprolol, watch}, the same three watched on
    assert value[-1] == (8 * 4, 8 * 4)


def test_death_and_what_is_not_finite_count_as_the_worst_from_then_on() -> None:
    killed = follow([(DOFETILIDE,)], world=AnalyticWorld(lethal=("dofetilide",)))[0]
    assert not killed.alive.any()
    np.testing.assert_array_equal(killed.risks, 1.0)
    broken = follow([(WATCH, DOFETILIDE)], world=AnalyticWorld(broken=("dofetilide",)))[0]
    np.testing.assert_array_equal(broken.finite.all(axis=1), [True, False, False])
    assert (broken.risks[0] < 1).all()
    np.testing.assert_array_equal(broken.risks[1:], 1.0)
    assert np.isnan(broken.intervals["qtcf_ms"][1:]).all()


def test_courses_beyond_the_last_step_and_crowds_are_refused() -> None:
    with pytest.raises(ValueError, match="raise steps"):
        follow([(WATCH, WATCH)], steps=1)
    with pytest.raises(ValueError, match="at least one step"):
        follow([(WATCH,)], steps=0)
    with pytest.raises(ValueError, match="follow each"):
        branches(WORLD, start().repeat(2), [()], SEEDS, AnalyticRisk(), steps=1)


def test_the_sd_of_one_future_is_not_known() -> None:
    (branch,) = branches(WORLD, start(), [(Treatment((Dose("placebo", 1.0, "mg", "PO"),)),)], SEEDS[:1],
                         AnalyticRisk(), steps=1)  # fmt: skip
    assert np.isnan(branch.sd)
