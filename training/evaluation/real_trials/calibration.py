"""Are forecasts for real people as uncertain as they should be? Spread, coverage and CRPS of changes, by interval.

Bands are corrected by split conformal prediction on the people of the validation side, where there are enough of them
(``ecg_gym.world_model.conformal``); raw ones stand beside. Rivals are given the scatter of the people that training
knew ("dressed"). Intervals draw subjects.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.world_model.conformal import LEVEL, Band, apply_band, covers, fit_band, raw_band
from training.evaluation import questions, result
from training.evaluation.questions import INTERVALS, SHORT, fair_crps
from training.evaluation.real_trials.effects import _others
from training.evaluation.real_trials.forecasts import Forecasts, Progress, RealQuestions, ask, forecast, treatment_mean
from training.evaluation.real_trials.intervals import bars
from training.evaluation.result import estimate_mean, estimate_ratio, metric
from training.evaluation.world_model.calibration import variance_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 19  # the fewest whose range can hold 90 %


def study(
    world: World, trials: Path, side: str = "test", samples: int = SAMPLES, subjects: int | None = None,
    draw_strips: bool = True, progress: Progress = lambda rows: None, hours: Sequence[float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document."""
    queries = ask(trials, side, subjects, hours)
    others = None if side == "train" else _others(trials)
    forecasts = forecast(world, queries, None, samples, draw_strips, progress)
    bands = _bands(world, trials, samples, (subjects, hours), draw_strips, progress) if side == "test" else {}
    rows = [_row(forecasts, others, i, bands.get(name)) for i, name in enumerate(INTERVALS)]
    return result.document(
        "calibration-real", world, len(np.unique(queries.subject)), (0,), metrics(forecasts, others, bands), rows,
        side=side, samples=samples, n_questions=len(queries), intervals_only=not draw_strips,
        bands_fitted_on={name: vars(band) for name, band in bands.items()},
    )  # fmt: skip


def _bands(
    world: World,
    trials: Path,
    samples: int,
    which: tuple[int | None, Sequence[float] | None],
    draw_strips: bool,
    progress: Progress,
) -> dict[str, Band]:
    """Corrections by interval from the people of the validation side; none where there are too few questions."""
    try:
        queries = ask(trials, "validation", *which)
    except ValueError:
        return {}
    forecasts = forecast(world, queries, None, samples, draw_strips, progress)
    bands = {}
    for i, name in enumerate(INTERVALS):
        try:
            bands[name] = fit_band(
                forecasts.samples[:, :, i] - queries.before[:, i], queries.change[:, i], queries.subject
            )
        except ValueError:  # too few
            continue
    return bands


def rivals(queries: RealQuestions, others: RealQuestions | None, i: int) -> dict[str, np.ndarray]:
    """Samples ``(K', N)`` of the change of one interval by forecasts that need no model."""
    samples = {"no change": np.zeros((1, len(queries)))}
    if others is None:
        return samples
    happened = others.change[:, i]
    finite = np.isfinite(happened)
    mean, own = treatment_mean(others, queries)[:, i], treatment_mean(others, others)[:, i]
    samples["climatology"] = np.repeat(happened[finite][:, None], len(queries), axis=1)
    samples["treatment mean, dressed"] = mean + (happened - own)[finite][:, None]
    return samples


def metrics(forecasts: Forecasts, others: RealQuestions | None, bands: Mapping[str, Band]) -> dict[str, Any]:
    """Spread over error, coverage of 90 % bands and CRPS by interval."""
    out: dict[str, Any] = {}
    queries = forecasts.queries
    for i, name in enumerate(INTERVALS):
        samples, true = forecasts.samples[:, :, i] - queries.before[:, i], queries.change[:, i]
        k, short, who = len(samples), SHORT[name], queries.subject
        variance = variance_of(samples)
        error = (questions.mean_known(samples) - true) ** 2
        out[f"spread_skill_{short}"] = metric(
            estimate_ratio(variance * (1 + 1 / k), error, who, root=True), baselines={"no change": 0.0}
        )
        raw = estimate_mean(covers(*raw_band(samples), true), who)
        if name in bands:
            coverage = estimate_mean(covers(*apply_band(bands[name], samples), true), who)
            out[f"coverage90_{short}"] = metric(coverage, baselines={"raw": raw})
        else:
            out[f"coverage90_{short}"] = metric(raw, corrected=False)
        beside = {rival: estimate_mean(fair_crps(own, true), who) for rival, own in rivals(queries, others, i).items()}
        out[f"crps_{short}"] = metric(estimate_mean(fair_crps(samples, true), who), baselines=beside)
    return out


def _row(forecasts: Forecasts, others: RealQuestions | None, i: int, band: Band | None) -> dict[str, Any]:
    queries = forecasts.queries
    samples, true = forecasts.samples[:, :, i] - queries.before[:, i], queries.change[:, i]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # questions whose samples could not be measured
        low, high = raw_band(samples, LEVEL)
        return {
            "interval": INTERVALS[i], "n": int(np.isfinite(true).sum()),
            "samples_sd": float(np.sqrt(np.nanmean(np.nanvar(samples, axis=0, ddof=1)))),
            "error_of_mean": float(np.sqrt(np.nanmean((questions.mean_known(samples) - true) ** 2))),
            "width90": float(np.nanmedian(high - low)), "widen": None if band is None else band.widen,
        }  # fmt: skip


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people."""
    return list(document["rows"])


def figure(document: Mapping[str, Any]) -> Figure:
    """CRPS by interval, the model's and its rivals'."""
    names = [name for name in document["metrics"] if name.startswith("crps_")]
    return bars(document, {name: name.removeprefix("crps_") for name in names}, "CRPS")
