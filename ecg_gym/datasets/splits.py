"""Who is trained on and who is not: splits that keep a person on one side, stored as files that can be read.

A split is a mapping from a record (or patient) name to "train", "val" or "test". It is decided by group: all records
of a group fall together, and the same group falls the same way in every project that asks.

A folder of virtual trials is split by shard. ``splits.json`` beside the shards says which shard and which people stand
on which side, and by name what only the test shards may give; ``TrialSplits.check`` compares a shard with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import write_json

SPLITS = ("train", "val", "test")
TRIAL_SPLITS = ("train", "validation", "test")
TRIALS_FILE = "splits.json"


def by_fold(fold: int) -> str:
    """The split of a PTB-XL ``strat_fold``: 1-8 train, 9 val, 10 test (Wagner 2020 doi:10.1038/s41597-020-0495-6).

    PTB-XL's folds keep a patient's records together.
    """
    if fold not in range(1, 11):
        raise ValueError(f"strat_fold is {fold}; expected 1 to 10; read it from the column of PTB-XL's table")
    return {9: "val", 10: "test"}.get(fold, "train")


def by_hash(group: str, val: float = 0.1, test: float = 0.1) -> str:
    """The split of a group (a patient, or a record where no patient is named), from a hash of its name alone.

    New groups can join later without moving the old ones.
    """
    if not (val >= 0 and test >= 0 and val + test <= 1):
        raise ValueError(
            f"val is {val}, test is {test}; expected fractions that sum to at most 1; try val=0.1, test=0.1"
        )
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "test" if place < test else "val" if place < test + val else "train"


def check_disjoint(splits: Mapping[str, str], groups: Mapping[str, str]) -> None:
    """Raises ValueError if a patient (``groups[record]``) stands on more than one side, or a split is unknown."""
    sides: dict[str, str] = {}
    for record, split in splits.items():
        if split not in SPLITS:
            raise ValueError(f"{record} is in split {split!r}; expected one of {SPLITS}; correct the split file")
        group = groups.get(record, record)
        if sides.setdefault(group, split) != split:
            raise ValueError(
                f"{group} is in {sides[group]!r} and, with {record}, in {split!r}; expected all records of a person on "
                "one side; assign splits by patient"
            )


def write(path: str | Path, splits: Mapping[str, str]) -> None:
    """Store a split as JSON, split by split with sorted names, aside and renamed."""
    document = {name: sorted(record for record, split in splits.items() if split == name) for name in SPLITS}
    write_json(path, document, indent=1)


def read(path: str | Path) -> dict[str, str]:
    """The split stored at ``path``, record by record; ValueError when a record stands twice or a side is missing."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no split file at {path}; expected JSON with {SPLITS}; make it with splits.write")
    document: dict[str, Iterable[str]] = json.loads(path.read_text())
    if set(document) != set(SPLITS):
        raise ValueError(f"{path} has the sides {sorted(document)}; expected exactly {SPLITS}; write it again")
    splits: dict[str, str] = {}
    for name in SPLITS:
        for record in document[name]:
            if record in splits:
                raise ValueError(
                    f"{path} has {record} in {splits[record]!r} and {name!r}; expected one side; write it again"
                )
            splits[record] = name
    return splits


@dataclass(frozen=True)
class TrialSplits:
    """Which shards of virtual trials, and which people, are for what; and what training must not meet."""

    shards: Mapping[int, str]  # number to "train", "validation" or "test"
    patients: Mapping[int, tuple[int, int]]  # number to the first and the last person of that shard
    levels: tuple[float, ...] = ()  # factors on usual doses that only test shards hold
    pairs: frozenset[tuple[str, str]] = frozenset()  # drugs given together in test shards only, each pair in order

    def check(
        self, shard: int, split: str, *, patient: np.ndarray, treatment: np.ndarray, held_out: np.ndarray
    ) -> None:
        """Raises ValueError unless a shard is what the file says: its side, its people, nothing held out outside test.

        ``patient (N,)`` are numbers, ``treatment (N,)`` the words of ``str(Treatment)``, ``held_out (N,)`` booleans.
        """
        name, stored = shard_name(shard), self.shards.get(shard)
        if stored != split:
            raise ValueError(
                f"{name} is read as {split!r}, and {TRIALS_FILE} says {stored!r}; expected the same side in both; "
                "make the trials again in a new folder"
            )
        first, last = self.patients[shard]
        if len(patient) and not (first <= patient.min() and patient.max() <= last):
            raise ValueError(
                f"{name} holds people {patient.min()} to {patient.max()}, and {TRIALS_FILE} says {first} to {last}; "
                "expected nobody else, or a person could stand on two sides; make the shard again"
            )
        if split == "test":
            return
        together = {pair: str(words) for words in np.unique(treatment) for pair in _pairs_in(str(words))}
        if forbidden := sorted(self.pairs & together.keys()):
            raise ValueError(
                f"{name} is for {split} and gives {together[forbidden[0]]!r}; expected {' with '.join(forbidden[0])} "
                "in test shards only; make the shard again"
            )
        if held_out.any():
            raise ValueError(
                f"{name} is for {split} and marks {int(held_out.sum())} rows as held out; expected none outside test; "
                "make the shard again"
            )


def write_trials(
    folder: str | Path,
    shards: Mapping[int, str],
    patients_per_shard: int,
    levels: Iterable[float] = (),
    pairs: Iterable[Sequence[str]] = (),
) -> TrialSplits:
    """Store the sides of a folder's shards in ``splits.json``, aside and renamed; returns everything it now says.

    Shard ``s`` holds people ``s * patients_per_shard`` and following. More shards can join later; ValueError when a
    shard would change sides or people, or when something else is held out than before.
    """
    if unknown := sorted(set(shards.values()) - set(TRIAL_SPLITS)):
        raise ValueError(f"sides are {unknown}; expected some of {TRIAL_SPLITS}; correct the spelling")
    n = patients_per_shard
    new = TrialSplits(
        dict(shards),
        {shard: (shard * n, (shard + 1) * n - 1) for shard in shards},
        tuple(sorted(levels)),
        frozenset((min(pair), max(pair)) for pair in pairs),
    )
    path = Path(folder) / TRIALS_FILE
    if path.is_file():
        new = _joined(read_trials(folder), new, path)
    write_json(path, _document(new), indent=1)
    return new


def read_trials(folder: str | Path) -> TrialSplits:
    """What ``splits.json`` in a folder of shards says; ValueError when it is missing or puts anybody on two sides."""
    path = Path(folder) / TRIALS_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {TRIALS_FILE}; expected the sides of its shards beside them; write it with "
            "splits.write_trials, or make the trials again"
        )
    document = json.loads(path.read_text())
    if set(document) != {*TRIAL_SPLITS, "held_out"}:
        raise ValueError(
            f"{path} has the keys {sorted(document)}; expected {sorted([*TRIAL_SPLITS, 'held_out'])}; write it again"
        )
    shards: dict[int, str] = {}
    patients: dict[int, tuple[int, int]] = {}
    for side in TRIAL_SPLITS:
        for name, (first, last) in zip(document[side]["shards"], document[side]["patients"], strict=True):
            shard = int(name.removesuffix(".npz").rsplit("_", 1)[1])
            if shard in shards:
                raise ValueError(
                    f"{path} has {name} in {shards[shard]!r} and {side!r}; expected one side; write it again"
                )
            shards[shard], patients[shard] = side, (first, last)
    held_out = document["held_out"]
    result = TrialSplits(shards, patients, tuple(held_out["levels"]), frozenset((a, b) for a, b in held_out["pairs"]))
    _check_people(result, path)
    return result


def shard_name(shard: int) -> str:
    """The file name of a shard of virtual trials."""
    return f"trials_{shard:05d}.npz"


def _document(splits: TrialSplits) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for side in TRIAL_SPLITS:
        numbers = sorted(shard for shard, there in splits.shards.items() if there == side)
        document[side] = {
            "shards": [shard_name(shard) for shard in numbers],
            "patients": [list(splits.patients[shard]) for shard in numbers],
        }
    document["held_out"] = {"levels": list(splits.levels), "pairs": [list(pair) for pair in sorted(splits.pairs)]}
    return document


def _joined(old: TrialSplits, new: TrialSplits, path: Path) -> TrialSplits:
    if (old.levels, old.pairs) != (new.levels, new.pairs):
        raise ValueError(
            f"{path} holds out levels {old.levels} and {len(old.pairs)} pairs; expected the levels {new.levels} and "
            f"{len(new.pairs)} pairs of this design; make its trials in another folder"
        )
    for shard in old.shards.keys() & new.shards.keys():
        there, targets = (old.shards[shard], old.patients[shard]), (new.shards[shard], new.patients[shard])
        if there != targets:
            raise ValueError(
                f"{path} has {shard_name(shard)} as {there}; expected {targets} by this design; make its trials in "
                "another folder"
            )
    both = TrialSplits({**old.shards, **new.shards}, {**old.patients, **new.patients}, new.levels, new.pairs)
    _check_people(both, path)
    return both


def _check_people(splits: TrialSplits, path: Path) -> None:
    """Ranges of people must not overlap: a person belongs to one shard, and so to one side."""
    ranges = sorted((*span, shard) for shard, span in splits.patients.items())
    for (_, last, one), (first, _, other) in pairwise(ranges):
        if first <= last:
            raise ValueError(
                f"{path} gives person {first} to {shard_name(one)} and to {shard_name(other)}; expected people of one "
                "shard each; make the trials again"
            )


def _pairs_in(words: str) -> set[tuple[str, str]]:
    """Drugs given together, each pair in order, from the words of a treatment."""
    drugs = sorted({part.split(" ", 1)[0] for part in words.split(" + ") if part})
    return {(a, b) for i, a in enumerate(drugs) for b in drugs[i + 1 :]}
