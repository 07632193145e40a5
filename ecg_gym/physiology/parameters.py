"""The prior's numbers, read once from ``theta.yaml``, where each stands with unit, source and confidence."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("theta.yaml")


@cache
def _table() -> dict[str, Any]:
    return read_yaml(TABLE)


def row(section: str, name: str) -> dict[str, Any]:
    """One row of the table: value (or lower and upper), unit, confidence, source."""
    return _table()[section][name]


def value(section: str, name: str) -> float:
    """One number, in the unit the table gives."""
    return float(row(section, name)["value"])


def five(section: str, name: str, key: str = "value") -> np.ndarray:
    """One number per wave, ``(5,)`` in the order P, Q, R, S, T and the table's unit."""
    return np.asarray(row(section, name)[key], dtype=float)
