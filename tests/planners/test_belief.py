"""Beliefs: what the history of strips tells that the last strip does not."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from worlds import STUCK, AnalyticRisk, AnalyticWorld, LockWorld, ResponderWorld, gaussian_ecg

from ecg_gym.core import ECG, MODEL_RATE_HZ, WATCH, Administration, Dose, Patient, Treatment
from planners import Belief, ExhaustivePlanner, check_planner
from planners.history import Chart, Look, before, chart_of
from planners.particles import ParticleFilter, log_likelihood, measurement, systematic

METOPROLOL = Treatment((Dose("metoprolol", 100.0, "mg", "PO"),))
SOMEBODY = Patient(age_years=50.0, sex="F", weight_kg=70.0)


def course(world, treatments, seed: int = 5, **who) -> tuple[Chart, object]:
    """A chart of somebody who was given these treatments, and their true state."""
    state = world.initial(1, np.random.default_rng(seed), hr_bpm=90.0, qtcf_ms=410.0, **who)
    looks = []
    for i, treatment in enumerate(treatments):
        looks.append(Look(float(state.hours[0]), state.ecg[0], treatment=treatment))
        state = world.step(state, [treatment], [np.random.default_rng([seed, i])])
    looks.append(Look(float(state.hours[0]), state.ecg[0]))
    return Chart(tuple(looks), state.patients[0], state.doses[0], float(state.hours[0])), state


@pytest.mark.parametrize("trait", [1.0, -1.0])
def test_particles_find_out_who_answers_a_drug(trait: float) -> None:
    chart, _ = course(ResponderWorld(), [METOPROLOL, WATCH], trait=trait)
    believed = Belief(ResponderWorld(), "particles", n=64).now(chart)
    traits = believed.particles.inner["trait"]
    assert np.mean(traits == trait) > 0.95
    assert believed.state.inner["trait"][0] == trait
    alone = Belief(ResponderWorld(), "last", n=64).now(chart)
    assert alone.state.inner["trait"][0] == 0, "the last strip alone leaves it open"


def test_before_any_dose_both_kinds_are_still_likely() -> None:
    chart, _ = course(ResponderWorld(), [WATCH, WATCH], trait=1.0)
    believed = Belief(ResponderWorld(), "particles", n=64).now(chart)
    assert 0.25 < np.mean(believed.particles.inner["trait"] == 1) < 0.75
    assert believed.model_calls == 2 * 64


def test_a_hidden_place_is_known_from_the_history_alone() -> None:
    world = LockWorld()
    placebo = Treatment((Dose("placebo", 1.0, "mg", "PO"),))
    chart, true = course(world, [placebo, WATCH])
    assert true.inner["place"][0] == STUCK
    assert Belief(world, "history", n=2).now(chart).state.inner["place"][0] == STUCK
    assert Belief(world, "last", n=2).now(chart).state.inner["place"][0] != STUCK


def test_new_strips_are_taken_in_one_by_one() -> None:
    world = ResponderWorld()
    chart, _ = course(world, [METOPROLOL, WATCH, WATCH], trait=1.0)
    whole = Belief(world, "particles", n=16).now(chart)
    step_by_step, request = Belief(world, "particles", n=16), 0
    for until in range(1, len(chart.looks) + 1):
        part = replace(chart, looks=chart.looks[:until], hours=chart.looks[until - 1].hours)
        last = step_by_step.now(part)
        request += last.model_calls
    np.testing.assert_array_equal(last.particles.ecg, whole.particles.ecg)
    assert request == whole.model_calls == 3 * 16
    assert last.ess == whole.ess


def test_another_patient_starts_another_filter() -> None:
    world = ResponderWorld()
    belief = Belief(world, "particles", n=8)
    first, _ = course(world, [WATCH], seed=1)
    other, _ = course(world, [METOPROLOL], seed=2)
    belief.now(first)
    np.testing.assert_array_equal(
        belief.now(other).particles.ecg, Belief(world, "particles", n=8).now(other).particles.ecg
    )


def test_a_late_strip_is_carried_on_to_now() -> None:
    world = AnalyticWorld()
    chart, true = course(world, [WATCH, METOPROLOL])
    late = replace(chart, looks=chart.looks[:2])  # the strip after metoprolol has not come yet
    for how in ("last", "particles"):
        believed = Belief(world, how, n=4).now(late)
        rows = believed.rows(3)
        assert len(rows) == 3
        assert rows.doses[0][-1].dose.drug == "metoprolol"
        rate = 90 - 0.2 * 100
        assert world.added(rows)[0, 0] + rows.inner["rest"][0, 0] == pytest.approx(rate, abs=3)
    assert true.hours[0] == 2.0


def test_doses_given_right_after_a_look_are_not_before_it() -> None:
    dose = METOPROLOL.doses[0]
    taken = (
        Administration(-2.0, dose),
        Administration(0.0, dose),
        Administration(0.0, dose),
        Administration(1.0, dose),
    )
    strip = gaussian_ecg(70, 400)
    looks = (Look(0.0, strip, treatment=METOPROLOL), Look(1.0, strip))
    chart = Chart(looks, SOMEBODY, taken, 1.0)
    assert before(chart, looks[0]) == taken[:2], "one of the two at hour 0 was taken before the episode"
    assert before(chart, replace(looks[1], treatment=METOPROLOL)) == taken[:3]


def test_the_likelihood_prefers_the_heart_that_is_like_the_strip() -> None:
    world = AnalyticWorld()
    crowd = world.initial(2, np.random.default_rng(0), hr_bpm=70.0, qtcf_ms=410.0)
    ecg = np.stack([gaussian_ecg(70, 410), gaussian_ecg(70, 470)]).astype(np.float32)
    crowd = replace(crowd, ecg=ecg)
    near, far = log_likelihood(gaussian_ecg(71, 412), crowd)
    assert near > far + 1
    flat = np.zeros((12, 1024), np.float32)
    assert np.ptp(log_likelihood(flat, crowd)) == 0, "a strip on which nothing can be measured says nothing"
    blind = log_likelihood(gaussian_ecg(71, 412), replace(crowd, ecg=np.stack([ecg[0], flat])))
    assert np.isfinite(blind).all()
    assert blind[0] > blind[1]
    dead = log_likelihood(gaussian_ecg(71, 412), replace(crowd, alive=np.array([True, False])))
    assert dead[1] == -np.inf


def test_a_filter_without_survivors_begins_anew_from_the_strip() -> None:
    world = AnalyticWorld(lethal=("dofetilide",))
    drug = Treatment((Dose("dofetilide", 0.5, "mg", "PO"),))
    chart, _ = course(AnalyticWorld(), [drug])
    kept = ParticleFilter(world, chart, 8, 0)
    kept.see(chart)
    assert kept.restarts == 1
    assert kept.particles.alive.all()
    assert kept.particles.hours.tolist() == [1.0] * 8


def test_systematic_resampling_keeps_shares_to_within_one() -> None:
    weights = np.array([0.5, 0.24, 0.2, 0.06])
    for seed in range(20):
        counts = np.bincount(systematic(weights, 10, np.random.default_rng(seed)), minlength=4)
        assert counts.sum() == 10
        assert (np.abs(counts - 10 * weights) < 1).all()


def test_the_table_of_sds_has_every_interval_the_docs_publish() -> None:
    assert measurement().names == ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")
    assert measurement().sd[3] == pytest.approx(np.hypot(12.6, 5.2))


# --- inside an env --------------------------------------------------------------------------------------------------


def make(**kwargs) -> gym.Env:
    named = {"world": AnalyticWorld(), "risk": AnalyticRisk(), "drugs": ["dofetilide", "metoprolol"],
             "scenario": "healthy_volunteer"}  # fmt: skip
    return gym.make("ecg_gym:ECGIntervention-v0", **{**named, **kwargs})


@pytest.mark.parametrize("tier", ["clean", "noisy", "missing", "delayed"])
@pytest.mark.parametrize("belief", ["last", "history"])
def test_planning_elsewhere_reads_only_what_was_seen(tier: str, belief: str) -> None:
    env = make(tier=tier, max_episode_steps=3)
    planner = ExhaustivePlanner(env, AnalyticWorld(half_life_hours=3.0), k=2, belief=belief, particles=2)
    check_planner(planner, env)
    env.reset(seed=0)
    env.step(0)
    inner = env.unwrapped
    chart = chart_of(inner)
    np.testing.assert_array_equal(chart.looks[-1].ecg, inner.episode.sights[0][-1].ecg)
    _, decided = planner.act()
    hidden = inner.episode
    inner.episode = replace(hidden, state=replace(hidden.state, ecg=hidden.state.ecg + 1.0))
    planner.reset()
    _, blind = planner.act()
    assert decided.plan.to_json_dict() == blind.plan.to_json_dict(), "the true strip made a difference"


@pytest.mark.slow
def test_the_learned_world_is_told_the_last_strip_beside_the_first() -> None:
    from ecg_gym.checks import check_world, same
    from ecg_gym.world_model import WorldModel

    world, truth = WorldModel.load(), AnalyticWorld()
    state = truth.initial(1, np.random.default_rng(0), hr_bpm=80.0, qtcf_ms=410.0)
    start = world.observe(ECG(state.ecg[0], MODEL_RATE_HZ), SOMEBODY)
    assert same(world.assimilate(start, ECG(state.ecg[0], MODEL_RATE_HZ)), start), "its own strip tells nothing new"
    other = truth.initial(1, np.random.default_rng(1), hr_bpm=60.0, qtcf_ms=430.0)
    value = world.assimilate(start.repeat(2), ECG(other.ecg[0], MODEL_RATE_HZ))
    assert value.inner["observed"][0, 0] == pytest.approx(60, abs=2)
    for name in ("baseline", "baseline_observed", "baseline_exposure", "baseline_hours"):
        np.testing.assert_array_equal(value.inner[name], start.repeat(2).inner[name])
    dead = world.assimilate(replace(start, alive=np.zeros(1, bool)), ECG(other.ecg[0], MODEL_RATE_HZ))
    np.testing.assert_array_equal(dead.ecg, start.ecg)
    later = world.step(value, [WATCH, METOPROLOL], np.random.default_rng(0))
    assert np.isfinite(later.ecg).all()
    with pytest.raises(ValueError, match="3 strips for 2 rows"):
        world.assimilate(value, ECG(np.repeat(state.ecg, 3, axis=0), MODEL_RATE_HZ))
    check_world(world, [WATCH, METOPROLOL])
