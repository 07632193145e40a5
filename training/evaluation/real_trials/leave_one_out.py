"""Leave one subject out: fine-tune the interval model on everybody else, and foretell the one who was left out.

Every person of the shards, whatever their side, is left out once. The weights to begin with stand beside, and no
change, pharmacology alone and the treatment's mean in the others. Intervals draw subjects. Only the interval model is
tuned and asked: no strip is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.datasets.transitions import Trials
from ecg_gym.real_trials.manifest import RealTrial, read_real
from ecg_gym.real_trials.profiles import hash_of
from ecg_gym.world_model.model import WorldModel
from training.data.real_trials import real_pairs, resample
from training.evaluation import result
from training.evaluation.questions import INTERVALS, SHORT
from training.evaluation.real_trials import intervals
from training.evaluation.real_trials.forecasts import Progress, forecast, questions_of
from training.evaluation.result import metric
from training.train_real_trials import RealPreset, fit_interval_model, with_interval_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD = 8  # one of so many of the others, but at least one, decides when training stops
LEAST = 3  # people: one out, one to learn from, one to decide


def study(
    world: WorldModel, trials: Path, preset: RealPreset, samples: int = 8, subjects: int | None = None,
    progress: Progress = lambda people: None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document; ``subjects`` leaves out only so many. ValueError with fewer than three people."""
    everything, trajectories = read_real(trials)
    people = sorted({trial.subject for trial in trajectories.values()}, key=hash_of)
    if len(people) < LEAST:
        raise ValueError(f"{trials} holds {len(people)} people; expected at least {LEAST}; make shards of more")
    rows: list[dict[str, Any]] = []
    for out in people[:subjects]:
        rows += one_out(world, everything, trajectories, out, [name for name in people if name != out], preset, samples)
        progress(1)
    return result.document(
        "leave-one-out", world, len(people[:subjects]), (preset.interval_model.loop.seed,), metrics(rows), rows,
        samples=samples, steps=preset.interval_model.loop.steps,
    )  # fmt: skip


def one_out(
    world: WorldModel, everything: Trials, trajectories: Mapping[int, RealTrial], out: str, others: Sequence[str],
    preset: RealPreset, samples: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row per arm and interval of the one who is left out: errors by everybody."""
    validation = set(others[: max(1, len(others) // HELD)])
    learned, decided = (
        _of(everything, trajectories, lambda name: name in others and name not in validation),
        _of(everything, trajectories, lambda name: name in validation),
    )
    pairs, weights = real_pairs(*learned)
    draws = resample(pairs, weights, np.random.default_rng(preset.interval_model.loop.seed))
    tuned, _ = fit_interval_model(
        world.forecaster, (learned[0], draws), (decided[0], *real_pairs(*decided)), None, preset, show=False
    )
    forecaster = with_interval_model(world.forecaster, tuned)
    queries = questions_of(*_of(everything, trajectories, lambda name: name == out))
    rest = questions_of(*learned)
    forecasts = forecast(replace(world, forecaster=forecaster), queries, rest, samples, draw_strips=False)
    before = forecast(world, queries, None, samples, draw_strips=False)
    forecasts = replace(forecasts, points={**forecasts.points, "as it began": before.mean})
    return [{"subject": out, **row} for row in intervals.rows(forecasts)]


def _of(
    everything: Trials, trajectories: Mapping[int, RealTrial], condition: Any
) -> tuple[Trials, dict[int, RealTrial]]:
    some = {number: trial for number, trial in trajectories.items() if condition(trial.subject)}
    return everything[np.isin(everything.patient, list(some))], some


def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean absolute error by interval over arms and people, each arm of a person counting once."""
    others = [name for name in rows[0] if name not in ("subject", "arm", "interval", "n", "model")]
    out = {}
    for name in INTERVALS:
        mine = [row for row in rows if row["interval"] == name]
        who = np.array([row["subject"] for row in mine])
        errors = {
            rival: result.estimate_mean(np.array([np.nan if row[rival] is None else row[rival] for row in mine]), who)
            for rival in ("model", *others)
        }
        out[f"mae_{SHORT[name]}"] = metric(errors.pop("model"), baselines=errors, n=len(mine))
    return out


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: QTcF of everybody who was left out."""
    return [row for row in document["rows"] if row["interval"] == "qtcf_ms"]


def figure(document: Mapping[str, Any]) -> Figure:
    """As the errors of the intervals study."""
    return intervals.figure(document)
