"""``Place``: a value of a YAML file that knows where it stands, so that an error can name the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class YamlPath:
    """One value and its path in the file."""

    path: str  # such as ecgrdvq.yaml: arms.ranolazine[0].dose
    value: Any

    def at(self, key: str | int) -> YamlPath:
        """The value under a key or index; None where it is not there."""
        if isinstance(key, int):
            return YamlPath(f"{self.path}[{key}]", self.value[key])
        joint = ": " if self.path.endswith((".yaml", ".yml")) or self.path == "protocol" else "."
        return YamlPath(f"{self.path}{joint}{key}", self.value.get(key))

    @property
    def text(self) -> str:
        """The value as a message shows it."""
        text = repr(self.value)
        return text if len(text) <= 80 else f"{text[:77]}..."

    def error(self, arrived: str, expected: str, do: str) -> ValueError:
        """The error in three parts, with the place in front."""
        return ValueError(f"{self.path} is {arrived}; expected {expected}; {do}")

    def mapping(self, allowed: AbstractSet[str], required: Sequence[str] = ()) -> YamlPath:
        """This place, if it holds a mapping with allowed keys only and all that are needed."""
        if not isinstance(self.value, Mapping):
            raise self.error(self.text, f"a mapping with keys out of {', '.join(sorted(allowed))}", "write key: value")
        for key in self.value:
            if key not in allowed:
                raise self.at(str(key)).error(
                    "an unknown key", f"one of {', '.join(sorted(allowed))}", "check the spelling"
                )
        for key in required:
            if key not in self.value:
                raise self.error(f"without {key}", f"{', '.join(required)} at least", f"add {key}: ...")
        return self

    def choice(self, key: str, among: Sequence[str], otherwise: str) -> str:
        """The word under a key, out of a few."""
        if key not in self.value:
            return otherwise
        if (result := self.value[key]) not in among:
            raise self.at(key).error(self.at(key).text, f"one of {', '.join(among)}", "choose one of them")
        return str(result)

    def number(self, low: float, high: float) -> float:
        """A finite number from low to high."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not isfinite(self.value):
            raise self.error(self.text, f"a number from {low:g} to {high:g}", "write it without a unit")
        if not low <= self.value <= high:
            raise self.error(self.text, f"a number from {low:g} to {high:g}", "correct the figure")
        return float(self.value)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self.number(low, high)
        if value != int(value):
            raise self.error(self.text, "a whole number", "round it")
        return int(value)

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.error(self.text, "true or false", "write one of the two")
        return self.value
