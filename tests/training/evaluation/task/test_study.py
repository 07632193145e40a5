"""The study of the task: policies meet the same patients, hindsight is no worse than any constant, parts are kept."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from training.evaluation.task import study as module
from training.evaluation.task.play import (
    Constant,
    constants,
    guideline,
    kitchen_sink,
    patients_of,
    play,
    setup_of,
    watch,
)
from training.evaluation.task.search import Search

PATIENTS = 5


@pytest.fixture(scope="module")
def svt():
    return setup_of("svt", "limits"), patients_of("svt", PATIENTS)


def test_patients_are_the_same_for_every_policy_and_others_in_another_scenario(svt) -> None:
    setup, streams = svt
    one, again = (setup.begin(streams, None).state.inner["heart"] for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(streams.key, patients_of("bradycardia", PATIENTS).key)
    assert np.array_equal(streams.key[:2], patients_of("svt", 2).key)


def test_watching_is_the_constant_that_gives_nothing_and_harms_nobody(svt) -> None:
    setup, streams = svt
    course, constant = play(setup, streams, watch), play(setup, streams, Constant(np.zeros(PATIENTS, int)))
    assert np.array_equal(course.returns, constant.returns)
    assert not course.harm.any()
    assert not course.doses.any()
    assert (course.returns >= -setup.task.scenarios[0].clock.steps)[~course.died].all()


def test_a_course_is_what_the_env_of_gymnasium_pays(svt) -> None:
    setup, streams = svt
    env = gym.make("ecg_gym:ECGIntervention-v0", world="oracle", scenario="svt", menu="scenario", fidelity="vitals",
                   risk="limits").unwrapped  # fmt: skip
    entry = len(env.menu) - 1
    env.reset(seed=0)
    env._streams = streams.take(slice(2, 3))
    env.episode = setup.begin(env._streams, None)
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(entry if env.action_masks()[entry] else 0)
        total, over = total + reward, terminated or truncated
    course = play(setup, streams, Constant(np.full(PATIENTS, entry)))
    assert course.returns[2] == pytest.approx(total)


def test_the_kitchen_sink_takes_another_treatment_while_there_is_one(svt) -> None:
    setup, streams = svt
    episode, rng = setup.begin(streams, None), np.random.default_rng(0)
    seen: list[set[str]] = [set() for _ in range(PATIENTS)]
    for _ in range(3):
        entries = kitchen_sink(setup.task, episode, rng)
        for row, entry in enumerate(entries):
            drugs = {setup.task.menu[i].doses[0].drug for i in np.flatnonzero(episode.allowed[row]) if i}
            if drugs - seen[row]:
                assert setup.task.menu[entry].doses[0].drug not in seen[row]
                seen[row].add(setup.task.menu[entry].doses[0].drug)
        episode, _ = setup.advance(episode, entries, streams.after(episode.steps + 1))


def test_the_guideline_gives_something_for_svt(svt) -> None:
    setup, streams = svt
    assert guideline(setup.task, setup.begin(streams, None), np.random.default_rng(0)).any()


def test_one_dose_is_given_once(svt) -> None:
    setup, streams = svt
    once = play(setup, streams, Constant(np.full(PATIENTS, 1), once=True))
    assert (once.doses <= 1).all()
    assert constants(setup, streams).shape == (len(setup.task.menu), PATIENTS)


def test_the_search_prefers_what_ends_the_tachycardia_to_watching(svt) -> None:
    setup, streams = svt
    course = play(setup, streams, Search(2, 1, 2, 2))
    assert course.returns.mean() > play(setup, streams, watch).returns.mean()


def test_the_search_plans_for_what_a_treatment_makes_possible() -> None:
    setup = setup_of("af_rapid_response", "limits")
    episode = setup.begin(patients_of("af_rapid_response", 12), None)
    plans = Search()._plans(setup.task, episode, np.random.default_rng(0).integers(0, 2**64, (12, 2), np.uint64))
    drugs = [treatment.doses[0].drug if treatment else "" for treatment in setup.task.menu]
    pairs = {(drugs[now], drugs[later]) for now, later in zip(plans.now, plans.later) if later}
    assert ("heparin", "cardioversion") in pairs
    assert not any(now == "" for now, _ in pairs), "what watching allows as well is for the next decision"


def test_other_dice_befall_the_same_patients(svt) -> None:
    setup, streams = svt
    own, other, again = (constants(setup, streams, luck=luck) for luck in (0, 1, 1))
    assert np.array_equal(other, again)
    assert not np.array_equal(own, other)


def test_the_document_has_four_numbers_a_scenario_and_goes_on_where_it_was_stopped(tmp_path) -> None:
    size = module.Size(patients=6, ppo_steps=0, lucks=1, risk="limits", search=Search(1, 1, 1, 2))
    document = module.study(size, tmp_path, ("svt",))
    names = {name.partition(".")[2] for name in document["metrics"] if name.startswith("svt.")}
    assert {"constant_share", "one_dose_share", "kitchen_sink_below_guideline", "deaths_per_1000"} <= names
    rows = {row["policy"]: row["return"] for row in document["rows"]}
    assert rows["best constant of each patient"] >= rows["best constant"]
    assert rows["best one dose of each patient"] >= rows["best one dose"]
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert module.study(size, tmp_path, ("svt",)) == document
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()} == parts
    assert json.dumps(document, allow_nan=False)
    assert module.figure(document) is not None
