"""``trials.json``: who the trajectories of a folder of real shards are, what was given and when, what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import Administration, Dose, Patient
from ecg_gym.datasets.transitions import Trials, concatenate, read_shard, shard_paths
from ecg_gym.io import write_json

MANIFEST = "trials.json"
FORMAT = 1


@dataclass(frozen=True)
class RealTrial:
    """One trajectory as a shard holds it: its rows have ``patient == number``."""

    number: int
    source: str
    subject: str
    side: str
    arm: str
    period: int
    replicate: int
    control: bool
    patient: Patient
    administrations: tuple[Administration, ...]
    hours: tuple[float, ...]  # [h] of its strips
    weights: tuple[float, ...]  # of its strips
    baseline: tuple[bool, ...]  # which strips are before the first dose


@dataclass(frozen=True)
class Written:
    """What became of the trajectories."""

    folder: Path
    strips: int
    trials: tuple[RealTrial, ...]
    left_out: Mapping[str, int]  # ECGs by reason
    about: Mapping[str, Any] = field(default_factory=dict)

    def subjects(self, side: str) -> int:
        """How many people stand on a side."""
        return len({trial.subject for trial in self.trials if trial.side == side})


def write_manifest(written: Written) -> None:
    """Store what became of the trajectories, beside their shards."""
    document = {
        "format": FORMAT,
        "about": dict(written.about),
        "strips": written.strips,
        "left_out": dict(written.left_out),
        "trials": [_plain(trial) for trial in written.trials],
    }
    write_json(written.folder / MANIFEST, document, indent=1)


def is_real(folder: Path) -> bool:
    """Whether a folder holds shards of real ECGs, which cannot be made anew."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Written:
    """What ``trials.json`` in a folder of real shards says; ValueError when it is of another version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {MANIFEST}; expected shards of real ECGs; make them with `ecg-gym data shards`"
        )
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("format") != FORMAT:
        raise ValueError(f"{path} has format {document.get('format')}; expected {FORMAT}; make the shards again")
    trials = tuple(_trial_from(row) for row in document["trials"])
    return Written(folder, document["strips"], trials, document["left_out"], document["about"])


def read_real(folder: Path, side: str | None = None) -> tuple[Trials, dict[int, RealTrial]]:
    """The strips of a side (or of all) and the trajectories by ``patient`` number."""
    trials = concatenate([read_shard(path) for path in shard_paths(folder, side)])
    return trials, {trial.number: trial for trial in read_manifest(folder).trials if side in (None, trial.side)}


def row_weights(trials: Trials, trajectories: Mapping[int, RealTrial]) -> np.ndarray:
    """The weight ``(S,)`` of every strip."""
    weight = {(n, hours): w for n, t in trajectories.items() for hours, w in zip(t.hours, t.weights)}
    return np.array([weight[int(n), float(h)] for n, h in zip(trials.patient, trials.hours)])


def _plain(trial: RealTrial) -> dict[str, Any]:
    row = asdict(trial)
    patient = row["patient"]
    row["patient"] = {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in patient.items() if value
    }
    return row


def _trial_from(row: Mapping[str, Any]) -> RealTrial:
    patient: dict[str, Any] = {k: frozenset(v) if isinstance(v, list) else v for k, v in row["patient"].items()}
    doses = tuple(Administration(a["hours"], Dose(**a["dose"])) for a in row["administrations"])
    many = {name: tuple(row[name]) for name in ("hours", "weights", "baseline")}
    return RealTrial(**{**row, **many, "patient": Patient(**patient), "administrations": doses})
