"""Are the futures as uncertain as they should be? Spread, coverage and CRPS on virtual patients the model never met.

Questions are transitions as in a virtual trial: people of all rhythms, half fresh and half with one or two steps behind
them, one more treatment (a quarter of a kind that training never met), 1, 2 or 4 hours. Asked is the change of each
interval against the strip before, and the risk after; both measured from strips, drawn and true.

How wide a forecast should be is known here. Chance is the spread of repeated futures of one heart. Not knowing the
heart comes on top: futures of the same heart with other people's sensitivities ("strangers") have the spread of the
best forecaster there can be, in people who have taken nothing yet (a strip under drugs tells something about the
sensitivity). ``spread_ratio`` is the samples' SD over that of strangers, in those people: the true conditional spread.
``spread_skill`` is the samples' SD over the error of their mean, in all: 1 for a forecaster who knows how much he does
not know.

``coverage90_*`` are of bands after a split-conformal correction, fitted on validation patients and kept beside the
weights (``ecg_gym.world_model.conformal``); ``raw`` stands beside them. CRPS is the fair one, beside no change, EPK
alone, the treatment's mean in other patients, and the climatology of changes; "dressed" adds other patients' errors to
a point forecast, which makes a forecaster of it that is hard to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import Treatment, World
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.powers import weights_hash
from ecg_gym.risk import RiskModel
from ecg_gym.world_model.conformal import LEVEL, RISK, Calibration, beside, covers, fit_band, raw_band
from training.console import SAY
from training.evaluation import questions, result
from training.evaluation.questions import (
    INTERVALS,
    SHORT,
    Questions,
    fair_crps,
    futures,
    judge_by,
    measure_step,
    observe_first,
)
from training.evaluation.result import Size, estimate_mean, estimate_ratio, metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=240, samples=19), Size(patients=16, samples=19)
FITTED_ON = 600  # validation patients, when the bands are to be kept
REFERENCE = 480  # other patients that baselines learn from
FUTURES = 6  # true futures of one heart, and strangers' for each
HEADLINE = ("hr", "pr", "qrs", "qtcf")
QUANTITIES = (*INTERVALS, RISK)
RIDGE = 1.0  # patients' worth of "this drug does nothing" in the treatment mean

StepInputs = Callable[[int], None]


@dataclass(frozen=True)
class Forecasts:
    """Samples of what is asked, and what came true: changes of intervals, and the risk after."""

    queries: Questions
    samples: Mapping[str, np.ndarray]  # quantity -> (K, N)
    true: Mapping[str, np.ndarray]  # quantity -> (J, N), futures of the same heart


def study(
    world: World,
    truth: World,
    size: Size = USUAL,
    quick: bool = False,
    progress: StepInputs = lambda n: None,
    calibration: Calibration | None = None,
    risk: Any = None,
    draw: questions.Draw | None = None,
) -> dict[str, Any]:
    """The study's document. Without a stored ``calibration`` one is fitted on validation patients first."""
    risk = risk or RiskModel.load()
    if calibration is None:
        calibration = fit(world, truth, size.patients, size.samples, progress=progress, risk=risk, draw=draw)
    queries = questions.joined(
        [numbered(questions.transitions(truth, size.patients, s, draw=draw), s) for s in size.seeds]
    )
    results = forecasts(world, truth, queries, size.samples, FUTURES, risk, progress)
    lost = questions.futures_of_other_patients(truth, queries, FUTURES, judge_by(risk), progress=progress)
    pre = questions.intervals_of(queries.start.ecg)
    strange = None if lost is None else _quantities(lost, pre)
    other = questions.transitions(truth, 3 * SMALL.patients if quick else REFERENCE, 0, "validation", draw=draw)
    rivals = baselines(truth, queries, other, risk, progress)
    metrics = measures(results, strange, rivals, calibration)
    return result.document(
        "calibration",
        world,
        len(np.unique(queries.patient)),
        size.seeds,
        metrics,
        rows(results, strange, calibration),
        samples=size.samples,
        true_futures=FUTURES,
        n_questions=len(queries),
        n_held_out=int(queries.held_out.sum()),
        fitted_on=dict(calibration.fitted_on),
        pit={name: pit(results.samples[name], results.true[name]).tolist() for name in QUANTITIES},
    )


def answers_of(size: Size, quick: bool = False) -> int:
    """About how many questions are answered, for a progress bar."""
    queries = size.patients * len(size.seeds)
    return 3 * queries + 2 * size.patients + (3 * SMALL.patients if quick else REFERENCE)


def numbered(queries: Questions, seed: int) -> Questions:
    """The same questions, their patients numbered so that cohorts of several seeds do not share them."""
    return questions.replace(queries, patient=queries.patient + 100_000 * seed)


def fit(
    world: World,
    truth: World,
    patients: int = FITTED_ON,
    samples: int = 19,
    seed: int = 0,
    progress: StepInputs = lambda n: None,
    risk: Any = None,
    draw: questions.Draw | None = None,
) -> Calibration:
    """The correction of this world's 90 % bands, fitted on ``patients`` validation patients, one question each.

    Their treatments are such as training knows, none held out. Call it after training, then ``.save(beside(weights))``.
    """
    queries = questions.transitions(truth, patients, seed, "validation", draw=draw)
    results = forecasts(world, truth, queries, samples, 1, risk or RiskModel.load(), progress)
    bands = {
        name: fit_band(results.samples[name], results.true[name][0], queries.patient, LEVEL)
        for name in QUANTITIES
        if (np.isfinite(raw_band(results.samples[name], LEVEL)[0]) & np.isfinite(results.true[name][0])).sum()
        > LEVEL / (1 - LEVEL)  # a model that has hardly learned says nothing of some intervals: they get no band
    }
    row = {"split": "validation", "seed": seed, "patients": len(np.unique(queries.patient)), "samples": samples}
    return Calibration(LEVEL, weights_hash(world), bands, row)


def stored(weights: Path, model_sha256: str) -> Calibration | None:
    """The calibration that lies beside a file of weights, if there is one and it is theirs."""
    path = beside(weights)
    return Calibration.load(path, model_sha256) if path.is_file() else None


def load_or_calibrate(world: Any, model: Path | None, fit_anew: bool = False) -> dict[str, Any]:
    """Arguments of :func:`study` for weights at ``model`` (``None`` is the package's): their stored bands, if any.

    With ``fit_anew`` they are fitted now, on ``FITTED_ON`` validation patients, and stored.
    """
    from ecg_gym.checkpoint import ASSETS
    from ecg_gym.world_model.model import WEIGHTS

    folder = ASSETS if model is None else model
    weights = folder / WEIGHTS if folder.is_dir() else folder
    if fit_anew:
        from ecg_gym.virtual_patient import VirtualPatient

        fit(world, VirtualPatient(), FITTED_ON).save(beside(weights))
    try:
        return {"calibration": stored(weights, world.sha256)}
    except ValueError as error:
        SAY.print(f"not used: {error}. Fitting for this run only.")
        return {"calibration": None}


def forecasts(
    world: World, truth: World, queries: Questions, k: int, j: int, risk: Any, progress: StepInputs = lambda n: None
) -> Forecasts:
    """``k`` futures by the world and ``j`` by the truth, measured and judged."""
    pre = questions.intervals_of(queries.start.ecg)
    own = questions.judged_in(world, risk)
    samples = futures(world, observe_first(world, queries), queries, k, own, progress=progress)
    real = futures(truth, queries.start, queries, j, judge_by(risk), stream="true", progress=progress)
    return Forecasts(queries, _quantities(samples, pre), _quantities(real, pre))


def _quantities(landmarks: Mapping[str, np.ndarray], pre: np.ndarray) -> dict[str, np.ndarray]:
    """Changes of the intervals against the strip before, and the risk after if there is one, ``(K, N)`` each."""
    change = landmarks["intervals"] - pre
    judged_too = {RISK: landmarks["risk"]} if "risk" in landmarks else {}
    return {name: change[..., i] for i, name in enumerate(INTERVALS)} | judged_too


def baselines(
    truth: World, queries: Questions, other: Questions, risk: Any = None, progress: StepInputs = lambda n: None
) -> dict[str, dict[str, np.ndarray]]:
    """Trivial forecasts by name and quantity, ``(K, N)`` each; ``other`` are patients they may learn from.

    Of the risk only if there is a ``risk`` to judge by.
    """
    look = measure_step if risk is None else judge_by(risk)
    pre, their_pre = questions.intervals_of(queries.start.ecg), questions.intervals_of(other.start.ecg)
    theirs = _quantities(futures(truth, other.start, other, 1, look, stream="true", progress=progress), their_pre)
    nothing, nothing_there = np.zeros(len(queries)), np.zeros(len(other))
    epk, their_epk = questions.pharmacology_alone(queries) - pre, questions.pharmacology_alone(other) - their_pre
    results: dict[str, dict[str, np.ndarray]] = {}
    for i, name in enumerate(theirs):
        judging = name == RISK
        start = questions.risk_before(risk, queries.start) if judging else nothing
        happened = theirs[name][0] - (questions.risk_before(risk, other.start) if judging else nothing_there)
        ok = np.isfinite(happened)
        treated, elsewhere = treatment_mean(other.treatments, happened, queries.treatments)
        rivals = {
            "no change": start[None],
            "climatology": start + happened[ok][:, None],
            "treatment mean": (start + treated)[None],
            "treatment mean, dressed": start + treated + (happened - elsewhere)[ok][:, None],
        }
        if not judging:
            point = np.where(np.isfinite(epk[:, i]), epk[:, i], 0.0)
            missed = happened - their_epk[:, i]
            rivals |= {"EPK alone": point[None], "EPK alone, dressed": point + missed[np.isfinite(missed)][:, None]}
        for rival, samples in rivals.items():
            results.setdefault(rival, {})[name] = np.clip(samples, 0, 1) if judging else samples
    return results


def treatment_mean(
    treatments: Sequence[Treatment], happened: np.ndarray, treatments_of: Sequence[Treatment]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean change by treatment: what other patients' ``happened (M,)`` says of ``asked`` ``(N,)``, and of themselves.

    One number for nothing and one for each drug, added up in combinations; least squares, rare drugs drawn to nothing.
    """
    design, targets = _indicators(treatments), _indicators(treatments_of)
    ok = np.isfinite(happened)
    penalty = np.sqrt(RIDGE) * np.eye(design.shape[1])[1:]
    rows, target = np.vstack([design[ok], penalty]), np.concatenate([happened[ok], np.zeros(len(penalty))])
    solution = np.linalg.lstsq(rows, target, rcond=None)[0]
    return targets @ solution, design @ solution


def _indicators(treatments: Sequence[Treatment]) -> np.ndarray:
    table = np.zeros((len(treatments), 1 + len(FORMULARY.names)))
    table[:, 0] = 1
    for row, treatment in enumerate(treatments):
        for dose in treatment.doses:
            if dose.drug in FORMULARY.index:
                table[row, 1 + FORMULARY.index[dose.drug]] = 1
    return table


def measures(
    forecast: Forecasts,
    strange: Mapping[str, np.ndarray] | None,
    rivals: Mapping[str, Mapping[str, np.ndarray]],
    calibration: Calibration,
) -> dict[str, Any]:
    """The study's metrics."""
    patients, fresh = forecast.queries.patient, np.array([not doses for doses in forecast.queries.start.doses])
    out: dict[str, Any] = {}
    shorts = {**SHORT, RISK: "risk"}
    for name in QUANTITIES:
        samples, true, short = forecast.samples[name], forecast.true[name], shorts[name]
        if name != RISK:
            out |= _spreads(samples, true, None if strange is None else strange[name], fresh, short, patients)
        out |= _coverage(name, samples, true, calibration, short, patients)
        scores = {rival: _crps(by[name], true) for rival, by in rivals.items() if name in by}
        beside = {rival: estimate_mean(values, patients, 300) for rival, values in scores.items()}
        own = _crps(samples, true)
        out[f"crps_{short}"] = metric(estimate_mean(own, patients), baselines=beside)
        best = min((v["value"], r) for r, v in beside.items() if v["value"] is not None)[1]
        gain = estimate_mean(own - scores[best], patients)
        out[f"crps_{short}"] |= {
            "best_baseline": best,
            "difference_to_it": gain["value"],
            "difference_ci95": gain["ci95"],
        }
        out[f"crps_{short}_less_best_rival"] = metric(gain, rival=best)
        if strange is not None and fresh.any():
            pair = {"model": own[fresh], "strangers": _crps(strange[name][:, fresh], true[:, fresh])}
            out[f"crps_{short}"]["in_fresh_patients"] = {who: float(_mean(values)) for who, values in pair.items()}
        out[f"unmeasured_{short}"] = metric(questions.unmeasured(samples, true[0]))
    head = [out.get(f"spread_ratio_{short}", {}).get("value") for short in HEADLINE]
    headline = out.get("spread_ratio_qtcf", out["spread_skill_qtcf"])
    return {"spread_ratio": {**headline, "of": "qtcf", "each": dict(zip(HEADLINE, head))}, **out}


def _spreads(
    samples: np.ndarray,
    true: np.ndarray,
    strange: np.ndarray | None,
    fresh: np.ndarray,
    short: str,
    patients: np.ndarray,
) -> dict[str, Any]:
    """SD of the samples, of chance, and of what cannot be known; the samples' over the last and over their error."""
    k = len(samples)
    variance, chance = variance_of(samples), variance_of(true)
    error = (questions.mean_known(samples) - true) ** 2  # (J, N)
    finite = np.isfinite(error)
    skill = np.where(
        finite.any(axis=0), np.where(finite, error, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1), np.nan
    )
    results = {
        f"spread_skill_{short}": metric(
            estimate_ratio(variance * (1 + 1 / k), skill, patients, root=True),
            baselines={"no change": 0.0},
            samples_sd=_root(variance),
            error_of_mean=_root(skill),
        )
    }
    if strange is not None and fresh.any():
        total = np.where(fresh, variance_of(strange), np.nan)
        chance = np.where(np.isfinite(total), chance, np.nan)
        mine = np.where(np.isfinite(total), variance, np.nan)
        results[f"spread_ratio_{short}"] = metric(
            estimate_ratio(variance, total, patients, root=True),
            baselines={"no change": 0.0, "chance alone": estimate_ratio(chance, total, patients, root=True)},
            samples_sd=_root(mine),
            true_sd=_root(total),
            chance_sd=_root(chance),
            unknown_heart_sd=float(np.sqrt(max(0.0, (_root(total) or 0) ** 2 - (_root(chance) or 0) ** 2))),
            median_ratio=_median(np.sqrt(variance / np.where(total > 0, total, np.nan))),
        )
    return results


def variance_of(samples: np.ndarray) -> np.ndarray:
    """Unbiased variance ``(N,)`` of samples ``(K, N)``, where at least half of them are known."""
    finite = np.isfinite(samples)
    count = finite.sum(axis=0)
    mean = np.where(finite, samples, 0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(finite, (samples - mean) ** 2, 0).sum(axis=0)
    return np.where((count >= 2) & (count >= len(samples) / 2), squares / np.maximum(count - 1, 1), np.nan)


def _root(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(finite.mean())) if len(finite) else None


def _coverage(
    name: str, samples: np.ndarray, true: np.ndarray, calibration: Calibration, short: str, patients: np.ndarray
) -> dict[str, Any]:
    """Share of true futures within the corrected band, beside the raw one; width of both."""
    low, high = raw_band(samples, LEVEL)
    raw = _mean(covers(low, high, true))
    results = {f"coverage90_{short}_raw": metric(estimate_mean(raw, patients), width=_median(high - low))}
    if name not in calibration.bands:
        return results
    lower, upper = calibration.apply(name, samples)
    corrected = _mean(covers(lower, upper, true))
    value = metric(
        estimate_mean(corrected, patients),
        baselines={"raw": estimate_mean(raw, patients)},
        width=_median(upper - lower),
        raw_width=_median(high - low),
        no_band=float(np.mean(~np.isfinite(low))),
    )
    return {f"coverage90_{short}": value, **results}


def _crps(samples: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean CRPS ``(N,)`` of samples ``(K, N)`` over the true futures ``(J, N)``."""
    return _mean(np.stack([fair_crps(samples, t) for t in true]))


def _mean(values: np.ndarray) -> np.ndarray:
    return questions.mean_known(values, least=0.0)


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def pit(samples: np.ndarray, true: np.ndarray, bins: int = 10) -> np.ndarray:
    """Histogram ``(bins,)`` of where true futures ``(J, N)`` lie among samples ``(K, N)``; flat if all is right.

    A true future that lies among r of K samples from below is spread evenly over [r, r + 1] / (K + 1); ties evenly over
    all they tie with. Sums to 1.
    """
    share = np.zeros(bins)
    edges = np.linspace(0, 1, bins + 1)
    finite = np.isfinite(samples)
    count = finite.sum(axis=0)
    for t in true:
        ok = np.isfinite(t) & (count >= max(2, len(samples) / 2))
        below = (finite & (samples < t)).sum(axis=0)[ok]
        through = (finite & (samples <= t)).sum(axis=0)[ok]
        start, end = below / (count[ok] + 1), (through + 1) / (count[ok] + 1)
        overlap = np.clip(np.minimum(edges[1:], end[:, None]) - np.maximum(edges[:-1], start[:, None]), 0, None)
        share += (overlap / (end - start)[:, None]).sum(axis=0)
    return share / share.sum() if share.sum() else share


def rows(
    forecast: Forecasts, strange: Mapping[str, np.ndarray] | None, calibration: Calibration
) -> list[dict[str, Any]]:
    """A row per question and quantity: mean and SD of the samples, bands, the first true future, the true spread."""
    table = []
    for name in QUANTITIES:
        samples, true = forecast.samples[name], forecast.true[name]
        mean, sd = questions.mean_known(samples), np.sqrt(variance_of(samples))
        low, high = calibration.apply(name, samples) if name in calibration.bands else raw_band(samples)
        true_sd = np.sqrt(variance_of(strange[name])) if strange is not None else np.full(len(mean), np.nan)
        score = _crps(samples, true)
        for i in range(len(forecast.queries)):
            table.append(
                {
                    "patient": int(forecast.queries.patient[i]),
                    "treatment": str(forecast.queries.treatments[i]),
                    "hours": float(forecast.queries.dt_hours[i]),
                    "held_out": bool(forecast.queries.held_out[i]),
                    "quantity": name,
                    "mean": mean[i],
                    "sd": sd[i],
                    "low": low[i],
                    "high": high[i],
                    "true": true[0, i],
                    "true_sd": true_sd[i],
                    "crps": score[i],
                }
            )
    return table


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per quantity for people."""
    lines, metrics = [], document["metrics"]
    for name in QUANTITIES:
        short = {**SHORT, RISK: "risk"}[name]
        ratio, band = metrics.get(f"spread_ratio_{short}", {}), metrics.get(f"coverage90_{short}", {})
        crps = metrics[f"crps_{short}"]
        lines.append(
            {
                "quantity": name,
                "SD drawn": ratio.get("samples_sd"),
                "SD true": ratio.get("true_sd"),
                "of it chance": ratio.get("chance_sd"),
                "and heart": ratio.get("unknown_heart_sd"),
                "spread / skill": metrics.get(f"spread_skill_{short}", {}).get("value"),
                "raw 90 %": metrics[f"coverage90_{short}_raw"]["value"],
                "corrected": band.get("value"),
                "width": band.get("width"),
                "CRPS": crps["value"],
                "best rival": f"{crps['best_baseline']} {result.cell(crps['baselines'][crps['best_baseline']])}",
            }
        )
    return lines


def figure(document: Mapping[str, Any]) -> Figure:
    """PIT histograms, spread by its causes, coverage, and CRPS beside the rivals'."""
    from matplotlib.figure import Figure

    samples = Figure(figsize=(15, 8), layout="constrained")
    axes = np.array(
        [part.subplots(1, 4) for part in np.array(samples.subfigures(2, 1), dtype=object)]
    )  # rows keep their own widths
    metrics = document["metrics"]
    for ax, name in zip(axes[0], ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")):
        share = np.array(document["settings"]["pit"][name])
        ax.bar((np.arange(len(share)) + 0.5) / len(share), share * len(share), width=0.095, color="tab:red", alpha=0.7)
        ax.axhline(1, color="black", lw=0.8)
        ax.set_title(f"{SHORT[name]}: where the truth lies among the samples", fontsize=9)
    _spread_bars(axes[1, 0], metrics)
    _coverage_bars(axes[1, 1], metrics)
    _score_bars(axes[1, 2], metrics, "qtcf", "ms")
    _score_bars(axes[1, 3], metrics, "hr", "1/min")
    samples.suptitle(
        f"Calibration: {document['n_patients']} held-out patients, {document['settings']['samples']} samples each"
    )
    return samples


def _spread_bars(ax: Any, metrics: Mapping[str, Any]) -> None:
    names = [name for name in SHORT.values() if f"spread_ratio_{name}" in metrics]
    place = np.arange(len(names))
    for shift, key, colour in (
        (-0.3, "samples_sd", "tab:red"),
        (-0.1, "true_sd", "black"),
        (0.1, "chance_sd", "gray"),
        (0.3, "unknown_heart_sd", "lightgray"),
    ):
        values = [metrics[f"spread_ratio_{name}"][key] or 0 for name in names]
        ax.bar(place + shift, values, width=0.2, label=key.removesuffix("_sd").replace("_", " "), color=colour)
    ax.set_xticks(place, names, fontsize=8, rotation=30)
    ax.set_title("SD of futures [1/min, ms]", fontsize=9)
    ax.legend(fontsize=8)


def _coverage_bars(ax: Any, metrics: Mapping[str, Any]) -> None:
    names = [name for name in (*SHORT.values(), "risk") if f"coverage90_{name}" in metrics]
    place = np.arange(len(names))
    for shift, of, colour in ((-0.2, "{}_raw", "lightgray"), (0.2, "{}", "tab:red")):
        rows_ = [metrics["coverage90_" + of.format(name)] for name in names]
        values = [row["value"] or 0 for row in rows_]
        reach = [
            [max(0, v - r["ci95"][0]), max(0, r["ci95"][1] - v)] if r["ci95"] else [0, 0] for v, r in zip(values, rows_)
        ]
        label = "raw" if "raw" in of else "corrected"
        ax.bar(place + shift, values, width=0.4, color=colour, label=label, yerr=np.array(reach).T, ecolor="dimgray")
    ax.axhspan(0.88, 0.92, color="black", alpha=0.15, lw=0)
    ax.set_ylim(0, 1)
    ax.set_xticks(place, names, fontsize=8, rotation=30)
    ax.set_title("coverage of 90 % bands", fontsize=9)
    ax.legend(fontsize=8, loc="lower left", framealpha=0.6)


def _score_bars(ax: Any, metrics: Mapping[str, Any], short: str, unit: str) -> None:
    row = metrics[f"crps_{short}"]
    scores = {"model": row["value"], **row["baselines"]}
    names = [name for name in scores if scores[name] is not None][::-1]
    colours = [{"model": "tab:red", "strangers": "black"}.get(name, "lightgray") for name in names]
    ax.barh(names, [scores[name] for name in names], color=colours)
    ax.tick_params(axis="y", labelsize=7)
    ax.set_title(f"CRPS of {short} [{unit}], lower is better", fontsize=9)
