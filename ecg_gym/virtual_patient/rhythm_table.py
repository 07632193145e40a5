"""The table of rhythms: names, timing and where each begins."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ecg_gym.yaml_files import read_yaml


@cache
def rhythm_yaml() -> dict[str, dict[str, Any]]:
    """The whole table: ``rhythms`` and ``timing``."""
    return read_yaml(Path(__file__).with_name("rhythms.yaml"))


def rhythms() -> dict[str, dict[str, Any]]:
    """The rows of the table, by the name of the rhythm."""
    return rhythm_yaml()["rhythms"]


def timing(name: str) -> float:
    """A figure that all rhythms share, in the table's unit."""
    return rhythm_yaml()["timing"][name]["value"]
