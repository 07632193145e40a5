"""Pairs stay within a subject's period, weights follow the replicates; arithmetic on the real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from releases import Known, small_protocol

from ecg_gym.real_trials import pairs_of, read_trial, trajectories_of
from ecg_gym.real_trials.trajectories import count_pairs, records_by_subject


def test_a_trajectory_is_one_replicate_of_one_period(look_alike: Callable[[str], Known]) -> None:
    known = look_alike("ecgrdvq")
    trajectories, left_out = trajectories_of(read_trial("ecgrdvq", known.folder, small_protocol("ecgrdvq")))
    assert not left_out
    assert len(trajectories) == 3 * 3 * 3  # people, periods, replicates
    assert len({trajectory.name for trajectory in trajectories}) == len(trajectories)
    for trajectory in trajectories:
        assert [strip.hours for strip in trajectory.strips] == [-0.5, 1.0, 2.5]
        assert [strip.baseline for strip in trajectory.strips] == [True, False, False]
        assert {strip.record.parent.name for strip in trajectory.strips} == {trajectory.subject.split("-")[1]}
        assert trajectory.control == (trajectory.arm == "placebo")
        assert all(abs(strip.weight - 1 / 3) < 1e-12 for strip in trajectory.strips)
    pairs = [(pair.before, pair.after, pair.kind) for pair in pairs_of(trajectories[0])]
    assert pairs == [(0, 1, "baseline"), (0, 2, "baseline"), (1, 2, "consecutive")]


def test_weights_are_one_over_the_replicates(look_alike: Callable[[str], Known]) -> None:
    trajectories, _ = trajectories_of(read_trial("ecgdmmld", look_alike("ecgdmmld").folder, small_protocol("ecgdmmld")))
    hours: dict[tuple, float] = {}
    for trajectory in trajectories:
        for strip in trajectory.strips:
            key = (trajectory.subject, trajectory.period, strip.hours)
            hours[key] = hours.get(key, 0.0) + strip.weight
    assert all(abs(total - 1) < 1e-12 for total in hours.values()), "every hour counts once"
    assert {round(strip.weight, 3) for t in trajectories for strip in t.strips} == {0.333, 0.5}


def test_several_baselines_pair_with_everything_later(look_alike: Callable[[str], Known]) -> None:
    trajectories, _ = trajectories_of(read_trial("ecgcipa", look_alike("ecgcipa").folder, small_protocol("ecgcipa")))
    whole = next(t for t in trajectories if [s.hours for s in t.strips] == [-1, -0.5, 2, 6, 26, 30])
    kinds = [pair.kind for pair in pairs_of(whole)]
    assert (kinds.count("baseline"), kinds.count("consecutive")) == (2 * 4, 1 + 3)


def test_the_real_table_gives_so_many_pairs(real_data: Callable[[str], Path]) -> None:
    table = read_trial("ecgrdvq", real_data("ecgrdvq"))
    trajectories, left_out = trajectories_of(table)
    assert not left_out
    assert len(trajectories) == 109 * 3  # subject-periods, replicates
    assert count_pairs(trajectories) == {"baseline": 327 * 15, "consecutive": 327 * 14}
    counts = records_by_subject(trajectories)
    assert sorted(set(counts.values())) == [192, 240]  # one person took part in four periods
    for trajectory in trajectories:
        assert len({strip.record.parent for strip in trajectory.strips}) == 1
