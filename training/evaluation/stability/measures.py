"""What the study of stability says: horizon, drift and spread here, each beside the copy and the virtual patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import t as student

from training.evaluation.questions import SHORT, mean_known
from training.evaluation.result import estimate, estimate_mean, estimate_ratio, metric
from training.evaluation.stability.arms import RESYNCED
from training.evaluation.stability.outcomes import UNITS, Metrics, Outcomes, S
from training.evaluation.stability.responses import (
    effects,
    order,
    order_matters,
    twin_courses,
    twins,
    violations,
    washout,
)
from training.evaluation.world_model.rollout import crps, excess
from training.evaluation.world_model.rollout_arms import SCORED

BAND = 0.90


def metrics(document: Outcomes, steps: int, dt_hours: float) -> Metrics:
    """All metrics of the document, by the seven questions."""
    return {
        **_horizon(document, steps),
        **_drift(document, steps, dt_hours),
        **washout(document, steps, dt_hours),
        **order_matters(document, steps),
        **twins(document, steps, dt_hours),
        **violations(document),
        **_spread(document, steps),
    }


# --- 1. horizon -------------------------------------------------------------------------------------------------------


def _errors(document: Outcomes) -> dict[str, np.ndarray]:
    """CRPS ``(N, H + 1, 4)`` of each way to forecast what happened to the treated; the same rows for all."""
    real = document.real[..., S]
    row = {f"told every {k}": f"treated, told every {k}" for k in RESYNCED}
    ways = {"open loop": "treated", **row}
    errors = {way: crps(document.world[name].intervals[..., S], real) for way, name in ways.items()}
    errors |= {
        f"virtual patient, {way}": crps(document.truth[name].intervals[..., S], real) for way, name in ways.items()
    }
    errors["copy"] = np.abs(real[:, :1] - real)
    finite = np.all([np.isfinite(error) for error in errors.values()], axis=0)
    return {way: np.where(finite, error, np.nan) for way, error in errors.items()}


def _horizon(document: Outcomes, steps: int) -> Metrics:
    errors, out = _errors(document), {}
    for i, name in enumerate(SCORED):
        beside = {
            way: estimate_mean(errors[of][:, steps, i], document.patient)
            for way, of in {
                "copy": "copy",
                "virtual patient": "virtual patient, open loop",
                **{f"told every {k}": f"told every {k}" for k in RESYNCED},
            }.items()
        }
        own = estimate_mean(errors["open loop"][:, steps, i], document.patient)
        out[f"crps_{steps}_{SHORT[name]}_{UNITS[name]}"] = metric(own, baselines=beside)

    def beyond(far: str, near: str, at: tuple[int, int]) -> dict[str, Any]:
        """Mean over the intervals of how much larger one error is than another, at two steps."""
        return estimate(excess(errors[far][:, at[0]], errors[near][:, at[1]]), document.patient)

    last = (steps, steps)
    out[f"open_over_told_{steps}"] = metric(
        beyond("open loop", "told every 1", last),
        baselines={
            "virtual patient": beyond("virtual patient, open loop", "virtual patient, told every 1", last),
            "copy": beyond("copy", "told every 1", last),
        },
    )
    out[f"growth_1_to_{steps}"] = metric(
        beyond("open loop", "open loop", (steps, 1)),
        baselines={
            "virtual patient": beyond("virtual patient, open loop", "virtual patient, open loop", (steps, 1)),
            "copy": beyond("copy", "copy", (steps, 1)),
        },
    )
    out[f"skill_over_copy_{steps}"] = metric(
        _negative(beyond("open loop", "copy", last)),
        baselines={"virtual patient": _negative(beyond("virtual patient, open loop", "copy", last)), "copy": 0.0},
    )
    return out


def _negative(one: Mapping[str, Any]) -> dict[str, Any]:
    """The same estimate with its sign turned."""
    value, interval = one["value"], one["ci95"]
    return {"value": None if value is None else -value, "ci95": interval and [-interval[1], -interval[0]]}


# --- 2. drift ---------------------------------------------------------------------------------------------------------


def _drift(document: Outcomes, steps: int, dt_hours: float) -> Metrics:
    """Where the untreated go beyond where they go in truth, at the end and per hour."""
    hours = dt_hours * np.arange(steps + 1)
    world, truth = (mean_known(one["placebo"].intervals[..., S]) for one in (document.world, document.truth))
    out: Metrics = {}
    for i, name in enumerate(SCORED):
        true = truth[..., i] - document.real_placebo[:, :1, i]
        courses = {
            "world": world[..., i] - world[:, :1, i],
            "copy": np.zeros_like(true),
            "virtual patient": document.real_placebo[..., i] - document.real_placebo[:, :1, i],
        }
        ends = {of: estimate_mean((course - true)[:, steps], document.patient) for of, course in courses.items()}
        rates = {of: estimate_mean(_slopes(hours, course - true), document.patient) for of, course in courses.items()}
        itself = {
            "ends": estimate_mean(true[:, steps], document.patient),
            "rates": estimate_mean(_slopes(hours, true), document.patient),
        }
        for label, found_here in (("ends", ends), ("rates", rates)):
            unit = f"{UNITS[name]}_{steps}" if label == "ends" else f"{UNITS[name]}_per_hour"
            beside = {of: value for of, value in found_here.items() if of != "world"}
            out[f"drift_{SHORT[name]}_{unit}"] = metric(
                found_here["world"], baselines=beside, truth_itself=itself[label]
            )
    return out


def _slopes(hours: np.ndarray, courses: np.ndarray) -> np.ndarray:
    """Slope per hour ``(N,)`` of each course ``(N, H + 1)`` by least squares; NaN where fewer than three are known."""
    finite = np.isfinite(courses)
    count = finite.sum(axis=1)
    x = np.where(finite, hours, 0.0)
    mean_x = x.sum(axis=1) / np.maximum(count, 1)
    mean_y = np.where(finite, courses, 0.0).sum(axis=1) / np.maximum(count, 1)
    away = np.where(finite, hours - mean_x[:, None], 0.0)
    rise = (away * np.where(finite, courses - mean_y[:, None], 0.0)).sum(axis=1)
    run = (away**2).sum(axis=1)
    return np.where((count > 2) & (run > 0), rise / np.maximum(run, 1e-12), np.nan)


# --- 7. spread --------------------------------------------------------------------------------------------------------


def spread_and_error(samples: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared spread, squared error of the mean, and whether the band covers: ``(N, H + 1, 4)`` each, NaN if unknown.

    Rows with fewer than two known samples say nothing. Spread is (1 + 1/K) times the samples' variance, which for a
    truth that is one more sample equals the expected squared error, whatever K.
    """
    count = np.isfinite(samples).sum(axis=0)
    usable = (count >= 2) & np.isfinite(real)
    filled = np.where(np.isfinite(samples), samples, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    variance = np.where(np.isfinite(samples), (samples - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count - 1, 1)
    wide = variance * (1 + 1 / np.maximum(count, 1))
    error = (real - mean) ** 2
    reach = student.ppf(0.5 + BAND / 2, np.maximum(count - 1, 1)) ** 2 * wide
    return (
        np.where(usable, wide, np.nan),
        np.where(usable, error, np.nan),
        np.where(usable, (error <= reach).astype(float), np.nan),
    )


def _spread(document: Outcomes, steps: int) -> Metrics:
    real = {"treated": document.real[..., S], "placebo": document.real_placebo[..., S]}
    out: Metrics = {}
    who = np.tile(document.patient, 2)
    parts = {
        of: [np.concatenate([values[:, [1, steps]] for values in part]) for part in zip(*table)]
        for of, table in {
            of: [spread_and_error(getattr(document, of)[arm].intervals[..., S], real[arm]) for arm in real]
            for of in ("world", "truth")
        }.items()
    }
    for i, name in enumerate(SCORED):
        for place, step in enumerate((1, steps)):
            wide, error, inside = ({of: part[n][:, place, i] for of, part in parts.items()} for n in range(3))
            ratio = {of: estimate_ratio(wide[of], error[of], who, root=True) for of in parts}
            cover = {of: estimate_mean(100 * inside[of], who) for of in parts}
            out[f"spread_over_error_{step}_{SHORT[name]}"] = metric(
                ratio["world"], baselines={"copy": 0.0, "virtual patient": ratio["truth"], "perfect": 1.0}
            )
            out[f"coverage_{step}_{SHORT[name]}_percent"] = metric(
                cover["world"], baselines={"copy": 0.0, "virtual patient": cover["truth"], "perfect": 100 * BAND}
            )
    return out


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(document: Outcomes, steps: int, dt_hours: float) -> list[dict[str, Any]]:
    """One row per step and interval: errors of every way to forecast, drift, order, spread; effects and twins too."""
    errors, table = _errors(document), []
    effect, apart, paired = effects(document), order(document), twin_courses(document)
    drift = {of: mean_known(getattr(document, of)["placebo"].intervals[..., S]) for of in ("world", "truth")}
    spread = {
        of: spread_and_error(getattr(document, of)["treated"].intervals[..., S], document.real[..., S])
        for of in ("world", "truth")
    }
    mean = {of: mean_known(getattr(document, of)["treated"].intervals[..., S]) for of in ("world", "truth")}
    names = {"world": "world", "truth": "virtual patient"}
    for step in range(1, steps + 1):
        for i, interval in enumerate(SCORED):
            row: dict[str, Any] = {"step": step, "hours": step * dt_hours, "interval": interval}
            row |= {f"crps {way}": _mean(error[:, step, i]) for way, error in errors.items()}
            row["mae copy"] = _mean(np.abs(document.real[:, 0, i] - document.real[:, step, i]))
            for of, word in names.items():
                row[f"mae {word}"] = _mean(np.abs(mean[of][:, step, i] - document.real[:, step, i]))
                row[f"change {word}"] = _mean(drift[of][:, step, i] - drift[of][:, 0, i])
                row[f"spread {word}"], row[f"error {word}"] = (_root(spread[of][n][:, step, i]) for n in (0, 1))
                row[f"coverage {word}"] = 100 * _mean(spread[of][2][:, step, i])
            row |= {f"order {of}": _root(apart[of][:, step, i] ** 2) for of in ("world", "virtual patient")}
            row |= {f"effect {of}": _mean(course[:, step]) for of, course in effect.items()}
            row["plasma level"] = _mean(document.plasma[:, step])
            row |= {f"{name} [mV]": _root(squares[:, step]) for name, squares in paired.items()}
            table.append(row)
    return table


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line per step: each way's CRPS, mean over the intervals, in units of the copy's at the last step."""
    every, steps = document["rows"], document["settings"]["steps"]
    unit = {r["interval"]: r["crps copy"] for r in every if r["step"] == steps}
    ways = [name for name in every[0] if name.startswith("crps ")]
    lines = []
    for step in range(1, steps + 1):
        mine = [r for r in every if r["step"] == step]
        line: dict[str, Any] = {"step": step}
        for way in ways:
            over = [r[way] / unit[r["interval"]] for r in mine if r[way] is not None and unit[r["interval"]]]
            line[way.removeprefix("crps ")] = float(np.mean(over)) if over else None
        lines.append(line)
    return lines


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _root(squares: np.ndarray) -> float:
    return float(np.sqrt(_mean(squares)))
