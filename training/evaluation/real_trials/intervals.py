"""Does the model foretell what happened to a real person's intervals? Errors per ECG, beside the trivial forecasts.

Every figure is a mean over ECGs weighted by replicate; its interval draws subjects. The answer is measured on the
recorded strip by the delineator that measures the drawn ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from training.evaluation import result
from training.evaluation.questions import INTERVALS, SHORT, unmeasured
from training.evaluation.real_trials.effects import SAMPLES, _others
from training.evaluation.real_trials.forecasts import Forecasts, Progress, ask, forecast
from training.evaluation.result import estimate_ratio, metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def study(
    world: World, trials: Path, side: str = "test", samples: int = SAMPLES, subjects: int | None = None,
    drawn: bool = True, progress: Progress = lambda rows: None, hours: Sequence[float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document."""
    asked = ask(trials, side, subjects, hours)
    others = None if side == "train" else _others(trials)
    found = forecast(world, asked, others, samples, drawn, progress)
    return result.document(
        "intervals-real", world, len(np.unique(asked.subject)), (0,), metrics(found), rows(found),
        side=side, samples=samples, n_questions=len(asked), intervals_only=not drawn,
    )  # fmt: skip


def metrics(found: Forecasts) -> dict[str, Any]:
    """Mean absolute error of the mean forecast by interval, beside the rivals', of all arms and of placebo."""
    out: dict[str, Any] = {}
    asked = found.asked
    for prefix, mask in (("", ~asked.control), ("placebo_", asked.control)):
        if not mask.any():
            continue
        for i, name in enumerate(INTERVALS):
            error = {who: np.abs(point[:, i] - asked.real[:, i]) for who, point in found.points.items()}
            own = np.abs(found.mean[:, i] - asked.real[:, i])
            both = np.isfinite(own) & np.all([np.isfinite(e) for e in error.values()], axis=0) & mask
            estimates = {
                who: _weighted(np.where(both, e, np.nan), asked.weight, asked.subject) for who, e in error.items()
            }
            mine = _weighted(np.where(both, own, np.nan), asked.weight, asked.subject)
            out[f"mae_{prefix}{SHORT[name]}"] = metric(
                mine, baselines=estimates, n=int(both.sum()),
                unmeasured=unmeasured(found.samples[:, mask, i], asked.real[mask, i]),
            )  # fmt: skip
    return out


def _weighted(values: np.ndarray, weight: np.ndarray, subject: np.ndarray) -> dict[str, Any]:
    """Weighted mean of the finite values with its interval over subjects."""
    known = np.isfinite(values)
    return estimate_ratio(np.where(known, values * weight, np.nan), np.where(known, weight, np.nan), subject)


def rows(found: Forecasts) -> list[dict[str, Any]]:
    """A row per arm and interval: mean absolute errors of the model and its rivals."""
    asked, out = found.asked, []
    for arm in np.unique(asked.questions.arm):
        mine = asked.questions.arm == arm
        for i, name in enumerate(INTERVALS):
            said = {"model": found.mean, **found.points}
            errors = {who: _mean(np.abs(point[mine, i] - asked.real[mine, i])) for who, point in said.items()}
            out.append({"arm": str(arm), "interval": name, "n": int(mine.sum()), **errors})
    return out


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def shown(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: QTcF by arm."""
    return [row for row in found["rows"] if row["interval"] == "qtcf_ms"]


def figure(found: Mapping[str, Any]) -> Figure:
    """Mean absolute errors by interval, the model's and its rivals'."""
    from matplotlib.figure import Figure

    names = [name for name in found["metrics"] if name.startswith("mae_") and not name.startswith("mae_placebo")]
    drawing = Figure(figsize=(2.2 * len(names), 3), layout="constrained")
    for ax, name in zip(np.atleast_1d(drawing.subplots(1, len(names))), names):
        row = found["metrics"][name]
        errors = {"model": row["value"], **row["baselines"]}
        known = {who: value for who, value in errors.items() if value is not None}
        ax.barh(list(known)[::-1], list(known.values())[::-1], color=["lightgray"] * (len(known) - 1) + ["tab:red"])
        ax.set_title(name.removeprefix("mae_") + (" [1/min]" if name == "mae_hr" else " [ms]"), fontsize=8)
        ax.tick_params(labelsize=7)
    return drawing
