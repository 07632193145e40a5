"""Files of a trial: tables as CSV with NA for what is missing, one JSON document, all written aside and renamed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_gym.clinical_trial.effects import LEVEL

if TYPE_CHECKING:
    from ecg_gym.clinical_trial.result import TrialResult


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV; None is NA."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer.writerow(names)
    writer.writerows([["NA" if row.get(name) is None else row[name] for name in names] for row in rows])
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """The file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def document(result: TrialResult) -> dict[str, Any]:
    """What ``summary.json`` and ``--json`` hold."""
    protocol = result.protocol
    missing = {
        name: sum(row[name] is None for row in result.rows) for name in ("RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND")
    }
    return {
        "trial": protocol.name,
        "title": protocol.title,
        "design": protocol.design,
        "subjects": result.subjects,
        "seed": result.seed,
        "ecgs": len(result.rows),
        "unmeasured": missing,
        "placebo": protocol.placebo or None,
        "confidence_level": LEVEL,
        "arms": {arm.name: [f"{given.written} at {given.hours:g} h" for given in arm.given] for arm in protocol.arms},
        "remarks": list(protocol.remarks),
        "summary": result.summary,
    }
