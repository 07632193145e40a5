"""What a trial returns: its rows, and the document that is written of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_gym.clinical_trial.effects import LEVEL
from ecg_gym.clinical_trial.protocol import Protocol

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
        """What ``summary.json`` and ``--json`` hold: what was run, and the summary."""
        protocol = self.protocol
        missing = {
            name: sum(row[name] is None for row in self.rows)
            for name in ("RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND")
        }
        return {
            "trial": protocol.name,
            "title": protocol.title,
            "design": protocol.design,
            "subjects": self.subjects,
            "seed": self.seed,
            "ecgs": len(self.rows),
            "unmeasured": missing,
            "placebo": protocol.placebo or None,
            "confidence_level": LEVEL,
            "arms": {arm.name: [f"{dose.written} at {dose.hours:g} h" for dose in arm.doses] for arm in protocol.arms},
            "remarks": list(protocol.remarks),
            "summary": self.summary,
        }
