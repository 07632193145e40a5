"""Group effects of real arms: what the people of an arm changed by, minus what those on placebo did, by hour.

The bootstrap draws subjects with everything they contributed; a subject who took both an arm and placebo (crossover)
is compared with himself, otherwise groups are (parallel). Published intervals give one set of effects, our delineator
on the recorded strips another, and each forecast its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from training.evaluation import result
from training.evaluation.questions import INTERVALS, SHORT
from training.evaluation.real_trials.forecasts import Forecasts, Progress, RealQuestions, ask, forecast
from training.evaluation.result import metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 1000  # of the bootstrap
SAMPLES, QUICK_SAMPLES, QUICK_SUBJECTS = 8, 4, 2
UNITS = {name: "1/min" if name == "hr_bpm" else "ms" for name in INTERVALS}


@dataclass(frozen=True)
class Cells:
    """Mean changes by person, arm and hour."""

    change: np.ndarray  # (subjects, arms, hours, 6), NaN where there is none
    arms: tuple[str, ...]  # "source: arm"
    hours: tuple[float, ...]
    placebo: Mapping[int, int]  # arm -> the control arm of its source


def cells(queries: RealQuestions, change: np.ndarray) -> Cells:
    """Changes ``(N, 6)`` averaged over the replicates of each person, arm and hour."""
    people, who = np.unique(queries.subject, return_inverse=True)
    arms, arm = np.unique(queries.questions.arm, return_inverse=True)
    hours, hour = np.unique(queries.hours, return_inverse=True)
    shape = (len(people), len(arms), len(hours), len(INTERVALS))
    sums, counts = np.zeros(shape), np.zeros(shape)
    finite = np.isfinite(change)
    np.add.at(sums, (who, arm, hour), np.where(finite, change, 0.0) * queries.weight[:, None])
    np.add.at(counts, (who, arm, hour), finite * queries.weight[:, None])
    with np.errstate(invalid="ignore"):
        mean = np.where(counts > 0, sums / counts, np.nan)
    controls = {str(s): int(a) for s, a, control in zip(queries.source, arm, queries.control) if control}
    source = {int(a): str(s) for s, a in zip(queries.source, arm)}
    placebo = {a: controls[s] for a, s in source.items() if s in controls and controls[s] != a}
    return Cells(mean, tuple(map(str, arms)), tuple(map(float, hours)), placebo)


def effects(table: Cells, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """Effects ``(arms, hours, 6)`` and their bootstrap ``(draws, arms, hours, 6)``; NaN where nobody contributes, and
    the whole bootstrap where there is only one person.

    Placebo-corrected where the arm's trial has a control arm, changes from baseline otherwise.
    """
    n = len(table.change)
    often = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws) * (1.0 if n > 1 else np.nan)
    every = np.concatenate([np.ones((1, n)), often])
    values = np.full((draws + 1, *table.change.shape[1:]), np.nan)
    for arm in range(len(table.arms)):
        own = table.change[:, arm]
        if arm not in table.placebo:
            values[:, arm] = _mean(every, own)
            continue
        control = table.change[:, table.placebo[arm]]
        paired = np.isfinite(own) & np.isfinite(control)
        difference = np.where(paired, own - control, np.nan)
        crossover = paired.any(axis=0)
        values[:, arm] = np.where(crossover, _mean(every, difference), _mean(every, own) - _mean(every, control))
    return values[0], values[1:]


def _mean(often: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over people ``(draws, hours, 6)`` of ``values (people, hours, 6)``, each as often as ``often`` says."""
    finite = np.isfinite(values)
    total = np.tensordot(often, np.where(finite, values, 0.0), axes=(1, 0))
    count = np.tensordot(often, finite.astype(float), axes=(1, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def study(
    world: World, trials: Path, side: str = "test", samples: int = SAMPLES, subjects: int | None = None,
    draw_strips: bool = True, progress: Progress = lambda rows: None, hours: Sequence[float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document: group effects beside the published ones, and the delineator beside the trial's readers."""
    queries = ask(trials, side, subjects, hours)
    others = None if side == "train" else _others(trials)
    forecasts = forecast(world, queries, others, samples, draw_strips, progress)
    groups = {name: cells(queries, change) for name, change in changes(forecasts).items()}
    references = {name: effects(table) for name, table in groups.items()}
    reference = "published" if np.isfinite(references["published"][0]).any() else "recorded"
    rows = list(effect_rows(groups["recorded"], references, reference))
    return result.document(
        "real-effects", world, len(np.unique(queries.subject)), (0,),
        {**effect_metrics(rows, references), **delineation_metrics(queries)}, rows,
        side=side, samples=samples, n_questions=len(queries), reference=reference, intervals_only=not draw_strips,
        arms=list(groups["recorded"].arms),
    )  # fmt: skip


def _others(trials: Path) -> RealQuestions | None:
    try:
        return ask(trials, "train")
    except ValueError:  # an outside trial: nobody of it was trained on
        return None


def changes(forecasts: Forecasts) -> dict[str, np.ndarray]:
    """The change ``(N, 6)`` by everybody's account: recorded, published, the model, and its rivals."""
    queries = forecasts.queries
    rivals = {name: point - queries.before for name, point in forecasts.points.items()}
    return {
        "recorded": queries.change, "published": queries.published - queries.published_before,
        "model": forecasts.mean - queries.before, **rivals,
    }  # fmt: skip


def effect_rows(
    table: Cells, references: Mapping[str, tuple[np.ndarray, np.ndarray]], reference: str
) -> Iterator[dict[str, Any]]:
    """A row per arm, hour and interval: everybody's effect, and whether it lies in the reference's 95 % interval."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # cells that nobody contributes to
        low, high = np.nanquantile(references[reference][1], [0.025, 0.975], axis=0)
    for a, arm in enumerate(table.arms):
        corrected = a in table.placebo
        control = a in table.placebo.values()
        for h, hour in enumerate(table.hours):
            for i, name in enumerate(INTERVALS):
                value = references[reference][0][a, h, i]
                if not np.isfinite(value):
                    continue
                levels = {who: float(effect[a, h, i]) for who, (effect, _) in references.items()}
                lo, hi = float(low[a, h, i]), float(high[a, h, i])
                ends = [lo, hi] if np.isfinite(lo) else None
                yield {
                    "arm": arm, "hour": hour, "interval": name, "unit": UNITS[name], "control": control,
                    "placebo_corrected": corrected, "reference": reference, "effect": float(value), "ci95": ends,
                    **{f"{who}": number for who, number in levels.items()},
                    **{f"{who}_inside": None if ends is None else bool(lo <= number <= hi)
                       for who, number in levels.items() if who != reference},
                }  # fmt: skip


def effect_metrics(rows: list[dict[str, Any]], references: Mapping[str, Any]) -> dict[str, Any]:
    """Share of effects inside the reference's interval and mean error, by interval; of treated arms and of placebo."""
    others = [name for name in references if f"{name}_inside" in rows[0]]
    out: dict[str, Any] = {}
    groups = {"": [row for row in rows if not row["control"]], "placebo_": [row for row in rows if row["control"]]}
    for prefix, members in groups.items():
        for name in INTERVALS:
            mine = [row for row in members if row["interval"] == name]
            if not mine:
                continue
            inside = {who: _share([row[f"{who}_inside"] for row in mine]) for who in others}
            missed = {who: _mean_error(mine, who) for who in others}
            short = f"{prefix}{SHORT[name]}"
            out[f"inside_{short}"] = metric(inside.pop("model"), baselines=inside, n=len(mine))
            out[f"effect_error_{short}"] = metric(missed.pop("model"), baselines=missed, n=len(mine))
    return out


def _share(inside: Sequence[bool | None]) -> float:
    flags = [value for value in inside if value is not None]
    return float(np.mean(flags)) if flags else float("nan")


def _mean_error(rows: list[dict[str, Any]], who: str) -> float:
    errors = np.array([abs(row[who] - row["effect"]) for row in rows])
    return float(errors[np.isfinite(errors)].mean()) if np.isfinite(errors).any() else float("nan")


def delineation_metrics(queries: RealQuestions) -> dict[str, Any]:
    """Our delineator beside the trial's readers: bias and SD of the difference, and the share it did not measure."""
    out = {}
    for i, name in enumerate(INTERVALS):
        difference = queries.real[:, i] - queries.published[:, i]
        if not np.isfinite(difference).any():
            continue
        unmeasured = np.where(np.isfinite(queries.published[:, i]), ~np.isfinite(queries.real[:, i]), np.nan)
        bias = result.estimate_mean(difference, queries.subject)
        sd = float(np.nanstd(difference, ddof=1)) if np.isfinite(difference).sum() > 1 else float("nan")
        out[f"delineation_bias_{SHORT[name]}"] = metric(bias, sd=sd, unmeasured=float(np.nanmean(unmeasured)))
    return out


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: QTcF of every arm at the hour of its largest reference effect."""
    rows = [row for row in document["rows"] if row["interval"] == "qtcf_ms"]
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["arm"] not in best or abs(row["effect"]) > abs(best[row["arm"]]["effect"]):
            best[row["arm"]] = row
    names = (
        "arm",
        "hour",
        "unit",
        "effect",
        "ci95",
        "recorded",
        "model",
        "pharmacology alone",
        "nothing given",
        "wrong drug",
    )
    return [{name: row.get(name) for name in names} for row in best.values()]


def figure(document: Mapping[str, Any]) -> Figure:
    """QTcF over the hours of every arm: the reference with its interval, the model, pharmacology alone."""
    from matplotlib.figure import Figure

    rows = [row for row in document["rows"] if row["interval"] == "qtcf_ms"]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    drawing = Figure(figsize=(3.2 * min(len(arms), 4), 2.8 * -(-len(arms) // 4)), layout="constrained")
    axes = np.atleast_1d(drawing.subplots(-(-len(arms) // 4), min(len(arms), 4), sharey=True, squeeze=False)).ravel()
    for ax in axes[len(arms) :]:
        ax.set_axis_off()
    for ax, arm in zip(axes, arms):
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["hour"])
        hours = [row["hour"] for row in mine]
        if all(row["ci95"] for row in mine):
            ax.fill_between(hours, *zip(*(row["ci95"] for row in mine)), color="lightgray", lw=0, label="95 % interval")
        ax.plot(hours, [row["effect"] for row in mine], color="black", label=mine[0]["reference"])
        ax.plot(hours, [row["model"] for row in mine], color="tab:red", label="model")
        ax.plot(
            hours, [row["pharmacology alone"] for row in mine], color="tab:blue", ls="--", label="pharmacology alone"
        )
        ax.axhline(0, color="black", lw=0.5)
        ax.set_title(arm + (", placebo-corrected" if mine[0]["placebo_corrected"] else ""), fontsize=8)
        ax.set_xlabel("hours after the arm's zero", fontsize=7)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel("change of QTcF [ms]", fontsize=8)
    axes[0].legend(fontsize=6)
    return drawing
