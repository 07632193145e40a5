"""The leaderboard: submissions in a folder, and one page out of them, with nothing that is not in them.

Beside the page lie the results that it shows, as JSON: submissions hold every row and are large, so that a page goes on
where those of its older entries are elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_gym.io import write_text
from training.evaluation.benchmark.markdown import number, table, with_interval
from training.evaluation.benchmark.submission import Submission, read_submission

REMARKS = re.compile(r"<!-- remarks -->\n(.*?)<!-- end -->", re.DOTALL)  # the only text by hand; it is kept
NOTICE = "Research only: nothing here may guide the care of a person."
READING = (
    "The first score is the **paired difference** to the guideline on the same patients, in risk-hours per episode: "
    "above 0 is better. Its interval is about other patients (a permutation test, inverted) and, where there are "
    "several, about other training seeds (t, patients crossed with seeds). *Surely* stands only where the interval "
    "corrected by Holm over the scenarios leaves out 0. **Normalised**, 0 is the mean random return and 1 the stronger "
    "of a closed-loop search in the truth and the best constant of each patient, both frozen with their standard "
    "errors, which are in the interval; scenarios whose anchors are less than five standard errors apart have none. "
    "Deaths and harm are per 1,000 episodes."
)


def add(path: Path, board: Path) -> Submission:
    """Copies a submission into the folder of the board, under the policy's name; an older one of it is replaced."""
    submission = read_submission(path)
    name = "".join(c if c.isalnum() else "-" for c in str(submission.head["policy"]))[:60]
    write_text(board / f"{name}.jsonl", path.read_text(encoding="utf-8"))
    return submission


def write_page(board: Path, page: Path) -> int:
    """Writes the page of all submissions of the folder and of the results beside an older page; how many there are.

    A submission takes the place of an older result of the same policy; remarks of an older page are kept. Raises
    ``ValueError`` for results under several protocols.
    """
    beside = page.with_suffix(".json")
    old = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else []
    new = [read_submission(path).head["result"] for path in sorted(board.glob("*.jsonl"))]
    results = list({result["policy"]: result for result in [*old, *new]}.values())
    if len(protocols := {result["protocol_sha256"] for result in results}) > 1:
        raise ValueError(
            f"{board} and {beside} hold results under {len(protocols)} protocols; expected one; evaluate the older "
            f"ones again, or remove {beside}"
        )
    remarks = REMARKS.search(page.read_text(encoding="utf-8")) if page.is_file() else None
    write_text(beside, json.dumps(results, indent=1, sort_keys=True) + "\n")
    write_text(page, markdown(results, remarks[1] if remarks else ""))
    return len(results)


def markdown(results: Sequence[Mapping[str, Any]], remarks: str = "") -> str:
    """The whole page, best mean paired difference first."""
    order = sorted(results, key=lambda one: -(one["mean"]["paired_difference"] or 0.0))
    parts = ["# Leaderboard", NOTICE, READING]
    if order:
        parts.append(f"Split {order[0]['split']}, protocol `{order[0]['protocol_sha256']}`.")
    parts += ["## All scenarios", _overall(order)]
    parts += ["## Remarks", f"<!-- remarks -->\n{remarks}<!-- end -->", "## Scenario by scenario"]
    for name in dict.fromkeys(name for one in order for name in one["scenarios"]):
        parts.append(f"### {name}\n\n{_scenario(name, order)}")
    return "\n\n".join(parts) + "\n"


def _overall(results: Sequence[Mapping[str, Any]]) -> str:
    head = ["policy", "paired difference", "normalised, mean", "normalised, IQM", "surely better", "surely worse"]
    rows = []
    for one in results:
        mean, each = one["mean"], one["scenarios"].values()
        signs = [row["paired_difference"] > 0 for row in each if row["sure"]]
        rows.append([one["policy"], with_interval(mean["paired_difference"], mean["ci95"]),
                     with_interval(mean["normalised"], mean["normalised_ci95"]),
                     with_interval(mean["iqm"], mean["iqm_ci95"]), f"{sum(signs)} of {len(each)}",
                     f"{len(signs) - sum(signs)} of {len(each)}"])  # fmt: skip
    return table(head, rows)


def _scenario(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "policy",
        "paired difference",
        "corrected interval",
        "",
        "normalised",
        "deaths",
        "harm",
        "calls",
        "n",
        "seeds",
    ]
    rows = []
    for one in sorted((r for r in results if name in r["scenarios"]),
                      key=lambda r: -r["scenarios"][name]["paired_difference"]):  # fmt: skip
        row = one["scenarios"][name]
        low, high = row["ci95_holm"]
        rows.append([one["policy"], with_interval(row["paired_difference"], row["ci95"]),
                     f"{number(low)} to {number(high)}", verdict(row),
                     with_interval(row["normalised"], row["normalised_ci95"]), f"{row['deaths']:.0f}",
                     f"{row['harm']:.0f}", f"{row['model_calls']:.0f}", row["n"], row["training_seeds"]])  # fmt: skip
    return table(head, rows)


def verdict(row: Mapping[str, Any]) -> str:
    """What the corrected interval of a scenario's result says."""
    if not row["sure"]:
        return "cannot be told"
    return "surely better" if row["paired_difference"] > 0 else "surely worse"
