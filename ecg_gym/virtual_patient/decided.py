"""``decide``: findings that a measured interval alone decides, such as tachycardia, follow from the reading."""

from __future__ import annotations

from functools import cache

import numpy as np

from ecg_gym.look import READ, Look
from ecg_gym.virtual_patient.readings import TABLE

COLUMNS = ("finding", "quantity", "side", "at", "per", "largest", "steepness")  # of a row of ``decided`` in the table


@cache
def rules() -> tuple[tuple[int, str, float, float, float, float, float], ...]:
    """One row for each such finding: its number, the interval, the side (1 above, -1 below), limit, unit of the margin,
    the largest margin and the steepness of the sigmoid."""
    with np.load(TABLE, allow_pickle=False) as held:
        return tuple((int(row[0]), READ[int(row[1])], *map(float, row[2:])) for row in held["decided"])


def decide(look: Look) -> None:
    """Write their probabilities into ``look`` where the interval was read; the others stay."""
    for finding, quantity, side, at, per, largest, steepness in rules():
        beyond = np.clip(side * (look[quantity] - at) / per, -largest, largest)
        known = np.isfinite(beyond)
        look.probabilities[finding, known] = 1 / (1 + np.exp(-steepness * beyond[known]))
