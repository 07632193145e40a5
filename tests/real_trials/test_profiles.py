"""Profiles: which arms, and people on one side each; the literature's sizes are arithmetic on the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ecg_gym.core import Patient
from ecg_gym.real_trials import profile_named, profiles, read_trial, releases, sides_of, trajectories_of
from ecg_gym.real_trials.profiles import by_hash, select
from ecg_gym.real_trials.trajectories import Strip, Trajectory, records_by_subject


def people(trial: str, first: int, periods: dict[int, int], ecgs: int) -> list[Trajectory]:
    """A trajectory of ``ecgs`` strips for every period of every subject, without any file."""
    return [
        Trajectory(trial, f"{trial}-{first + n}", "x", Patient(), (), (Strip(Path("a"), 0.0),) * ecgs, period)
        for n, count in periods.items()
        for period in range(count)
    ]


def as_large_as_the_releases() -> list[Trajectory]:
    """22 people of ECGRDVQ, one with four periods; 21 of the combination arms of ECGDMMLD, one with a single one."""
    rdvq = people("ecgrdvq", 1001, {n: 4 if n == 9 else 5 for n in range(22)}, 48)
    return rdvq + people("ecgdmmld", 2001, {n: 1 if n == 20 else 3 for n in range(21)}, 42)


def test_the_papers_sizes_are_arithmetic_on_the_releases() -> None:
    rdvq, dmmld = releases()["ecgrdvq"], releases()["ecgdmmld"]
    assert sum(rdvq["arms"].values()) == rdvq["ecgs"]
    assert sum(dmmld["arms"].values()) == dmmld["ecgs"]
    full, paper = profile_named("full"), profile_named("paper")
    assert rdvq["ecgs"] + dmmld["ecgs"] == full.expect["ecgs"] == 9443
    dropped = sum(dmmld["arms"][name] for name in paper.trials["ecgdmmld"]["without"])
    assert full.expect["ecgs"] - dropped == paper.expect["ecgs"] == 7763
    n_ecgs = sum(row["test"]["ecgs"] for row in paper.trials.values())
    assert n_ecgs == paper.expect["test_ecgs"] == 5 * 240 + 4 * 126 - 84 == 1620


def test_the_test_side_has_the_papers_size_where_people_allow_it() -> None:
    trajectories = as_large_as_the_releases()
    sides, remarks = sides_of(profile_named("paper"), trajectories)
    counts = records_by_subject(trajectories)
    assert not remarks
    assert sum(counts[name] for name, side in sides.items() if side == "test") == 1620
    assert Counter(sides.values()) == {"test": 9, "validation": 4, "train": 43 - 9 - 4}
    assert sides == sides_of(profile_named("paper"), trajectories[::-1])[0], "the order of the table changes nothing"


def test_a_size_that_cannot_be_met_is_said() -> None:
    sides, remarks = sides_of(profile_named("paper"), people("ecgrdvq", 1001, dict.fromkeys(range(8), 5), 3))
    assert Counter(sides.values())["test"] == 2  # a quarter of eight
    assert remarks == ["ecgrdvq: 2 test subjects with 30 ECGs; 5 with 1200 were wanted"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_people_leave_somebody_to_train_on(n: int) -> None:
    sides, _ = sides_of(profile_named("full"), people("ecgrdvq", 1001, dict.fromkeys(range(n), 5), 3))
    expected = {1: {"test": 1}, 2: {"test": 1, "train": 1}, 3: {"test": 1, "train": 1, "validation": 1}}
    assert Counter(sides.values()) == expected[n]


def test_the_outside_trial_is_all_test() -> None:
    sides, _ = sides_of(profile_named("cipa"), people("ecgcipa", 1001, dict.fromkeys(range(60), 1), 84))
    assert set(sides.values()) == {"test"}


def test_hashes_divide_strangers_and_moving_in_moves_nobody() -> None:
    names = [f"s{i}" for i in range(2000)]
    sides = by_hash(names)
    shares = {side: n / len(names) for side, n in Counter(sides.values()).items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.03)
    assert by_hash([*names, "new"]).items() >= sides.items()


def test_unknown_profiles_and_trials_are_refused(real_data: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="profile is 'papers'; expected one of full, paper, cipa"):
        profile_named("papers")
    assert set(profiles()) == {"full", "paper", "cipa"}
    with pytest.raises(ValueError, match="profile cipa takes ecgcipa, and not ecgrdvq; expected another profile"):
        select(profile_named("cipa"), read_trial("ecgrdvq", real_data("ecgrdvq")))


def test_the_real_table_half_of_the_papers_split(real_data: Callable[[str], Path]) -> None:
    table = select(profile_named("paper"), read_trial("ecgrdvq", real_data("ecgrdvq")))
    trajectories, _ = trajectories_of(table)
    sides, remarks = sides_of(profile_named("paper"), trajectories)
    counts = records_by_subject(trajectories)
    test = [name for name, side in sides.items() if side == "test"]
    assert (len(test), sum(counts[name] for name in test), remarks) == (5, 1200, [])
    assert all(counts[name] == 240 for name in test)
