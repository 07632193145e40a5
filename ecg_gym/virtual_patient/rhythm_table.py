"""The table of rhythms: names, timing and where each begins."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    pass


@cache
def _table() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(Path(__file__).with_name("rhythms.yaml").read_text(encoding="utf-8"))


def rhythms() -> dict[str, dict[str, Any]]:
    """The rows of the table, by the name of the rhythm."""
    return _table()["rhythms"]


def timing(name: str) -> float:
    """A figure that all rhythms share, in the table's unit."""
    return _table()["timing"][name]["value"]
