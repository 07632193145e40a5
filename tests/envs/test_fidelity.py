"""Readings without strips: the same hearts, the same spaces, and the strips that would have been shown."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from ecg_gym.checks import check_vector_env
from ecg_gym.envs.episode import Readings
from ecg_gym.virtual_patient import VirtualPatient
from tests.support.worlds import AnalyticWorld

ID = "ECGInterventionOracle-v0"


def walk(fidelity: str, steps: int = 4, scenario: str = "af_rapid_response", **arguments: Any) -> list[Any]:
    """The episodes of six patients under the same actions, step by step."""
    envs = gym.make_vec(ID, num_envs=6, scenario=scenario, risk="limits", fidelity=fidelity, **arguments)
    envs.reset(seed=3)
    rng, episodes = np.random.default_rng(1), [envs.unwrapped.episode]
    for _ in range(steps):
        envs.step(rng.integers(0, envs.single_action_space.n, 6))
        episodes.append(envs.unwrapped.episode)
    return episodes


def test_both_fidelities_have_the_same_hearts_and_strips() -> None:
    watched = {"invalid_action": "noop", "drugs": ["placebo", "magnesium"]}
    for strip, vitals in zip(walk("strip", **watched), walk("vitals", **watched)):
        for name in ("heart", "now", "strip"):
            np.testing.assert_array_equal(strip.state.inner[name], vitals.state.inner[name])
        assert "ecg" not in vars(vitals.state), "a strip was drawn although nobody looked"
        np.testing.assert_array_equal(strip.state.ecg, vitals.state.ecg)
        np.testing.assert_array_equal(strip.first, vitals.first)
        assert list(vitals.state.patients) == list(strip.state.patients)
        assert list(vitals.state.doses) == list(strip.state.doses)


def test_readings_are_near_what_is_measured() -> None:
    names, sinus = ("hr_bpm", "qrs_ms", "qtcf_ms"), "healthy_volunteer"
    strip, vitals = (
        np.concatenate([[e.truth[n] for n in names] for e in walk(f, 3, sinus)], axis=1) for f in ("strip", "vitals")
    )
    error = vitals - strip
    assert np.nanmedian(np.abs(error[0])) < 6
    assert np.nanmedian(np.abs(error[1])) < 8
    assert np.nanmedian(np.abs(error[2])) < 15


def test_a_wide_qrs_that_fills_the_cycle_is_not_read() -> None:
    def unread(rhythm: str) -> float:
        world = VirtualPatient()
        look = world.vitals(world.initial(40, np.random.default_rng(3), rhythm=rhythm), findings=False)
        lost = np.isnan(look["qrs_ms"])
        assert np.isnan(look["qtcf_ms"])[lost].all()
        assert np.isnan(look["r_amplitude_mv"])[lost].all()
        assert not look["p_present"][lost].any()
        return float(lost.mean())

    assert unread("sinus") < 0.05
    assert unread("vt") > 0.7  # of drawn strips 0.88: their QRS is wide at 160 beats a minute


def test_the_history_draws_the_strips_of_every_step() -> None:
    last = walk("vitals", 3)[-1]
    sights = last.sights[2]
    assert [s.hours for s in sights] == [0.0, 0.25, 0.5, 0.75]  # a quarter of an hour each in rapid AF
    np.testing.assert_array_equal(sights[-1].ecg, last.state.ecg[2])
    np.testing.assert_array_equal(sights[0].ecg, last.first[2])
    assert sights[-1].treatment is None
    assert sights[0].treatment is not None


@pytest.mark.parametrize("arguments", [{}, {"tier": "missing"}, {"tier": "delayed", "privileged": True}])
def test_a_batch_is_its_single_envs_to_the_last_bit(arguments: dict[str, Any]) -> None:
    check_vector_env(ID, scenario="svt", risk="limits", fidelity="vitals", exact=True, **arguments)


def test_a_clear_tier_sees_what_is_judged_and_a_noisy_one_does_not() -> None:
    clear, noisy = walk("vitals", 1)[-1], walk("vitals", 1, tier="noisy")[-1]
    assert clear.now is clear.truth
    assert isinstance(noisy.now, Readings)
    assert not np.array_equal(noisy.now["hr_bpm"], noisy.truth["hr_bpm"])
    np.testing.assert_array_equal(noisy.truth["hr_bpm"], clear.truth["hr_bpm"])


def test_a_strip_reads_the_same_again() -> None:
    state = VirtualPatient().initial(4, np.random.default_rng(0))
    first, again = VirtualPatient().vitals(state), VirtualPatient().vitals(state[[0, 1, 2, 3]])
    np.testing.assert_array_equal(first.intervals, again.intervals)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)


def test_a_world_without_readings_refuses_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"fidelity is 'vitals' and AnalyticWorld has no readings without strips;"):
        gym.make("ECGIntervention-v0", world=AnalyticWorld(), fidelity="vitals")
    with pytest.raises(ValueError, match="fidelity is 'vital'; expected one of"):
        gym.make(ID, fidelity="vital")


def test_the_risk_of_readings_is_that_of_strips_that_read_so() -> None:
    from ecg_gym.columns import Patients
    from ecg_gym.look import READ, Look
    from ecg_gym.risk import RiskModel
    from ecg_gym.risk.limits import interval_terms
    from ecg_gym.waveform.intervals import Intervals

    rng, n = np.random.default_rng(0), 40
    table = np.stack([rng.uniform(low, high, n) for low, high in (
        (35, 180), (120, 320), (70, 180), (300, 600), (340, 560), (180, 330), (60, 160), (1, 2), (0.1, 0.5), (0, 1),
        (0, 1), (5, 20))])  # fmt: skip
    table[[9, 10]] = table[[9, 10]].round()
    table[:9][rng.random((9, n)) < 0.1] = np.nan
    look = Look(table, np.full((17, n), np.nan))
    home = Look(table[:, ::-1].copy(), look.probabilities)
    people = VirtualPatient().initial(n, rng).patients
    terms, total, _ = RiskModel.limits_only().judge(home, look, Patients.of(people), np.ones(n, bool))

    def intervals(of: Look) -> Intervals:
        rows = [dict(zip(READ, column)) for column in of.intervals.T]
        return Intervals.from_rows(rows, [""] * n)

    slow = interval_terms(intervals(home), intervals(look), list(people))
    assert set(slow) == set(terms)
    for name, values in slow.items():
        np.testing.assert_allclose(terms[name], values, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(total, 1 - np.prod([1 - v for v in slow.values()], axis=0), rtol=1e-12)
