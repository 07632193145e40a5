"""A ``Figure``: one medical constant with its unit, where it comes from and how sure we are.

In the YAML tables a figure is written ``{value: 20.4, unit: L/h}``; its source and confidence are those of the nearest
enclosing block that names them, and can be overridden in place. Sources are keys of ``sources.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ecg_gym.pharmacology.user_drugs import SOURCES, with_own
from ecg_gym.yaml_files import read_yaml

CONFIDENCE = ("H", "M", "L")  # measured or read; standard figure recalled; approximate, a prior


@dataclass(frozen=True)
class Figure:
    """One number of a table."""

    value: float
    unit: str
    source: str  # key of sources.yaml
    confidence: str  # H, M or L

    def __float__(self) -> float:
        return self.value


@cache
def read_table(name: str) -> Any:
    """The parsed YAML file ``name`` of this package."""
    return read_yaml(files(__package__) / name)


@cache
def sources() -> Mapping[str, str]:
    """Every citation, by its key; those of drugs of your own too."""
    return with_own(read_table("sources.yaml"), SOURCES)


@dataclass(frozen=True)
class Block:
    """A mapping out of a YAML table that knows its path and hands its source and confidence down."""

    path: str
    data: Mapping[str, Any]
    source: str | None = None
    confidence: str | None = None

    @classmethod
    def of(cls, path: str, data: Any, parent: Block | None = None) -> Block:
        """The block at ``path``; raises ValueError when the table holds something else there."""
        if not isinstance(data, Mapping):
            raise ValueError(f"{path} is {data!r}; expected a mapping; see the head of formulary.yaml")
        source = data.get("source", parent.source if parent else None)
        confidence = data.get("confidence", parent.confidence if parent else None)
        return cls(path, data, source, confidence)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def entries(self) -> Iterator[str]:
        """The block's own entries, without the inherited marks."""
        return (key for key in self.data if key not in ("source", "confidence"))

    def expect(self, allowed: set[str]) -> None:
        """Raises ValueError for an entry nobody reads."""
        if unknown := [key for key in self.entries() if key not in allowed]:
            raise ValueError(f"{self.path} has {unknown}; expected only {sorted(allowed)}; check the spelling")

    def block(self, key: str) -> Block:
        """The block called ``key`` inside this one; an empty one if it is absent."""
        return Block.of(f"{self.path}.{key}", self.data.get(key) or {}, self)

    def figure(self, key: str, unit: str, default: float | None = None) -> Figure | None:
        """The figure called ``key`` in ``unit``; ``default`` (a plain number, our assumption) where it is absent."""
        if key not in self.data:
            return None if default is None else Figure(default, unit, "assumption", "L")
        return self.parse(self.data[key], unit, f"{self.path}.{key}")

    def hours(self, key: str, default: float) -> float:
        """A time given in h or in min, as hours."""
        data = self.data.get(key)
        in_minutes = isinstance(data, Mapping) and data.get("unit") == "min"
        return self.number(key, "min") / 60 if in_minutes else self.number(key, "h", default)

    def number(self, key: str, unit: str, default: float | None = None) -> float:
        """The value of a figure; raises ValueError when it is absent and has no default."""
        figure = self.figure(key, unit, default)
        if figure is None:
            raise ValueError(f"{self.path} lacks {key}; expected a figure in {unit}; add {{value: ..., unit: {unit}}}")
        return figure.value

    def parse(self, data: Any, unit: str, path: str) -> Figure:
        """A figure checked for number, unit, known source and confidence."""
        if not isinstance(data, Mapping) or not isinstance(data.get("value"), int | float):
            raise ValueError(f"{path} is {data!r}; expected {{value: NUMBER, unit: {unit}}}; write it as a mapping")
        figure = Figure(
            value=float(data["value"]),
            unit=str(data.get("unit")),
            source=str(data.get("source", self.source)),
            confidence=str(data.get("confidence", self.confidence)),
        )
        if figure.unit != unit:
            raise ValueError(f"{path} is in {figure.unit!r}; expected {unit!r}; convert the value and its unit")
        if figure.source not in sources():
            raise ValueError(f"{path} cites {figure.source!r}; expected a key of sources.yaml; add the citation there")
        if figure.confidence not in CONFIDENCE:
            raise ValueError(f"{path} has confidence {figure.confidence!r}; expected one of {CONFIDENCE}; state it")
        return figure


def figures_in(data: Any, source: str | None = None, confidence: str | None = None, path: str = "") -> Iterator[tuple]:
    """Every ``(path, Figure)`` of a parsed table, with inherited marks: what tests and documentation walk over."""
    if not isinstance(data, Mapping):
        if isinstance(data, list):
            for i, item in enumerate(data):
                yield from figures_in(item, source, confidence, f"{path}[{i}]")
        return
    source, confidence = data.get("source", source), data.get("confidence", confidence)
    if isinstance(data.get("value"), int | float):
        yield path, Figure(float(data["value"]), str(data.get("unit")), str(source), str(confidence))
        return
    for key, item in data.items():
        yield from figures_in(item, source, confidence, f"{path}.{key}" if path else str(key))
