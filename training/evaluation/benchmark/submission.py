"""A submission: a result with every row behind it, as JSON lines that anybody can verify by playing them again.

The first line says what was evaluated and how (policy, hashes, protocol, scores), the others are the rows of the policy
and of the guideline. ``verify`` recomputes the scores from the rows and plays some blocks again.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import write_text
from training.evaluation.benchmark.evaluation import BLOCK, Evaluation, Job, Row, play
from training.evaluation.benchmark.hashes import canonical, digest
from training.evaluation.benchmark.policies import load_policy
from training.evaluation.benchmark.scores import Table, scored

GUIDELINE = "guideline"
EXACT = ("treatments", "rewards", "strip")  # of a row, that must come again


@dataclass(frozen=True)
class Submission:
    """What a file holds."""

    head: Mapping[str, Any]
    ours: Table
    guideline: Table

    @property
    def evaluation(self) -> Evaluation:
        """What it says it was played under."""
        words = self.head["evaluation"]
        return Evaluation(**{**words, "scenarios": tuple(words["scenarios"])})


def write_submission(
    path: Path, evaluation: Evaluation, policy: str, model: str, weights: Sequence[str], result: Mapping[str, Any],
    ours: Table, guideline: Table,
) -> None:  # fmt: skip
    """Writes a submission; ``weights`` are the hashes of the policy, one per training seed."""
    arguments = ("split", "scenarios", "episodes", "start", "tier", "risk", "fidelity")
    head = {
        "policy": policy,
        "model": model,
        "weights_sha256": list(weights),
        "evaluation": {name: getattr(evaluation, name) for name in arguments},
        "protocol": evaluation.to_json_dict(),
        "package": importlib.metadata.version("ecg-gym"),
        "result": result,
    }
    lines = [canonical(head)]
    for label, rows in (("policy", ours), (GUIDELINE, guideline)):
        lines += [canonical({"of": label, **row}) for part in rows.values() for seed in part for row in seed]
    write_text(path, "\n".join(lines) + "\n")


def read_submission(path: Path) -> Submission:
    """The submission in a file; ``ValueError`` for anything else."""
    try:
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        scenarios, seeds = head["evaluation"]["scenarios"], len(head["weights_sha256"])
        tables: dict[str, dict[str, list[list[Row]]]] = {
            label: {name: [[] for _ in range(n)] for name in scenarios}
            for label, n in (("policy", seeds), (GUIDELINE, 1))
        }
        for line in lines:
            label = line.pop("of")
            tables[label][line["scenario"]][line["training_seed"]].append(line)
        return Submission(head, tables["policy"], tables[GUIDELINE])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is no submission ({type(error).__name__}: {error}); expected the JSON lines that `ecg-gym "
            "evaluate` writes; evaluate the policy again"
        ) from error


def verify(submission: Submission, policy: Any = None, blocks: int = 1) -> int:
    """Whether a submission is what it says; the number of patients that were played again.

    The protocol must be today's, the scores those of the rows, and the first ``blocks`` blocks of every scenario and
    training seed, played again by ``policy`` (default the words in the submission), must bring the same treatments and
    rewards; so must the guideline's. Raises ``ValueError`` that says what differs.
    """
    head, evaluation = submission.head, submission.evaluation
    if digest(head["protocol"]) != evaluation.sha256 or head["result"]["protocol_sha256"] != evaluation.sha256:
        raise ValueError(
            f"the protocol of the submission is {head['result']['protocol_sha256'][:12]}, today's is "
            f"{evaluation.sha256[:12]}; expected the same patients, tables and package; evaluate again"
        )
    words, model = head["policy"] if policy is None else policy, head["model"]
    for seed, stated in enumerate(head["weights_sha256"]):
        if (own := load_policy(words, seed, model).sha256) != stated:
            raise ValueError(
                f"the policy of training seed {seed} has the hash {own[:12]}, the submission says {stated[:12]}; "
                "expected the same weights; pass the policy that was evaluated"
            )
    again = scored(evaluation, head["result"]["policy"], head["result"]["model_sha256"], submission.ours,
                   submission.guideline)  # fmt: skip
    if canonical(again) != canonical(head["result"]):
        raise ValueError("the scores are not those of the rows; expected what `ecg-gym evaluate` wrote; evaluate again")
    played = 0
    for player, rows in ((words, submission.ours), (GUIDELINE, submission.guideline)):
        for scenario, seeds in rows.items():
            for seed, there in enumerate(seeds):
                for first in range(0, min(blocks * BLOCK, len(there)), BLOCK):
                    played += _again(Job(evaluation, player, model, scenario, seed, first), there)
    return played


def _again(job: Job, rows: Sequence[Row]) -> int:
    """Plays a block again and compares; how many patients that were."""
    by_patient = {row["patient"]: row for row in rows}
    fresh = [row for row in play(job) if row["patient"] in by_patient]
    for row in fresh:
        old = by_patient[row["patient"]]
        same = all(row[name] == old[name] for name in EXACT if name != "rewards")
        if not same or not np.allclose(row["rewards"], old["rewards"], atol=1e-4, rtol=0):
            raise ValueError(
                f"patient {row['patient']} of {job.scenario} was {old['treatments']} with {old['risk_hours']:.4f} "
                f"risk-hours, played again {row['treatments']} with {row['risk_hours']:.4f}; expected the same; the "
                "policy, the code or the processor differs: evaluate again"
            )
    return len(fresh)
