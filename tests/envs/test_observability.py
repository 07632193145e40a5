"""What is seen against what is: tiers, the history an agent may know, rewards of one's own, ids."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import LEADS, WATCH, independent_from_leads, limb_from_independent
from ecg_gym.envs import ECGInterventionEnv, Transition, load_scenarios, load_tiers
from ecg_gym.envs.loading import load_reward
from ecg_gym.envs.observations import describe
from ecg_gym.registration import NAMESPACES, SCENARIOS, TIERS
from ecg_gym.risk import pressure_term
from ecg_gym.virtual_patient.world import hearts_of

ID = "ECGIntervention-v0"
NAMED = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide", "metoprolol"],
         "scenario": "healthy_volunteer"}  # fmt: skip

VOLUNTEER = {"scenario": "healthy_volunteer", "drugs": ["metoprolol", "dofetilide"]}
READ = ("hr_bpm", "qrs_ms", "qtcf_ms")


def plain(**kwargs: Any) -> ECGInterventionEnv:
    return gym.make(ID, **{**NAMED, **kwargs}).unwrapped  # type: ignore[return-value]


def oracle(**kwargs: Any) -> ECGInterventionEnv:
    return gym.make("ECGInterventionOracle-v0", risk="limits", **kwargs).unwrapped  # type: ignore[return-value]


# --- ids -------------------------------------------------------------------------------------------------------------


def test_there_is_an_id_for_every_scenario_tier_and_world() -> None:
    assert {name: scenario.id for name, scenario in load_scenarios().items()} == SCENARIOS
    assert tuple(TIERS) == tuple(load_tiers())
    for namespace in NAMESPACES:
        for camel in SCENARIOS.values():
            assert all(f"{namespace}/{camel}{suffix}-v0" in gym.registry for suffix in TIERS.values())


def test_an_id_means_its_scenario_and_tier() -> None:
    env = gym.make("ECGOracle/AFRapidResponse-Missing-v0", risk="limits").unwrapped
    assert (env.scenarios[0].name, env.tier.name) == ("af_rapid_response", "missing")
    assert "tier" not in gym.spec("ECG/Bradycardia-v0").kwargs  # the usual one


# --- tiers -----------------------------------------------------------------------------------------------------------


def test_clean_people_are_typical_and_their_strips_silent() -> None:
    env = oracle(tier="clean", scenario="af_rapid_response")
    env.reset(seed=0)
    heart = hearts_of(env.state)[0]
    assert heart.noise == 0
    assert heart.sensitivity == type(heart.sensitivity).typical()
    env = oracle(scenario="af_rapid_response")
    env.reset(seed=0)
    assert hearts_of(env.state)[0].sensitivity != type(heart.sensitivity).typical()


def test_what_is_seen_is_what_is_in_the_usual_tier() -> None:
    env = plain(obs="waveform")
    seen, _ = env.reset(seed=0)
    assert np.array_equal(seen["ecg"], env.state.ecg[0])
    assert env.episode.now is env.episode.truth


def test_a_noisy_strip_is_noisier_and_the_heart_and_its_reward_are_the_same() -> None:
    quiet, noisy = plain(obs="waveform"), plain(obs="waveform", tier="noisy")
    (a, first), (b, spoilt) = quiet.reset(seed=3), noisy.reset(seed=3)
    assert np.array_equal(quiet.state.ecg, noisy.state.ecg)
    assert 0.02 < np.abs(a["ecg"] - b["ecg"]).std() < 0.5  # [mV]
    assert first["risk"] != spoilt["risk"], "what is told is what is seen"
    seen = noisy.episode.sights[0][0].ecg
    assert np.allclose(limb_from_independent(independent_from_leads(seen)), seen, atol=1e-3)  # Einthoven
    assert quiet.step(1)[1] != noisy.step(1)[1]
    assert np.array_equal(quiet.state.ecg, noisy.state.ecg)
    assert quiet.episode.truth["risk"][0] == noisy.episode.truth["risk"][0]


def test_leads_that_are_off_stay_off_and_are_named() -> None:
    env = plain(obs="waveform", tier="missing")
    sets = set()
    for seed in range(12):
        seen, _ = env.reset(seed=seed)
        off = env.episode.missing[0]
        sets.add(off)
        there = [LEADS.index(lead) for lead in LEADS if lead not in off]
        assert not seen["ecg"][[LEADS.index(lead) for lead in off]].any()
        assert seen["ecg"][there].any(axis=1).all()
        env.step(0)
        assert env.episode.missing[0] == env.episode.sights[0][1].missing == off
    assert {tuple(lead for lead in LEADS if lead not in off) for off in sets} == set(load_tiers()["missing"].lead_sets)


def test_a_delayed_strip_is_seen_one_step_late_and_rewarded_as_late() -> None:
    env = plain(obs="waveform", tier="delayed")
    seen, _ = env.reset(seed=1)
    known = [seen["ecg"].copy()]
    taken = [env.episode.recorded[0][0].ecg]
    last = 0.0
    for action in (1, 0, 0):
        seen, earned, _, _, info = env.step(action)
        known.append(seen["ecg"].copy())
        taken.append(env.episode.recorded[0][-1].ecg)
        assert earned == -last, "that of the strip that is seen now; of the first there is none"
        assert info["risk"] == float(env.episode.now["risk"][0])
        last = float(env.episode.last["risk"][0])
    for step in (1, 2, 3):
        assert np.array_equal(known[step], taken[step - 1])
        assert not np.array_equal(known[step], taken[step])
    assert [sight.hours for sight in env.episode.sights[0]] == [0.0, 1.0, 2.0]


def readings_of_what_is_seen(env: ECGInterventionEnv, states: list[Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Intervals off the first and the newest visible strip of an env, and the risk, by another way than the env's."""
    first, newest = states[0], states[-2] if env.tier.delayed and len(states) > 1 else states[-1]
    if env.task.fidelity == "vitals":
        looks = [env.world.vitals(state, (env.tier, env.episode.missing), False) for state in (first, newest)]
        rows = [{name: float(look[name][0]) for name in READ} for look in looks]
        risk = env.risk.of_looks(*looks, newest.patients, newest.alive).total
    else:
        strips = [env.episode.sights[0][i].ecg[None] for i in (0, -1)]
        results = [env.risk(strips[0], strip, newest.patients, newest.alive) for strip in strips]
        rows = [result.intervals.row(0) for result in results]
        risk = results[1].total
    pressure = pressure_term(env.world.pressure(newest))
    return rows[0], rows[1] | {"risk": float((1 - (1 - risk) * (1 - pressure))[0])}


@pytest.mark.parametrize("fidelity", ["strip", "vitals"])
@pytest.mark.parametrize("tier", ["noisy", "missing", "delayed"])
def test_numbers_of_the_observation_are_those_of_the_strips_that_are_seen(tier, fidelity) -> None:
    """Intervals, their changes and the risk; the true strips of the same hearts would say something else."""
    env, clear = oracle(tier=tier, fidelity=fidelity, **VOLUNTEER), oracle(fidelity=fidelity, **VOLUNTEER)
    vector, _ = env.reset(seed=4)
    true, _ = clear.reset(seed=4)
    states, differences = [env.state], set()
    for action in (0, 4, 0, 1):
        vector, true = env.step(action)[0], clear.step(action)[0]
        states.append(env.state)
        observed, others = describe(env.layout, vector), describe(clear.layout, true)
        first, newest = readings_of_what_is_seen(env, states)
        for name in (*READ, "risk"):
            np.testing.assert_allclose(observed.get(name, np.nan), newest[name], rtol=1e-3, err_msg=name)
            if f"{name}_change" in observed:
                change = newest[name] - first[name]
                np.testing.assert_allclose(observed[f"{name}_change"], change, atol=0.1, err_msg=name)
        differences |= {name for name in observed if abs(observed[name] - others.get(name, np.nan)) > 0.5}
    assert {"qtcf_ms", "qtcf_ms_change"} <= differences, "else this test could not fail"


def test_sights_are_the_history_with_what_was_given() -> None:
    env = plain()
    env.reset(seed=0)
    env.step(1)
    env.step(0)
    sights = env.episode.sights[0]
    assert [s.hours for s in sights] == [0, 1, 2]
    assert [s.treatment for s in sights] == [env.menu[1], WATCH, None]
    assert np.array_equal(sights[-1].ecg, env.state.ecg[0])


def test_the_latent_is_not_shown_where_something_is_hidden() -> None:
    with pytest.raises(ValueError, match="latent"):
        plain(obs="latent", tier="delayed")
    with pytest.raises(ValueError, match="tier is 'foggy'"):
        plain(tier="foggy")


# --- rewards ---------------------------------------------------------------------------------------------------------


def too_few_terms(step: Transition) -> dict[str, np.ndarray]:
    return {"risk": -step.risk}


def test_terms_sum_to_the_reward() -> None:
    env = plain(burden=0.125)
    assert env.reset(seed=0)[1]["reward_terms"] == {"risk": 0.0, "burden": 0.0, "lethal": 0.0}
    for action in (0, 1):
        _, earned, _, _, info = env.step(action)
        assert earned == pytest.approx(sum(info["reward_terms"].values()))
        assert info["reward_terms"]["burden"] == (-0.125 if action else 0.0)


def test_a_reward_of_ones_own_by_import_path() -> None:
    env = plain(reward="rewards:half_the_risk")
    env.reset(seed=0)
    _, earned, _, _, info = env.step(0)
    assert earned == -0.5 * info["risk"]
    assert info["reward_terms"] == {"reward": earned}
    env = plain(reward="rewards:Frugal")
    env.reset(seed=0)
    _, earned, _, _, info = env.step(1)
    assert info["reward_terms"]["drugs"] == -0.25
    assert earned == -info["risk"] - 0.25
    assert '"reward": "rewards:Frugal"' in gym.make(ID, **NAMED, reward="rewards:Frugal").spec.to_json()


@pytest.mark.parametrize("name", ["riks", "no_such_module:reward", "rewards:ID"])
def test_a_reward_that_is_none_is_a_sentence(name) -> None:
    with pytest.raises(ValueError, match="expected"):
        load_reward(name)


def test_a_reward_that_breaks_its_word_is_a_sentence() -> None:
    env = plain(reward=too_few_terms)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected the terms"):
        env.step(0)
    with pytest.raises(ValueError, match="burden"):
        load_reward("rewards:Frugal", 0.5)
    with pytest.raises(ValueError, match="burden is -1"):
        plain(burden=-1)


@pytest.mark.parametrize("burden", [0.0, 0.5, 3.0])
def test_dying_early_never_pays_whatever_a_dose_costs(burden) -> None:
    """Somebody who kills at once against the most expensive survivor there could be."""
    env = gym.make(
        ID,
        world=AnalyticWorld(lethal=("dofetilide",)),
        risk=AnalyticRisk(),
        drugs=NAMED["drugs"],
        burden=burden,
        scenario="healthy_volunteer",
    )
    env.reset(seed=5)
    poison = next(i for i, t in enumerate(env.unwrapped.menu) if t and t.doses[0].drug == "dofetilide")
    _, earned, ended, _, _ = env.step(poison)
    assert ended
    assert earned < -8 * (1 + burden)


def test_knobs_turn_the_world_and_are_json() -> None:
    env = gym.make(ID, **NAMED, knobs={"half_life_hours": 2.0})
    assert env.unwrapped.world.half_life_hours == 2.0
    assert "half_life_hours" in env.spec.to_json()
    with pytest.raises(ValueError, match="no such fields"):
        plain(knobs={"volume": 11})


@pytest.mark.parametrize(
    "kwargs", [{"burden": 2**70}, {"horizon": 2**70}, {"dt_hours": 1e308}, {"reward": object}, {"risk": object}]
)
def test_numbers_beyond_reason_and_rewards_that_cannot_be_called_are_sentences(kwargs) -> None:
    with pytest.raises(ValueError, match="expected"):
        plain(**kwargs)
