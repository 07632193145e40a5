"""Rows on disk: one JSONL file per (scenario, agent) and rules, one line per episode, written as the episode ends.

    FOLDER/<scenario>-<rules>/rules.json
    FOLDER/<scenario>-<rules>/<agent>-<settings>.jsonl
    FOLDER/<scenario>-<rules>/<agent>-<settings>.seed<n>.artefact      what was learned, with .json beside it

A line that was cut by ``kill -9`` is dropped when the file is opened again, so at most the episodes under way are lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_gym.io import write_bytes
from training.evaluation.benchmark.protocol import Protocol, canonical, digest

Row = Mapping[str, Any]
Key = tuple[str, int, int]  # world, seed, episode


@dataclass(frozen=True)
class Cell:
    """Where the rows of one agent in one scenario lie."""

    folder: Path
    name: str  # <agent>-<settings>

    @classmethod
    def of(
        cls,
        root: Path,
        protocol: Protocol,
        scenario: str,
        agent: str,
        settings: Mapping[str, Any],
        learned: bool = True,
    ) -> Cell:
        """The cell of an agent with these settings; makes the folder of the rules, and says in it what they are.

        ``learned`` is whether its rows depend on the learned model.
        """
        rules = protocol.rules(scenario, learned)
        folder = root / f"{scenario}-{digest(rules)[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "rules.json").is_file():
            write_bytes(folder / "rules.json", (json.dumps(rules, indent=2, sort_keys=True) + "\n").encode())
        return cls(folder, f"{agent.partition(':')[0]}-{digest(settings)[:12]}")

    @property
    def path(self) -> Path:
        """The file of the rows."""
        return self.folder / f"{self.name}.jsonl"

    def artefact(self, seed: int) -> Path:
        """What the agent learned for this seed."""
        return self.folder / f"{self.name}.seed{seed}.artefact"

    def scratch(self, seed: int) -> Path:
        """Where an unfinished training keeps its checkpoints."""
        return self.folder / f"{self.name}.seed{seed}.part"

    def rows(self) -> dict[Key, Row]:
        """The rows there are; of doubles the first. A last line without an end is not a row."""
        if not self.path.is_file():
            return {}
        result: dict[Key, Row] = {}
        for number, line in enumerate(whole_lines(self.path.read_bytes()), start=1):
            try:
                row = json.loads(line)
                result.setdefault((row["world"], row["seed"], row["episode"]), row)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}:{number} is no row ({error}); expected one JSON object per line as the benchmark "
                    "writes them; move the file away, its episodes are then played again"
                ) from error
        return result

    def mend(self) -> None:
        """Drops a last line that was cut; done before anything is appended."""
        if self.path.is_file() and (text := self.path.read_bytes()) and not text.endswith(b"\n"):
            write_bytes(self.path, b"".join(line + b"\n" for line in whole_lines(text)))

    def append(self, row: Row) -> None:
        """One more row, on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write(canonical(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def whole_lines(text: bytes) -> list[bytes]:
    """The lines that were written to their end, without it."""
    return text.split(b"\n")[:-1]
