"""A folder that remembers what was done: one JSON line per piece of work, so that a soak killed anywhere goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_gym.io import write_text

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Ledger:
    """``steps.jsonl``, ``inputs.jsonl``, ``kills.jsonl`` in one folder; a line that was cut off does not count."""

    folder: Path

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Everything of that kind that was finished, in the order it was finished; a piece done twice counts once."""
        path = self.folder / f"{kind}.jsonl"
        result: dict[Any, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line, cut off
                continue
            result.setdefault(json.dumps(row["key"]), row)
        return list(result.values())

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """One more; ``row["key"]`` says which piece of work it was. On disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{kind}.jsonl"
        with open(path, "ab") as file:
            if path.stat().st_size and not _ends_a_line(path):
                file.write(b"\n")
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Note the settings that the pieces depend on; ValueError if the folder is another soak's."""
        path = self.folder / SETTINGS
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before != dict(settings):
                raise ValueError(
                    f"{self.folder} holds a soak with {before}; expected {dict(settings)}; pass another "
                    "--out, or delete it"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(dict(settings)) + "\n")


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
