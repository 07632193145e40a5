"""What a number or a word about a person can mean: bounds, units and words of ``plausible.yaml``, for every door.

``number_of("magnesium", "2.0 mg/dL")`` is 0.82 mmol/L; what is out of bounds or ambiguous is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ecg_gym.yaml_files import read_yaml

_QUANTITY = re.compile(r"^\s*(?P<value>[-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*(?P<unit>[A-Za-z/]*)\s*$")


@cache
def table() -> Mapping[str, Any]:
    """The parsed table."""
    return read_yaml(files("ecg_gym") / "plausible.yaml")


@cache
def bounds() -> Mapping[str, tuple[float, float, str]]:
    """Field of ``Patient`` -> lowest and highest plausible value, and the unit."""
    return {name: (row["low"], row["high"], row["unit"]) for name, row in table()["numbers"].items()}


def check_bounds(name: str, value: float) -> None:
    """Raises ValueError for a value that no living adult has."""
    low, high, unit = bounds()[name]
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}; expected {low:g} to {high:g} {unit}; check the figure and its unit")


def number_of(name: str, words: Any) -> float:
    """A field of ``Patient`` in its own unit, out of a number or words such as ``"2.0 mg/dL"``.

    Raises ValueError for what is no number, a unit nobody knows, a value out of bounds, and a number without a unit
    that is likely to be in another one.
    """
    row, unit = table()["numbers"][name], table()["numbers"][name]["unit"]
    match = _QUANTITY.match(str(words)) if not isinstance(words, bool) else None
    if match is None or not math.isfinite(float(match["value"])):
        raise ValueError(f"{name} is {words!r}; expected a number in {unit}; leave it out when it is unknown")
    value, written = float(match["value"]), match["unit"]
    if written and written.lower() != unit.lower():
        factors = row.get("also", {})
        if written.lower() not in factors:
            units = ", ".join((unit, *factors))
            raise ValueError(f"{name} is {words!r}; expected a unit out of {units}; convert it to {unit}")
        value *= factors[written.lower()]
    elif not written and "ambiguous" in row:
        low, high, other = row["ambiguous"]
        if low <= value <= high:
            raise ValueError(
                f"{name} is {value:g} without a unit; expected one, because {value:g} {unit} is far out of range and "
                f"{value:g} {other} is not; write {value:g}{unit} or {value:g}{other.split(' ')[0]}"
            )
    check_bounds(name, value)
    return value


def sex_of(word: str) -> str | None:
    """'F', 'M' or None (unknown) for a word of ``plausible.yaml``; raises ValueError for another word."""
    plain = word.strip().strip(".").lower()
    for sex, words in table()["sex"].items():
        if plain in words:
            return None if sex == "unknown" else sex
    raise ValueError(f"sex is {word!r}; expected F or M; leave it out when it is unknown")


def stands_for_over_89(age_years: float) -> bool:
    """Whether an age is the sign by which a data set hides that somebody is over 89."""
    return age_years > table()["over_89"]["above"]


def assumed_over_89() -> float:
    """The age [years] that is assumed for those."""
    return float(table()["over_89"]["years"])


def largest_amplitude_mv() -> float:
    """The most [mV] that one lead moves from peak to peak within two seconds."""
    return float(table()["amplitude_mv"]["high"])
