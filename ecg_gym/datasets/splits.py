"""Who is trained on and who is not: splits that keep a person on one side, stored as files that can be read.

A split is a mapping from a record (or patient) name to "train", "val" or "test". It is decided by group: all records
of a group fall together, and the same group falls the same way in every project that asks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

SPLITS = ("train", "val", "test")


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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {name: sorted(record for record, split in splits.items() if split == name) for name in SPLITS}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(aside, path)


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
