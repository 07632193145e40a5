"""What a trial returns: its rows, and the document that is written of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_gym.clinical_trial.protocol import Protocol
from ecg_gym.clinical_trial.table import document

Row = dict[str, Any]


@dataclass(frozen=True)
class TrialResult:
    """What came out of a trial."""

    protocol: Protocol
    seed: int
    subjects: int
    rows: list[Row]  # one per ECG, by the columns of ecgs.csv; None is NA
    summary: list[Row]  # one per effect, arm, hour and endpoint
    folder: Path | None  # where the files are, if any were written

    def to_json_dict(self) -> dict[str, Any]:
        """One document: what was run, and the summary."""
        return document(self)
