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
    draw_strips: bool = True, progress: Progress = lambda rows: None, hours: Sequence[float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document."""
    queries = ask(trials, side, subjects, hours)
    others = None if side == "train" else _others(trials)
    forecasts = forecast(world, queries, others, samples, draw_strips, progress)
    return result.document(
        "intervals-real", world, len(np.unique(queries.subject)), (0,), metrics(forecasts), rows(forecasts),
        side=side, samples=samples, n_questions=len(queries), intervals_only=not draw_strips,
    )  # fmt: skip


def metrics(forecasts: Forecasts) -> dict[str, Any]:
    """Mean absolute error of the mean forecast by interval, beside the rivals', of all arms and of placebo."""
    out: dict[str, Any] = {}
    queries = forecasts.queries
    for prefix, mask in (("", ~queries.control), ("placebo_", queries.control)):
        if not mask.any():
            continue
        for i, name in enumerate(INTERVALS):
            error = {who: np.abs(point[:, i] - queries.real[:, i]) for who, point in forecasts.points.items()}
            own = np.abs(forecasts.mean[:, i] - queries.real[:, i])
            both = np.isfinite(own) & np.all([np.isfinite(e) for e in error.values()], axis=0) & mask
            estimates = {
                who: _weighted(np.where(both, e, np.nan), queries.weight, queries.subject) for who, e in error.items()
            }
            mine = _weighted(np.where(both, own, np.nan), queries.weight, queries.subject)
            out[f"mae_{prefix}{SHORT[name]}"] = metric(
                mine, baselines=estimates, n=int(both.sum()),
                unmeasured=unmeasured(forecasts.samples[:, mask, i], queries.real[mask, i]),
            )  # fmt: skip
    return out


def _weighted(values: np.ndarray, weight: np.ndarray, subject: np.ndarray) -> dict[str, Any]:
    """Weighted mean of the finite values with its interval over subjects."""
    finite = np.isfinite(values)
    return estimate_ratio(np.where(finite, values * weight, np.nan), np.where(finite, weight, np.nan), subject)


def rows(forecasts: Forecasts) -> list[dict[str, Any]]:
    """A row per arm and interval: mean absolute errors of the model and its rivals."""
    queries, out = forecasts.queries, []
    for arm in np.unique(queries.questions.arm):
        mine = queries.questions.arm == arm
        for i, name in enumerate(INTERVALS):
            points = {"model": forecasts.mean, **forecasts.points}
            errors = {who: _mean(np.abs(point[mine, i] - queries.real[mine, i])) for who, point in points.items()}
            out.append({"arm": str(arm), "interval": name, "n": int(mine.sum()), **errors})
    return out


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: QTcF by arm."""
    return [row for row in document["rows"] if row["interval"] == "qtcf_ms"]


def figure(document: Mapping[str, Any]) -> Figure:
    """Mean absolute errors by interval, the model's and its rivals'."""
    names = [name for name in document["metrics"] if name.startswith("mae_") and not name.startswith("mae_placebo")]
    return bars(document, {name: name.removeprefix("mae_") for name in names}, "mean absolute error")


def bars(document: Mapping[str, Any], titles: Mapping[str, str], label: str) -> Figure:
    """A panel for each of these metrics: the model's value in red, its rivals' in grey."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(2 + 1.7 * len(titles), 2.6), layout="constrained")
    panels = drawing.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, (name, title) in zip(panels, titles.items()):
        row = document["metrics"][name]
        values = {"model": row["value"], **row["baselines"]}
        heights = [np.nan if value is None else value for value in values.values()]
        ax.barh(list(values)[::-1], heights[::-1], color=["lightgray"] * (len(values) - 1) + ["tab:red"])
        ax.set_title(title.replace("_", " ") + (" [1/min]" if title == "hr" else " [ms]"), fontsize=8)
        ax.tick_params(labelsize=7)
    drawing.supxlabel(label, fontsize=8)
    return drawing
