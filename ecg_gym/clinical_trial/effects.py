"""Effects of a trial: changes from the own baseline, and those minus placebo's at that hour, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from ecg_gym.clinical_trial.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from ecg_gym.clinical_trial.protocol import Protocol

LEVEL = 0.95  # of the intervals
TRUTH = "truth_"  # prefix of the columns of what is known because it was made


_COLUMNS = ("RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND")


def endpoint_values(
    rows: Sequence[Mapping[str, Any]], endpoints: Sequence[str] = tuple(ENDPOINTS), prefix: str = ""
) -> np.ndarray:
    """``(len(rows), len(endpoints))`` of each ECG, NaN where an interval is missing; ``prefix`` picks the columns."""
    columns = {name: np.array([number(row.get(prefix + name)) for row in rows]) for name in _COLUMNS}
    return np.stack([ENDPOINTS[name].of(columns) for name in endpoints], axis=-1)


def number(value: Any) -> float:
    """A cell as a float; NaN for NA, None and nothing."""
    return float("nan") if value in (None, "", "NA") else float(value)


def mean_known(values: np.ndarray, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Mean over an axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    return np.where(count > 0, np.where(finite, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def cells(protocol: Protocol, rows: Sequence[Mapping[str, Any]], prefix: str = "") -> np.ndarray:
    """``(subjects, arms, 1 + hours, endpoints)``: baseline, then each hour, replicates averaged; NaN where none was.

    Subjects in order of their number, arms and endpoints in the protocol's order.
    """
    people = {name: i for i, name in enumerate(dict.fromkeys(str(row["RANDID"]) for row in rows))}
    arms = {arm.name: i for i, arm in enumerate(protocol.arms)}
    hours = {hour: 1 + i for i, hour in enumerate(protocol.hours)} | dict.fromkeys(protocol.baseline_hours, 0)
    values = endpoint_values(rows, protocol.endpoints, prefix)
    sums = np.zeros((len(people), len(arms), 1 + len(protocol.hours), len(protocol.endpoints)))
    counts = np.zeros(sums.shape)
    for row, value in zip(rows, values):
        at = people[str(row["RANDID"])], arms[row["ARM"]], hours[float(row["TPT"])]
        finite = np.isfinite(value)
        sums[at] += np.where(finite, value, 0.0)
        counts[at] += finite
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def changes(values: np.ndarray) -> np.ndarray:
    """``(subjects, arms, hours, endpoints)`` changes from the own baseline of the same arm."""
    return values[:, :, 1:] - values[:, :, :1]


def interval(values: np.ndarray) -> dict[str, Any]:
    """n, mean, SD and 95 % t interval of finite values ``(n,)``; None where it cannot be said."""
    finite = values[np.isfinite(values)]
    n = len(finite)
    if n == 0:
        return {"n": 0, "mean": None, "sd": None, "ci_low": None, "ci_high": None}
    mean = float(finite.mean())
    if n == 1:
        return {"n": 1, "mean": mean, "sd": None, "ci_low": None, "ci_high": None}
    sd = float(finite.std(ddof=1))
    half = sd / np.sqrt(n) * _quantile(n - 1)
    return {"n": n, "mean": mean, "sd": sd, "ci_low": mean - half, "ci_high": mean + half}


@lru_cache(maxsize=4096)
def _quantile(freedom: float) -> float:
    """Of Student's t, beyond which lies half of what an interval leaves out."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def difference(values: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Unpaired difference of means with Welch's 95 % interval; ``n`` counts the first group, ``sd`` is its own."""
    first, second = values[np.isfinite(values)], reference[np.isfinite(reference)]
    if not len(first) or not len(second):
        return {"n": len(first), "mean": None, "sd": None, "ci_low": None, "ci_high": None}
    mean = float(first.mean() - second.mean())
    if len(first) == 1 or len(second) == 1:
        return {"n": len(first), "mean": mean, "sd": None, "ci_low": None, "ci_high": None}
    parts = np.array([first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)])
    sd, variance = float(first.std(ddof=1)), float(parts.sum())
    if variance == 0:
        return {"n": len(first), "mean": mean, "sd": sd, "ci_low": mean, "ci_high": mean}
    freedom = variance**2 / float((parts**2 / np.array([len(first) - 1, len(second) - 1])).sum())
    half = float(np.sqrt(variance) * _quantile(freedom))
    return {"n": len(first), "mean": mean, "sd": sd, "ci_low": mean - half, "ci_high": mean + half}


def summarise(protocol: Protocol, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per effect, arm, hour and endpoint: measured, and beside it the same of the truth (``truth_*``).

    ``effect`` is ``change_from_baseline``, or ``placebo_corrected`` for other arms than placebo: the person's own
    difference in a crossover, the difference of means between groups where nobody had both arms.
    """
    measurement, true = (changes(cells(protocol, rows, prefix)) for prefix in ("", TRUTH))
    names = [arm.name for arm in protocol.arms]
    placebo = names.index(protocol.placebo) if protocol.placebo else None
    result = []
    for a, arm in enumerate(protocol.arms):
        for effect in ("change_from_baseline", "placebo_corrected"):
            if effect == "placebo_corrected" and placebo in (None, a):
                continue
            for h, hour in enumerate(protocol.hours):
                for e, endpoint in enumerate(protocol.endpoints):
                    strips_value, true_value = (
                        _effect(protocol, values[:, :, h, e], a, placebo if effect == "placebo_corrected" else None)
                        for values in (measurement, true)
                    )
                    result.append(
                        {"effect": effect, "arm": arm.name, "label": arm.label, "hour": hour, "endpoint": endpoint,
                         "unit": ENDPOINTS[endpoint].unit, **_rounded(strips_value),
                         **{TRUTH + key: value for key, value in _rounded(true_value).items()}}
                    )  # fmt: skip
    return result


def _effect(protocol: Protocol, change: np.ndarray, arm: int, placebo: int | None) -> dict[str, Any]:
    """Of the changes ``(subjects, arms)`` of one endpoint at one hour."""
    if placebo is None:
        return interval(change[:, arm])
    own = change[:, arm] - change[:, placebo]
    if protocol.design == "crossover" and np.isfinite(own).any():
        return interval(own)
    return difference(change[:, arm], change[:, placebo])  # groups of their own, in a parallel design or part


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
