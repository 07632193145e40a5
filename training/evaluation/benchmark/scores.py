"""What the rows of a policy say: paired differences, normalised scores, deaths and harm, with their intervals.

The primary score is the paired difference to the guideline in risk-hours per episode, on the same patients: above 0 is
better. It is tested per scenario, corrected by Holm over scenarios; only what the corrected interval says is "sure".
The normalised score is 0 for the mean random return and 1 for the top anchor, both frozen with their standard errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.statistics import LEVEL, Anchor, gap_in_errors, holm, normalised, paired_difference
from ecg_gym.yaml_files import read_yaml
from training.evaluation.benchmark.evaluation import Evaluation, Row

ANCHORS = Path(__file__).with_name("anchors.yaml")
JUDGED_BY = ("tier", "fidelity", "risk_sha256", "tables_sha256")  # of a protocol: what a score and its ends must share
LEAST_ERRORS = 5.0  # standard errors that the anchors must be apart for a normalised score
Table = Mapping[str, Sequence[Sequence[Row]]]  # scenario -> [training seed][patient]


@dataclass(frozen=True)
class Anchors:
    """Frozen ends of the normalised score."""

    low: Anchor  # random
    high: Anchor  # the stronger of the closed-loop search and the best constant per patient
    high_name: str


def load_anchors(evaluation: Evaluation, path: Path = ANCHORS) -> dict[str, Anchors]:
    """The frozen anchors by scenario; empty where none were frozen, or where they were judged in another way."""
    if not path.is_file():
        return {}
    document, protocol = read_yaml(path), evaluation.to_json_dict()
    if any(document["protocol"][key] != protocol[key] for key in JUDGED_BY):
        return {}
    return {name: _anchors(row) for name, row in document["scenarios"].items()}


def gaps(path: Path = ANCHORS) -> dict[str, float]:
    """How far the top anchor stands above random [risk-hours per episode], by scenario: a scale for differences."""
    rows = read_yaml(path)["scenarios"] if path.is_file() else {}
    ends = {name: _anchors(row) for name, row in rows.items()}
    return {name: row.high.mean - row.low.mean for name, row in ends.items()}


def _anchors(row: Mapping[str, Mapping[str, Any]]) -> Anchors:
    ends = {name: Anchor(-v["risk_hours"], v["standard_error"], v["n"]) for name, v in row.items()}
    top = max((name for name in ends if name != "random"), key=lambda name: ends[name].mean)
    return Anchors(ends["random"], ends[top], top)


def scored(
    evaluation: Evaluation, policy: str, model_sha256: str, ours: Table, guideline: Table,
    anchors: Mapping[str, Anchors] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The whole result; :func:`summary` is the part that ``--json`` prints.

    ``ours`` and ``guideline`` are tables of rows; patients that both have are compared. Scenarios without any are left
    out. ``normalised`` is None without anchors judged in the same way, or where they are less than five standard errors
    apart.
    """
    frozen = load_anchors(evaluation) if anchors is None else anchors
    paired = {
        name: pairs for name in evaluation.scenarios if (pairs := _pairs(ours[name], guideline[name])) is not None
    }
    tests = {name: paired_difference(difference) for name, (difference, _) in paired.items()}
    adjusted, shares = holm([test.p for test in tests.values()]) if tests else (np.zeros(0), np.zeros(0))
    scenarios: dict[str, Any] = {}
    for (name, test), p, share in zip(tests.items(), adjusted, shares):
        rows = [row for seed in ours[name] for row in seed]
        ends, corrected = frozen.get(name), test.interval(1 - (1 - LEVEL) * float(share))
        errors = gap_in_errors(ends.low, ends.high) if ends else None
        sound = errors is not None and errors >= LEAST_ERRORS
        score = normalised([-paired[name][1]], [(ends.low, ends.high)]) if ends and sound else None
        scenarios[name] = {
            "paired_difference": test.value,
            "ci95": list(test.interval()),
            "p": test.p,
            "p_holm": float(p),
            "ci95_holm": list(corrected),
            "sure": bool(corrected[0] > 0 or corrected[1] < 0),
            "normalised": score["mean"][0] if score else None,
            "normalised_ci95": list(score["mean"][1]) if score else None,
            "gap_standard_errors": errors,
            "harm": 1000 * float(np.mean([row["harm"] for row in rows])),
            "deaths": 1000 * float(np.mean([row["died"] for row in rows])),
            "model_calls": float(np.mean([row["model_calls"] / len(row["rewards"]) for row in rows])),
            "n": paired[name][0].shape[1],
            "training_seeds": paired[name][0].shape[0],
        }
    return {
        "policy": policy,
        "split": evaluation.split,
        "protocol_sha256": evaluation.sha256,
        "model_sha256": model_sha256,
        "scenarios": scenarios,
        "mean": _over(paired, [name for name in scenarios if scenarios[name]["normalised"] is not None], frozen),
    }


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result as ``ecg-gym evaluate --json`` prints it."""
    keys = ("paired_difference", "ci95", "normalised", "harm", "deaths", "n")
    return {
        **{key: result[key] for key in ("policy", "split", "protocol_sha256", "model_sha256")},
        "scenarios": {name: {key: one[key] for key in keys} for name, one in result["scenarios"].items()},
        "mean": {key: result["mean"][key] for key in ("paired_difference", "ci95", "normalised")},
    }


def _pairs(ours: Sequence[Sequence[Row]], guideline: Sequence[Sequence[Row]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Guideline minus ours, and ours, in risk-hours ``(training seeds, patients)``; None for fewer than two."""
    theirs = {row["patient"]: row["risk_hours"] for row in guideline[0]}
    places = [row["patient"] for row in ours[0] if row["patient"] in theirs]
    if len(places) < 2:
        return None
    own = [{row["patient"]: row["risk_hours"] for row in seed} for seed in ours]
    values = np.array([[seed[place] for place in places] for seed in own])
    return np.array([theirs[place] for place in places]) - values, values


def _over(
    paired: Mapping[str, tuple[np.ndarray, np.ndarray]], sound: Sequence[str], anchors: Mapping[str, Anchors]
) -> dict[str, Any]:
    """Over the scenarios: the mean paired difference of all, and the scores of those that have one.

    Patient i of every scenario is taken together, so that training seeds, which are the same in all, stay one level.
    """
    nothing = {"paired_difference": None, "ci95": None, "normalised": None, "normalised_ci95": None, "iqm": None,
               "iqm_ci95": None, "scenarios": len(sound)}  # fmt: skip
    if not paired:
        return nothing
    n = min(difference.shape[1] for difference, _ in paired.values())
    test = paired_difference(np.mean([difference[:, :n] for difference, _ in paired.values()], axis=0))
    result = nothing | {"paired_difference": test.value, "ci95": list(test.interval())}
    if sound:
        scores = normalised([-paired[name][1] for name in sound],
                            [(anchors[name].low, anchors[name].high) for name in sound])  # fmt: skip
        for label, key in (("normalised", "mean"), ("iqm", "iqm")):
            result |= {label: scores[key][0], f"{label}_ci95": list(scores[key][1])}
    return result
