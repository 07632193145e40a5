"""Frozen sets of patients: quotas, other people for another secret, and seeds that are what they say."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from ecg_gym.envs.patient_sets import (
    PRIVATE,
    STREAM,
    USUAL,
    PatientSet,
    first_strips,
    kinds,
    load_patients,
    make_patients,
    private_twin,
    quotas,
    stream,
)
from ecg_gym.envs.scenarios import load_scenarios, scenario_named


@pytest.fixture(scope="module")
def small() -> PatientSet:
    return make_patients("small", ("af_rapid_response", "bradycardia"), 12)


def test_quotas_add_up_and_follow_the_shares() -> None:
    for row in load_scenarios().values():
        for n in (7, 50, 100):
            quota = quotas(row, n)
            assert sum(quota.values()) == n
            assert all(abs(quota[kind.name] - n * kind.share) < 1 for kind in row.kinds)


def test_the_kind_of_a_seed_is_the_person_that_the_env_brings() -> None:
    row, seeds = scenario_named("af_rapid_response"), list(range(40))
    envs = gym.make_vec(
        "ecg_gym:ECGInterventionOracle-v0", num_envs=40, scenario=row.name, risk="limits", fidelity="vitals"
    )
    envs.reset(seed=seeds)
    people = envs.unwrapped.episode.state.patients
    special = {kind.name: kind.people.conditions for kind in row.kinds if kind.people.conditions}
    for kind, person in zip(kinds(row, seeds), people):
        for name, conditions in special.items():
            assert (conditions <= person.conditions) == (kind == name)


def test_a_set_has_its_quotas_in_every_part_of_it(small: PatientSet) -> None:
    rows = small.patients["af_rapid_response"]
    quota = quotas(scenario_named("af_rapid_response"), 12)
    assert {kind: sum(p.kind == kind for p in rows) for kind in quota} == quota
    assert sum(p.kind == USUAL for p in rows[:6]) == pytest.approx(quota[USUAL] / 2, abs=1)
    assert len({p.seed for p in rows}) == 12
    assert all(STREAM <= p.seed < 2 * STREAM for p in rows)


def test_a_set_is_the_same_after_a_file_and_its_strips_are_those_of_its_seeds(small: PatientSet, tmp_path) -> None:
    small.save(tmp_path / "set.json")
    again = load_patients(str(tmp_path / "set.json"))
    assert (again, again.sha256) == (small, small.sha256)
    assert first_strips("bradycardia", small.seeds("bradycardia", 3)) == [
        p.strip for p in small.patients["bradycardia"][:3]
    ]


def test_a_twin_has_the_design_and_other_people(small: PatientSet, tmp_path) -> None:
    small.save(tmp_path / "set.json")
    one, other = (private_twin(secret, str(tmp_path / "set.json")) for secret in (b"one", b"other"))
    assert one == private_twin(b"one", str(tmp_path / "set.json"))
    for scenario, rows in small.patients.items():
        assert sorted(p.kind for p in one.patients[scenario]) == sorted(p.kind for p in rows)
        assert all(p.seed >= PRIVATE for p in one.patients[scenario])
    seeds = [set(s.seeds("bradycardia")) for s in (small, one, other)]
    assert len(set.union(*seeds)) == sum(map(len, seeds))
    assert one.name != other.name


def test_streams_never_meet() -> None:
    parts = [set(stream(split, 5, 100)) for split in ("train", "validation")]
    assert not parts[0] & parts[1]
    assert min(map(min, parts)) >= 2 * STREAM
    assert max(map(max, parts)) < 2**32, "Stable-Baselines3 takes no larger seed"


def test_wrong_words_are_refused(small: PatientSet, tmp_path) -> None:
    with pytest.raises(ValueError, match="expected one of validation, train"):
        stream("test", 0, 1)
    with pytest.raises(ValueError, match="expected a packaged set"):
        load_patients("test-v0")
    with pytest.raises(ValueError, match="lower --episodes"):
        small.seeds("bradycardia", 13)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is no set of patients"):
        load_patients(str(tmp_path / "bad.json"))
    assert np.isfinite(small.seeds("bradycardia")).all()


def test_the_packaged_set_has_a_hundred_of_every_scenario_in_quota() -> None:
    packaged = load_patients("test-v1")
    assert set(packaged.patients) == set(load_scenarios())
    for name, rows in packaged.patients.items():
        quota = quotas(scenario_named(name), 100)
        assert {kind: sum(p.kind == kind for p in rows) for kind in quota} == quota
        assert [p.kind for p in rows[:20]] == kinds(scenario_named(name), [p.seed for p in rows[:20]])
