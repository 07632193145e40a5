"""``TrialTable``: every ECG of a real trial as one row, in the columns of a virtual trial's ``ecgs.csv``.

Added to those columns: ``SUBJECT`` (the number prefixed with the trial's name, because numbers collide between
trials), ``PERIOD``, ``REPLICATE`` and ``PATH``. Doses come from the protocol, by arm and hour; the table only names the
arm. Concentrations are kept to be compared with, never to condition on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecg_gym.clinical_trial import Arm, Protocol
from ecg_gym.core import Administration, Patient

Row = dict[str, Any]
INTERVALS = ("RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND")  # [ms]
MISSING = ("", "NA", "NaN", ".")
SALTS = ("hcl", "sulph", "sulfate", "sulphate", "hydrochloride")  # words of a label that are not the drug


@dataclass(frozen=True)
class Defect:
    """Something in a release that is not as it should be, and what became of it."""

    kind: str  # a key of ``defects`` in releases.yaml
    record: str  # EGREFID, or "" where no record is meant
    action: str  # what was done


@dataclass(frozen=True)
class TrialTable:
    """The ECGs of one release."""

    name: str  # key of releases.yaml
    folder: Path
    protocol: Protocol  # whence the doses come
    rows: tuple[Row, ...]  # one per ECG, in the order of the release's table
    defects: tuple[Defect, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everybody, in order of appearance."""
        return tuple(dict.fromkeys(str(row["SUBJECT"]) for row in self.rows))

    def path(self, row: Mapping[str, Any]) -> Path:
        """The record's path without suffix."""
        return self.folder / str(row["PATH"])

    def arm(self, row: Mapping[str, Any]) -> Arm | None:
        """The protocol's arm of a row; None where the protocol does not hold it."""
        return next((arm for arm in self.protocol.arms if arm.name == row["ARM"]), None)

    def administrations(self, row: Mapping[str, Any]) -> tuple[Administration, ...] | None:
        """Every dose of the row's arm on the clock of ``TPT`` [h], earlier or later than the ECG; None if unknown."""
        arm = self.arm(row)
        return None if arm is None else arm.administrations

    def select(self, *, without_arms: Sequence[str] = ()) -> TrialTable:
        """The table without the ECGs of some arms, named as in the release or in the protocol."""
        dropped = {arm_key(name) for name in without_arms}
        rows = [row for row in self.rows if not dropped & {arm_key(str(row["EXTRT"])), arm_key(str(row["ARM"]))}]
        return replace(self, rows=tuple(rows))


def patient_of(row: Mapping[str, Any]) -> Patient:
    """Who it is: age [years], sex, weight [kg], height [cm]; the rest is unknown in these trials."""
    return Patient(age_years=row["AGE"], sex=row["SEX"], weight_kg=row["WGHT"], height_cm=row["HGHT"])


def arm_key(label: str) -> frozenset[str]:
    """What a label means whatever its spelling: ``Diltiazem+Dofetilide`` and ``Dofetilide + Diltiazem`` are one arm."""
    words = re.findall(r"[a-z0-9]+", label.lower())
    return frozenset(word for word in words if word not in SALTS)


def arm_named(protocol: Protocol, label: str) -> Arm | None:
    """The protocol's arm that a release's label means: by label, by name, or by its set of drugs."""
    key = arm_key(label)
    for keys in (
        [arm_key(arm.label) for arm in protocol.arms],
        [arm_key(arm.name) for arm in protocol.arms],
        [frozenset(word for drug in arm.drugs for word in arm_key(drug)) for arm in protocol.arms],
    ):
        if key in keys and key:
            return protocol.arms[keys.index(key)]
    return None


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file as text; ValueError when the file or one of the ``columns`` is not there."""
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; expected the release as downloaded; give the folder that holds {path.name} "
            "(docs/real_data.md says where it comes from)"
        )
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ValueError(
                f"{path} lacks the columns {missing}; expected those of the release; compare it with {path.name} as "
                "downloaded"
            )
        return list(reader)


def number(text: str | None) -> float | None:
    """A cell as a number; None for NA and nothing."""
    return None if text is None or text.strip() in MISSING else float(text)


def word(text: str | None) -> str | None:
    """A cell as text without the spaces around it; None for NA and nothing."""
    return None if text is None or text.strip() in MISSING else text.strip()
