"""The ends of the normalised score, frozen: random, and the stronger of two planners that know the truth.

They are played on patients of the validation stream that nobody tunes on, many of them, and kept as means with their
standard errors in ``anchors.yaml``: ``ecg-gym leaderboard anchors --patients 1000 --file FILE``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from ecg_gym.io import write_text
from training.evaluation.benchmark.evaluation import Entry, Evaluation, table

START = 500_000_000  # of the validation stream: seeds from here on are the anchors' own
ENTRIES = (Entry("random"), Entry("constant-search"), Entry("truth-search"))
HEAD = """# Mean risk-hours per episode of the anchors, their standard errors and numbers of patients; made by
# `ecg-gym leaderboard anchors`. Random is 0 of the normalised score, the higher return of the other two is 1.
"""


def evaluation_of(scenarios: tuple[str, ...], patients: int) -> Evaluation:
    """Where the anchors are played; judged as the rows of the leaderboard are."""
    return Evaluation("validation", scenarios, patients, START)


def freeze(evaluation: Evaluation, folder: Path, file: Path) -> None:
    """Writes the anchors of the rows that were played; ``ValueError`` where a scenario has fewer than two."""
    rows = {str(entry.policy): table(evaluation, entry, folder) for entry in ENTRIES}
    scenarios: dict[str, dict[str, dict[str, float]]] = {}
    for scenario in evaluation.scenarios:
        scenarios[scenario] = {}
        for name, played in rows.items():
            values = np.array([row["risk_hours"] for row in played[scenario][0]])
            if len(values) < 2:
                raise ValueError(
                    f"{name} has {len(values)} patients of {scenario}; expected at least two; let the command go on"
                )
            error = float(values.std(ddof=1) / np.sqrt(len(values)))
            scenarios[scenario][name] = {"risk_hours": round(float(values.mean()), 6),
                                         "standard_error": round(error, 6), "n": len(values)}  # fmt: skip
    document = {"protocol": evaluation.to_json_dict(), "scenarios": scenarios}
    write_text(file, HEAD + yaml.safe_dump(document, sort_keys=False))
