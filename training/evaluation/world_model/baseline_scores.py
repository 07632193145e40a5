"""The scores of one row of the baselines: labels as in the paper's Table 2, errors, CRPS, spread, coverage, change.

A future that cannot be measured counts as no change; how often that is so stands beside, as ``unmeasured``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.world_model.conformal import LEVEL, covers, raw_band
from ecg_gym.yaml_files import read_yaml
from training.evaluation.questions import INTERVALS, SHORT, Questions, fair_crps, mean_known
from training.evaluation.result import estimate, estimate_mean, estimate_ratio
from training.evaluation.world_model.baseline_answers import Answer
from training.evaluation.world_model.calibration import variance_of
from training.evaluation.world_model.intervals import PAPER, column_of, pearson

HEADLINE = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")
DRAWS = 300  # of the bootstrap
MOST_UNMEASURED = 0.5  # share of the intervals that cannot be measured; nothing is said of a row above
LEAST_SPREAD = 0.2  # of the true spread; a row below has collapsed

Estimates = dict[str, dict[str, Any]]


def scores(
    answer: Answer, queries: Questions, before: np.ndarray, true: np.ndarray, spread: np.ndarray | None
) -> Estimates:
    """All scores of a row by name, each ``{value, ci95}``.

    ``before (N, 6)`` is measured on the strip before, ``true (J, N, 6)`` on true futures, ``spread (N, 6)`` the
    variance of the futures of other patients with the same heart.
    """
    who = queries.patient
    finite = np.isfinite(answer.samples)
    enough = finite.mean(axis=0) >= 0.5
    samples = np.where(finite | enough, answer.samples, before)
    mean = mean_known(samples)
    table = labels(mean, true[0], queries)
    table["unmeasured"] = estimate_mean(np.where(np.isfinite(true[0]), ~enough, np.nan)[:, _HEAD].mean(axis=1), who)
    for i, name in enumerate(INTERVALS):
        short, error = SHORT[name], mean_known(mean[:, i] - true[:, :, i], least=0.0)
        table[f"mae_{short}"] = estimate_mean(np.abs(error), who, DRAWS)
        table[f"bias_{short}"] = estimate_mean(error, who, DRAWS)
        table[f"crps_{short}"] = estimate_mean(crps(samples[..., i], true[:, :, i]), who, DRAWS)
        table[f"correlation_{short}"] = _correlation(mean[:, i] - before[:, i], true[:, :, i] - before[:, i], who)
        if len(samples) > 1:
            inside = mean_known(covers(*raw_band(samples[..., i], LEVEL), true[:, :, i]), least=0.0)
            table[f"coverage_{short}"] = estimate_mean(inside, who, DRAWS)
        if spread is not None and len(samples) > 1:
            own = variance_of(samples[..., i])
            both = np.isfinite(own) & np.isfinite(spread[:, i])
            above, below = (np.where(both, part, np.nan) for part in (own, spread[:, i]))
            table[f"spread_{short}"] = estimate_ratio(above, below, who, DRAWS, root=True)
    return table | _listening(answer, samples, before, true, who) | _of_strips(answer, who)


def crps(samples: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean CRPS ``(N,)`` of samples ``(K, N)`` over true futures ``(J, N)``."""
    return mean_known(np.stack([fair_crps(samples, one) for one in true]), least=0.0)


def labels(predicted: np.ndarray, true: np.ndarray, queries: Questions) -> Estimates:
    """Accuracy, recall of the abnormal and balanced accuracy of intervals ``(N, 6)``, by the paper's normal ranges."""
    who, result = queries.patient, Estimates()
    for name, label in _ranges().items():
        predicted_label, real = (_abnormal(values, name, label, queries) for values in (predicted, true))
        both = np.isfinite(predicted_label) & np.isfinite(real)
        right = np.where(both, (predicted_label == real).astype(float), np.nan)
        short = name.removesuffix("_ms")
        ill, well = (np.where(real == of, right, np.nan) for of in (1.0, 0.0))
        result[f"accuracy_{short}"] = estimate_mean(right, who, DRAWS)
        result[f"recall_{short}"] = estimate_mean(ill, who, DRAWS)
        parts = [estimate_mean(part, who, DRAWS)["value"] for part in (ill, well)]
        balanced = None if None in parts else float(np.mean(parts))
        result[f"balanced_accuracy_{short}"] = {"value": balanced, "ci95": None}
    return result


def majority(true: np.ndarray, queries: Questions) -> Estimates:
    """The same of always saying the commoner class, which no row but this one may know."""
    result = Estimates()
    for name, label in _ranges().items():
        real, short = _abnormal(true, name, label, queries), name.removesuffix("_ms")
        share = float(np.nanmean(real)) if np.isfinite(real).any() else np.nan
        of_class = np.where(np.isfinite(real), (real == float(share > 0.5)).astype(float), np.nan)
        result[f"accuracy_{short}"] = estimate_mean(of_class, queries.patient, DRAWS)
        result[f"recall_{short}"] = {"value": float(share > 0.5), "ci95": None}
        result[f"balanced_accuracy_{short}"] = {"value": 0.5, "ci95": None}
    return result


def verdict(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether a row works: "yes", or why not; "" for a row that hears no treatment."""
    gap, spreads = table.get("wrong_drug_gap"), [table.get(f"spread_{SHORT[name]}") for name in HEADLINE]
    if gap is None:
        return ""
    if (table["unmeasured"]["value"] or 0) > MOST_UNMEASURED:
        return "not measurable"
    values = [one["value"] for one in spreads if one is not None and one["value"] is not None]
    if values and float(np.median(values)) < LEAST_SPREAD:
        return "collapsed"
    return "yes" if gap["ci95"] is not None and gap["ci95"][0] > 0 else "does not listen"


def _listening(answer: Answer, samples: np.ndarray, before: np.ndarray, true: np.ndarray, who: np.ndarray) -> Estimates:
    """By how much the treatments of others make CRPS worse: as a share, mean of four intervals, and in ms of QTcF."""
    if answer.wrong is None:
        return {}
    wrong = np.where(np.isfinite(answer.wrong) | (np.isfinite(answer.wrong).mean(axis=0) >= 0.5), answer.wrong, before)
    worse, size = [], []
    for i in _HEAD:
        own, other = crps(samples[..., i], true[:, :, i]), crps(wrong[..., i], true[:, :, i])
        typical = np.nanmean(own) if np.isfinite(own).any() else np.nan
        worse.append((other - own) / typical)
        size.append(other - own)
    return {
        "wrong_drug_gap": estimate_mean(mean_known(np.stack(worse), least=0.0), who, DRAWS),
        "wrong_drug_gap_qtcf": estimate_mean(size[HEADLINE.index("qtcf_ms")], who, DRAWS),
    }


def _of_strips(answer: Answer, who: np.ndarray) -> Estimates:
    result = Estimates()
    for name, value in (("einthoven_uv", answer.einthoven_uv), ("cpu_ms", answer.cpu_ms)):
        if value is not None:
            result[name] = {"value": value, "ci95": None}
    if answer.nearest_uv is not None and np.isfinite(answer.nearest_uv).any():
        result["nearest_training_uv"] = estimate_mean(answer.nearest_uv, who, DRAWS)
    if answer.drift_ms is not None:
        result["drift_qtcf_ms"] = estimate_mean(answer.drift_ms, np.arange(len(answer.drift_ms)), DRAWS)
    return result


def _correlation(predicted: np.ndarray, true: np.ndarray, who: np.ndarray) -> dict[str, Any]:
    """Of the mean change ``(N,)`` with the mean true change over futures ``(J, N)``."""
    real = mean_known(true)
    return estimate(lambda rows: pearson(real[rows], predicted[rows]), who, DRAWS)


def _abnormal(values: np.ndarray, name: str, label: Mapping[str, Any], queries: Questions) -> np.ndarray:
    """1 where an interval is outside its normal range, 0 inside, NaN where unknown ``(N,)``."""
    sex = [patient.sex or "F" for patient in queries.start.patients]
    low, high = (np.array([label[s][i] for s in sex]) for i in (0, 1))
    value = column_of(values, name)
    return np.where(np.isfinite(value), (value < low) | (value > high), np.nan)


@cache
def _ranges() -> Mapping[str, Any]:
    return read_yaml(PAPER)["normal_ranges"]


_HEAD = [INTERVALS.index(name) for name in HEADLINE]
