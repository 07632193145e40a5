"""What the benchmark calls an agent, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.evaluation.benchmark.episodes import Agent
from training.evaluation.benchmark.protocol import Protocol


@dataclass(frozen=True)
class Setting:
    """What an agent is made for."""

    protocol: Protocol
    scenario: str
    seed: int  # repetition: of the patients, and of what is learned
    artefact: bytes = b""  # what its preparation brought


Prepared = tuple[bytes, dict[str, Any]]  # the artefact, and what is to be told about it


Prepare = Callable[[Setting, Mapping[str, Any], Path], Prepared]  # may keep checkpoints in the folder


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    name: str
    kind: str  # "anchor", "planner" or "learner"
    says: str  # what it is, for the page
    make: Callable[[Any, Setting, Mapping[str, Any]], Agent]
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: Prepare | None = None
    learned: bool = False  # whether what it does depends on the learned model
    inside: bool = True  # also played inside the learned model, for the exploitation gap
    effort: int = 0  # the lower are played first
    share: float = 1.0  # of the episodes that it is played, the first ones; less for what takes long
