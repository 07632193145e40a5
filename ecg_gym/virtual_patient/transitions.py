"""What rhythms become, and how soon an arrhythmia comes back: the table of ``transitions.yaml`` as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.yaml_files import read_yaml

MOST_CHANGES = 4  # of the rhythm within one step
NEVER = -1


class Transitions(NamedTuple):
    """By the code of each rhythm ``(R,)``; see the table."""

    ends: np.ndarray  # [1/h]
    recent: np.ndarray
    returns: np.ndarray  # bool: whether it may come back
    early: np.ndarray  # [1/h]
    settles: np.ndarray  # [h]
    late: np.ndarray  # [1/h]
    returns_ectopy: np.ndarray
    hold: np.ndarray  # [1/h]
    becomes: np.ndarray  # code, or NEVER
    becomes_per_hour: np.ndarray  # [1/h]
    becomes_ectopy: np.ndarray
    fails: np.ndarray  # [1/h]
    rate_bpm: np.ndarray  # (R, 2) mean and SD of the rate it begins with
    torsade: int  # the code of torsade


@cache
def transition_yaml() -> Mapping[str, Any]:
    """The whole table."""
    return read_yaml(Path(__file__).with_name("transitions.yaml"))


@cache
def transitions() -> Transitions:
    """The table as arrays, in the order of the table of rhythms."""
    table, names = transition_yaml()["rhythms"], list(rhythms())
    rows = [table.get(name, {}) for name in names]

    def number(part: str, name: str, otherwise: float = 0.0) -> np.ndarray:
        return np.array([float(row.get(part, {}).get(name, otherwise)) for row in rows])

    to = [names.index(row["becomes"]["to"]) if "becomes" in row else NEVER for row in rows]
    return Transitions(
        ends=number("ends", "per_hour"), recent=number("ends", "recent"),
        returns=np.array(["returns" in row or name == "torsade" for row, name in zip(rows, names)]),
        early=number("returns", "early"), settles=number("returns", "settles", 1.0), late=number("returns", "late"),
        returns_ectopy=number("returns", "ectopy"), hold=number("returns", "held", 1.0),
        becomes=np.array(to, np.int64), becomes_per_hour=number("becomes", "per_hour"),
        becomes_ectopy=number("becomes", "ectopy"), fails=number("fails", "per_hour"),
        rate_bpm=np.array([row["rate_bpm"] for row in rhythms().values()], float), torsade=names.index("torsade"),
    )  # fmt: skip


def ages(rhythm: np.ndarray) -> np.ndarray:
    """Whether rhythms ``(B,)``, by their codes, answer less the older they are."""
    return np.asarray(transitions().recent[rhythm] != 0)


def arrhythmia_age(z: Any) -> np.ndarray:
    """How old [h] an atrial arrhythmia is when an episode begins, from standard normal scores."""
    row = transition_yaml()["age"]
    return np.asarray(row["median"]["value"] * np.exp(row["sd"]["value"] * z))
