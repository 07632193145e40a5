"""How people, their hearts and their recordings differ: ``population.yaml``, and how to draw from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.yaml_files import read_yaml

_MARKS = ("unit", "source", "confidence")


@cache
def population() -> dict[str, dict[str, Any]]:
    """The table, section by section; every row says its unit, source and confidence."""
    return read_yaml(Path(__file__).with_name("population.yaml"))


def within(row: Mapping[str, Any], value: float) -> float:
    """The value clipped to the row's limits, in the row's unit."""
    return float(np.clip(value, row["low"], row["high"]))


def normal(rng: np.random.Generator, row: Mapping[str, Any], sex: str = "") -> float:
    """A draw from the row's normal distribution within its limits; ``sex`` chooses among means that depend on it."""
    mean = row["mean"][sex] if isinstance(row["mean"], Mapping) else row["mean"]
    return within(row, rng.normal(mean, row["sd"]))


def factor(rng: np.random.Generator, row: Mapping[str, Any]) -> float:
    """A lognormal factor; the row holds mean (0 if not given) and SD of its logarithm."""
    return float(np.exp(rng.normal(row.get("mean", 0), row["sd"])))


def kinds(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds a row gives shares of, in its order; ``none`` stands for none of them."""
    return tuple(name for name in row if name not in _MARKS)


def kind(rng: np.random.Generator, row: Mapping[str, Any]) -> str:
    """One of the row's kinds, by their shares; "" for ``none``."""
    samples = str(rng.choice(kinds(row), p=[row[name] for name in kinds(row)]))
    return "" if samples == "none" else samples
