"""``decide``: findings that a measured interval alone decides, such as tachycardia, follow from the reading."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from ecg_gym.look import READ, Look
from ecg_gym.virtual_patient.readings import TABLE


class Rule(NamedTuple):
    """One such finding."""

    finding: int  # its number
    quantity: str  # the interval
    side: float  # 1 above the limit, -1 below
    at: float  # the limit
    per: float  # unit of the margin
    largest: float  # margin
    steepness: float  # of the sigmoid


@cache
def rules() -> tuple[Rule, ...]:
    """The rules of the table of readings."""
    with np.load(TABLE, allow_pickle=False) as file:
        return tuple(Rule(int(row[0]), READ[int(row[1])], *map(float, row[2:])) for row in file["decided"])


def decide(look: Look) -> None:
    """Write their probabilities into ``look`` where the interval was read; the others stay."""
    for finding, quantity, side, at, per, largest, steepness in rules():
        beyond = np.clip(side * (look[quantity] - at) / per, -largest, largest)
        finite = np.isfinite(beyond)
        look.probabilities[finding, finite] = 1 / (1 + np.exp(-steepness * beyond[finite]))
