"""Rivals and language models as Worlds: they keep a World's promises, and each column knows what it should."""

from __future__ import annotations

import json

import chat_server as stub
import numpy as np
import pytest

from ecg_gym.checks import check_world
from ecg_gym.core import WATCH, Treatment, parse_dose
from ecg_gym.llm import ChatClient, Reply, Scripted, connect
from ecg_gym.world_model import WorldModel
from ecg_gym.world_model.conditioning import OBSERVED, FeatureScale, observe_strips
from training.rivals.catalogue import network
from training.rivals.chat import INTERVALS, ChatWorld, move
from training.rivals.condition import fact_names
from training.rivals.layers import Shape
from training.rivals.typical_beats import Beats
from training.rivals.world import RivalWorld

TREATMENTS = [WATCH, Treatment((parse_dose("dofetilide 0.5 mg PO"),))]
AT = {name: i for i, name in enumerate(OBSERVED)}


@pytest.fixture(scope="module")
def base() -> WorldModel:
    return WorldModel.load()


def world_of(name: str, base: WorldModel, with_forecast: bool) -> RivalWorld:
    names = fact_names()
    shape = Shape(*Beats.latent_shape, len(names), width=16, condition=16)
    scale = FeatureScale(names, np.zeros(len(names)), np.ones(len(names)))
    return RivalWorld(network(name, shape).eval(), scale, base, with_forecast)


@pytest.mark.parametrize(
    ("name", "with_forecast"), [("wgan", False), pytest.param("ode-gan", True, marks=pytest.mark.slow)]
)
def test_a_rival_keeps_the_promises_of_a_world(name: str, with_forecast: bool, base: WorldModel) -> None:
    check_world(world_of(name, base, with_forecast), TREATMENTS)


def test_only_the_column_with_our_forecast_knows_target_intervals(base: WorldModel) -> None:
    alone, informed = (world_of("wgan", base, flag) for flag in (False, True))
    later = alone.step(alone.initial(2, np.random.default_rng(0)), TREATMENTS, np.random.default_rng(1))
    facts = {flag: world.condition(later).facts.numpy() for flag, world in ((False, alone), (True, informed))}
    names = fact_names()
    targets = np.array([name.split(".")[0] in ("asked", "known") and "asked" in name for name in names])
    assert np.all(facts[False][:, targets] == 0)
    assert np.any(facts[True][:, targets] != 0)
    np.testing.assert_array_equal(facts[False][:, ~targets], facts[True][:, ~targets])
    drug = names.index("after.modulation.jtpeak_ms")
    assert facts[False][0, drug] != facts[False][1, drug], "the dose is heard"


def answer(**middle: float) -> str:
    usual = {"hr_bpm": 60.0, "pr_ms": 170.0, "qrs_ms": 95.0, "qtcf_ms": 480.0, "tpeak_tend_ms": 90.0, **middle}
    return json.dumps({name: {"low": value - 1, "middle": value, "high": value + 1} for name, value in usual.items()})


def completion(content: str) -> Reply:
    return Reply(200, json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}))


def test_a_language_model_says_intervals_and_the_strip_shows_them(base: WorldModel) -> None:
    client = ChatClient(Scripted([answer()]))
    world = ChatWorld(base, client)
    state = world.initial(1, np.random.default_rng(3), healthy=True)
    later = world.step(state, TREATMENTS[1:], np.random.default_rng(0))
    read = observe_strips(later.ecg)[0]
    assert abs(read[AT["qtcf_ms"]] - 480) < 15
    assert abs(read[AT["hr_bpm"]] - 60) < 3
    words = world.question(later, 0)
    assert "dose: dofetilide" in words
    assert "amount: 0.5 mg" in words
    assert list(world.answers) == [words], "equal questions are put once"


def test_a_server_that_is_of_no_use_changes_nothing(base: WorldModel) -> None:
    with stub.serve([stub.completion("I cannot know that.")]) as server:
        client = ChatClient(connect(server.url), retries=1, seconds=2.0, total_seconds=5.0, sleep=lambda _: None)
        world = ChatWorld(base, client)
        state = world.initial(1, np.random.default_rng(3), healthy=True)
        later = world.step(state, [WATCH], np.random.default_rng(0))
    np.testing.assert_array_equal(later.inner["observed"], state.inner["baseline_observed"])
    assert world.slips["no answer"] == 1


@pytest.mark.slow
def test_a_language_model_keeps_the_promises_of_a_world(base: WorldModel) -> None:
    check_world(ChatWorld(base, ChatClient(lambda body, seconds: completion(answer()))), TREATMENTS)


def test_intervals_stay_within_what_hearts_have_and_unknown_ones_unknown() -> None:
    home = np.full(len(OBSERVED), np.nan)
    for name, value in (("hr_bpm", 60.0), ("qrs_ms", 90.0), ("qtcf_ms", 400.0), ("tpeak_tend_ms", 90.0)):
        home[AT[name]] = value
    row = move(home, dict.fromkeys(INTERVALS, 1e6))
    assert row[AT["hr_bpm"]] == 300
    assert np.isnan(row[AT["pr_ms"]])
    assert row[AT["jtpeakc_ms"]] == 600
    same = move(home, {**dict.fromkeys(INTERVALS, 100.0), "hr_bpm": 60.0, "qrs_ms": 90.0, "qtcf_ms": 430.0})
    assert same[AT["qtcf_ms"]] == pytest.approx(430.0)
    assert same[AT["jtpeak_ms"]] == pytest.approx(430.0 - 90.0 - 100.0)
