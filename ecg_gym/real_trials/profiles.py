"""Profiles: which arms of which trials are taken, and which people are for training, validation and testing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import yaml

from ecg_gym.real_trials.table import TrialTable
from ecg_gym.real_trials.trajectories import Trajectory, records_by_subject

SIDES = ("train", "validation", "test")
LARGEST_TEST_SHARE = 4  # at most one subject in so many is for testing, where a release is not complete
MOST_CHOICES = 200_000  # combinations of test subjects looked through for the size that is wanted


@dataclass(frozen=True)
class Profile:
    """One row of ``profiles.yaml``."""

    name: str
    title: str
    trials: Mapping[str, Mapping[str, Any]]
    expect: Mapping[str, int]


@cache
def profiles() -> Mapping[str, Profile]:
    """The profiles by name."""
    with open(Path(__file__).with_name("profiles.yaml"), encoding="utf-8") as file:
        rows = yaml.safe_load(file)
    return {name: Profile(name, row["title"], row["trials"], row["expect"]) for name, row in rows.items()}


def profile_named(name: str) -> Profile:
    """The profile of that name; ValueError for another."""
    if name not in profiles():
        raise ValueError(f"profile is {name!r}; expected one of {', '.join(profiles())}; check the spelling")
    return profiles()[name]


def select(profile: Profile, table: TrialTable) -> TrialTable:
    """The table with the arms that the profile takes; ValueError for a trial that it does not know."""
    if table.name not in profile.trials:
        raise ValueError(
            f"profile {profile.name} takes {', '.join(profile.trials)}, and not {table.name}; expected another profile "
            "for it; see ecg_gym/real_trials/profiles.yaml"
        )
    return table.select(without_arms=profile.trials[table.name].get("without", ()))


def sides_of(profile: Profile, trajectories: Sequence[Trajectory]) -> tuple[dict[str, str], list[str]]:
    """The side of every subject by name, and remarks where a size that the profile wants cannot be met.

    Decided trial by trial. Of an incomplete release at most a quarter of the people are for testing; at least one
    person of a trial is for testing, and one for training where there are two.
    """
    sides: dict[str, str] = {}
    remarks: list[str] = []
    for trial, row in profile.trials.items():
        counts = records_by_subject([t for t in trajectories if t.source == trial])
        order = sorted(counts, key=hash_of)
        if not order:
            continue
        if row["test"]["subjects"] == "all":
            sides |= dict.fromkeys(order, "test")
            continue
        most = max(1, len(order) // LARGEST_TEST_SHARE)
        test, remark = _choose({name: counts[name] for name in order}, min(row["test"]["subjects"], most), row["test"])
        remarks += [f"{trial}: {remark}"] if remark else []
        rest = [name for name in order if name not in test]
        validation = rest[: min(row["validation"], max(len(rest) - 1, 0))]
        sides |= {name: "test" if name in test else "validation" if name in validation else "train" for name in order}
    return sides, remarks


def _choose(counts: Mapping[str, int], subjects: int, target: Mapping[str, int]) -> tuple[tuple[str, ...], str]:
    """The first ``subjects`` in order, or the first of them that have as many ECGs as is ``target``; and a remark."""
    first = tuple(islice(counts, subjects))
    if "ecgs" not in target:
        return first, ""
    for group in islice(combinations(counts, target["subjects"]), MOST_CHOICES):
        if sum(counts[name] for name in group) == target["ecgs"]:
            return group, ""
    total = sum(counts[name] for name in first)
    return first, f"{subjects} test subjects with {total} ECGs; {target['subjects']} with {target['ecgs']} were wanted"


def by_hash(subjects: Sequence[str], validation: float = 0.1, test: float = 0.2) -> dict[str, str]:
    """The side of each subject by the hash of the name alone, so that people can join without moving others."""
    places = {name: int(hash_of(name)[:16], 16) / 16**16 for name in subjects}
    return {
        name: "test" if place < test else "validation" if place < test + validation else "train"
        for name, place in places.items()
    }


def hash_of(subject: str) -> str:
    """What orders subjects: a hash of the name, the same everywhere."""
    return hashlib.sha256(subject.encode()).hexdigest()
