"""Effects against concentrations of a crossover trial, person by person: slopes, hysteresis, and how people differ.

Of each person and endpoint a line ``ddX = a + b c`` is drawn through the hours with a concentration. The slope is b;
the hysteresis is how much higher the residuals are behind the person's own peak of concentration than before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecg_gym.clinical_trial import ENDPOINTS, Protocol
from ecg_gym.clinical_trial.effects import cells, changes, interval, number

Row = dict[str, Any]
SLOPES = {  # what of a drug is asked, and the concentration a slope is per
    "dofetilide": (("QTcF", "JTpeakc", "TpTe"), 1000.0, "ms per ng/mL"),
    "quinidine": (("QTcF", "JTpeakc", "TpTe", "HR"), 1000.0, "per ug/mL"),
    "ranolazine": (("QTcF", "TpTe"), 1000.0, "per ug/mL"),
    "verapamil": (("PR", "HR", "QTcF"), 100.0, "per 100 ng/mL"),
}
HYSTERESIS = (("dofetilide", "QTcF"), ("quinidine", "QTcF"), ("ranolazine", "QTcF"), ("verapamil", "PR"))
LEAST_HOURS = 6  # of a person's line
AROUND_PEAK = {  # [h] over which effects are averaged to say how people differ
    "dofetilide": (2.0, 4.0), "quinidine": (1.5, 4.0), "ranolazine": (3.0, 7.0), "verapamil": (1.0, 2.0),
}  # fmt: skip
PAIRS = (("dofetilide", "quinidine"), ("dofetilide", "ranolazine"), ("quinidine", "ranolazine"))


def concentrations_of(protocol: Protocol, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """``(subjects, arms, hours)`` plasma concentrations of the arm's drug as the table has them; NaN where unknown."""
    people = {name: i for i, name in enumerate(dict.fromkeys(str(row["RANDID"]) for row in rows))}
    arms = {arm.name: i for i, arm in enumerate(protocol.arms)}
    hours = {hour: i for i, hour in enumerate(protocol.hours)}
    level = np.full((len(people), len(arms), len(hours)), np.nan)
    for row in rows:
        if (hour := float(row["TPT"])) in hours:
            level[people[str(row["RANDID"])], arms[row["ARM"]], hours[hour]] = number(row["PCSTRESN"])
    return level


def corrected_and_levels(
    protocol: Protocol, cohorts: Sequence[Sequence[Mapping[str, Any]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Placebo-corrected changes ``(people, arms, hours, endpoints)`` and levels ``(people, arms, hours)``."""
    change = np.concatenate([changes(cells(protocol, rows)) for rows in cohorts])
    placebo = [arm.name for arm in protocol.arms].index(protocol.placebo)
    level = np.concatenate([concentrations_of(protocol, rows) for rows in cohorts])
    return change - change[:, placebo : placebo + 1], level


def line(effect: np.ndarray, level: np.ndarray) -> tuple[float, float]:
    """Slope and hysteresis of one person's ``(hours,)`` effects against levels; NaN with fewer than LEAST_HOURS."""
    finite = np.isfinite(effect) & np.isfinite(level)
    if finite.sum() < LEAST_HOURS or np.ptp(level[finite]) <= 0:
        return float("nan"), float("nan")
    slope, start = np.polyfit(level[finite], effect[finite], 1)
    rest = np.where(finite, effect - start - slope * level, np.nan)
    peak = int(np.nanargmax(np.where(finite, level, np.nan)))
    if peak == 0 or not finite[:peak].any():
        return float(slope), float("nan")
    return float(slope), float(np.nanmean(rest[peak + 1 :]) - np.nanmean(rest[:peak]))


def slopes(
    protocol: Protocol, real: Sequence[Mapping[str, Any]], cohorts: Sequence[Sequence[Mapping[str, Any]]]
) -> list[Row]:
    """Slopes and hysteresis, real and virtual; ``inside`` if the virtual mean lies in the real 95 % interval."""
    (effect, level), (own, own_level) = (corrected_and_levels(protocol, rows) for rows in ([real], cohorts))
    result = []
    pairs = [("slope", drug, e, SLOPES[drug][1], SLOPES[drug][2]) for drug in SLOPES for e in SLOPES[drug][0]]
    pairs += [("hysteresis", drug, e, 1.0, ENDPOINTS[e].unit) for drug, e in HYSTERESIS]
    for kind, drug, endpoint, per, unit in pairs:
        a, e = [arm.name for arm in protocol.arms].index(drug), protocol.endpoints.index(endpoint)
        theirs, ours = (
            interval(per * np.array([line(x[a, :, e], c[a])[kind == "hysteresis"] for x, c in zip(some, levels)]))
            for some, levels in ((effect, level), (own, own_level))
        )
        result.append(
            {"kind": kind, "drug": drug, "endpoint": endpoint, "unit": unit, **_columns("real_", theirs),
             **_columns("virtual_", ours), "inside": bool(theirs["ci_low"] <= ours["mean"] <= theirs["ci_high"]),
             "none_inside": bool(theirs["ci_low"] <= 0 <= theirs["ci_high"])}
        )  # fmt: skip
    return result


def correlations(
    protocol: Protocol, real: Sequence[Mapping[str, Any]], cohorts: Sequence[Sequence[Mapping[str, Any]]]
) -> list[Row]:
    """Correlation over people of two drugs' effects; ``inside`` is within Fisher's 95 % interval of the real one."""
    (effect, _), (own, _) = (corrected_and_levels(protocol, rows) for rows in ([real], cohorts))
    result = []
    for first, second in PAIRS:
        for endpoint in ("QTcF", "JTpeakc", "TpTe"):
            e = protocol.endpoints.index(endpoint)
            theirs, ours = (
                np.array([_around_peak(protocol, some, drug, e) for drug in (first, second)]) for some in (effect, own)
            )
            finite = np.isfinite(theirs).all(axis=0)
            r, n = float(np.corrcoef(theirs[:, finite])[0, 1]), int(finite.sum())
            low, high = np.tanh(np.arctanh(r) + np.array([-1.96, 1.96]) / np.sqrt(n - 3))
            mine = float(np.corrcoef(ours[:, np.isfinite(ours).all(axis=0)])[0, 1])
            result.append(
                {"drugs": f"{first}, {second}", "endpoint": endpoint, "real_r": round(r, 2),
                 "real_ci": [round(float(end), 2) for end in (low, high)], "virtual_r": round(mine, 2), "n": n,
                 "inside": bool(low <= mine <= high)}
            )  # fmt: skip
    return result


def _around_peak(protocol: Protocol, effect: np.ndarray, drug: str, endpoint: int) -> np.ndarray:
    """``(people,)`` mean effect of a drug around its peak."""
    first, last = AROUND_PEAK[drug]
    hours = [i for i, hour in enumerate(protocol.hours) if first <= hour <= last]
    some = effect[:, [arm.name for arm in protocol.arms].index(drug)][:, hours, endpoint]
    count = np.isfinite(some).sum(axis=1)
    return np.where(count > 0, np.nansum(some, axis=1) / np.maximum(count, 1), np.nan)


def _columns(prefix: str, row: Mapping[str, Any]) -> Row:
    return {f"{prefix}{name}": None if row[name] is None else round(float(row[name]), 3) for name in
            ("mean", "sd", "ci_low", "ci_high", "n")}  # fmt: skip
