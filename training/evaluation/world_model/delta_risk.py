"""Does the model foresee whether a treatment helps or harms? Predicted against true change of risk.

True: the mean risk over several futures of the same virtual heart, minus the risk of its strip before. Predicted: the
same in the model's futures, before and after through the same codec. Questions are those of ``study calibration``:
all rhythms, drugs, doses, combinations, half of the people with drugs behind them.

Which true changes are not noise? The same hearts are watched for the same time. Nine in ten of these placebo changes
(in absolute value, means over as many futures) are below a threshold; a treated change counts above it. Sign agreement
is the share of those whose sign is foretold; an answer of exactly zero is wrong. Placebo is also the null: what a model
gets that foresees time and regression to the mean but no treatment. ``*_placebo_corrected`` takes that away: change
under treatment minus change under placebo, true and predicted.

The paper (Table 4) reports a Pearson of 0.620, a Spearman of 0.598 and 76 % of signs. Not comparable: its truth is its
own frozen classifier on one recorded ECG, of 17 findings none of which is QT, in 200 intensive-care patients whose
treatment nobody randomised; here the truth is a mechanism, averaged over chance, and includes interval limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from ecg_gym.core import World
from ecg_gym.risk import RiskModel, limits
from ecg_gym.waveform import Intervals
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model.conditioning import measure_strips
from ecg_gym.yaml_files import read_yaml
from training.evaluation import questions, result
from training.evaluation.questions import INTERVALS, Questions, futures, judge_by, mean_known, observe_first
from training.evaluation.result import Size, estimate, estimates, metric
from training.evaluation.world_model.calibration import numbered, treatment_mean
from training.evaluation.world_model.intervals import PAPER, pearson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=240, samples=12), Size(patients=24, samples=6)
FUTURES = 8  # true futures of one heart
QUICK_FUTURES = 4
REFERENCE = 480  # other patients that baselines learn from
NOISE = 0.9  # this share of placebo changes is noise
NULL = "placebo (null)"
PREDICTORS = (
    "model", NULL, "no change", "before alone", "treatment mean", "EPK alone, limits", "wrong drug", "strangers",
    "truth again",
)  # fmt: skip

StepInputs = Callable[[int], None]


@dataclass(frozen=True)
class Changes:
    """Changes of risk ``(N,)``: true, predicted by name, and of the same hearts watched."""

    queries: Questions
    true: np.ndarray
    watched: np.ndarray  # true, placebo
    watched_model: np.ndarray  # the model's, placebo
    predicted: Mapping[str, np.ndarray]
    died: np.ndarray  # (N,) share of true futures
    died_model: np.ndarray  # (N,) share of drawn futures


def study(
    world: World,
    truth: World,
    size: Size = USUAL,
    quick: bool = False,
    progress: StepInputs = lambda n: None,
    risk: Any = None,
    draw: questions.Draw | None = None,
) -> dict[str, Any]:
    """The study's document."""
    risk = risk or RiskModel.load()
    queries = questions.joined(
        [numbered(questions.transitions(truth, size.patients, s, draw=draw), s) for s in size.seeds]
    )
    j, n_other = (QUICK_FUTURES, 3 * SMALL.patients) if quick else (FUTURES, REFERENCE)
    other = questions.transitions(truth, n_other, 0, "validation", draw=draw)
    results = changes(world, truth, queries, other, size.samples, j, risk, progress)
    threshold = noise_threshold(results.watched)
    paper = read_yaml(PAPER)["delta_risk"]
    return result.document(
        "delta-risk",
        world,
        len(np.unique(queries.patient)),
        size.seeds,
        metrics(results, threshold),
        rows(results, threshold),
        samples=size.samples,
        true_futures=j,
        n_questions=len(queries),
        threshold=threshold,
        noise_rule=f"above {NOISE:.0%} of the absolute changes of the same hearts under placebo",
        n_not_noise=int((np.abs(results.true) > threshold).sum()),
        deaths={"true": float(results.died.mean()), "model": float(results.died_model.mean())},
        paper=paper,
    )


def answers_of(size: Size, quick: bool = False) -> int:
    """About how many questions are answered, for a progress bar."""
    return 7 * size.patients * len(size.seeds) + (3 * SMALL.patients if quick else REFERENCE)


def changes(
    world: World, truth: World, queries: Questions, other: Questions, k: int, j: int, risk: Any,
    progress: StepInputs = lambda n: None,
) -> Changes:  # fmt: skip
    """Everybody's changes of risk; ``other`` patients are those that the treatment means come from."""
    look, own, watched = judge_by(risk), questions.judged_in(world, risk), queries.placebo
    start = questions.risk_before(risk, queries.start)
    rows = observe_first(world, queries)
    seen_start = questions.risk_before(risk, rows, world)
    real = futures(truth, queries.start, queries, j, look, stream="true", progress=progress)
    real_watched = futures(truth, queries.start, watched, j, look, stream="true", progress=progress)
    model = futures(world, rows, queries, k, own, progress=progress)
    model_watched = futures(world, rows, watched, k, own, progress=progress)
    permuted = wrong_treatments(queries)
    wrong = futures(world, rows, permuted, max(2, k // 2), own, progress=progress)
    again = futures(truth, queries.start, queries, min(j, k), look, stream="again", progress=progress)
    lost = questions.futures_of_other_patients(truth, queries, min(j, k), look, progress=progress)
    predicted = {
        "model": mean_known(model["risk"]) - seen_start,
        NULL: mean_known(model_watched["risk"]) - seen_start,
        "no change": np.zeros(len(queries)),
        "wrong drug": mean_known(wrong["risk"]) - seen_start,
        "truth again": again["risk"].mean(axis=0) - start,
        "EPK alone, limits": epk_limits(queries),
        **_regression(truth, queries, other, start, risk, look, progress),
    }
    if lost is not None:
        predicted["strangers"] = lost["risk"].mean(axis=0) - start
    return Changes(
        queries,
        real["risk"].mean(axis=0) - start,
        real_watched["risk"].mean(axis=0) - start,
        predicted[NULL],
        predicted,
        1 - real["alive"].mean(axis=0),
        1 - model["alive"].mean(axis=0),
    )


def wrong_treatments(queries: Questions) -> Questions:
    """The same patients, each given what another one was given for as long, of other drugs where there are any."""
    treatments = list(queries.treatments)
    for hours in np.unique(queries.dt_hours):
        mine = np.flatnonzero(queries.dt_hours == hours)
        for place, i in enumerate(mine):
            own = {dose.drug for dose in queries.treatments[i].doses}
            others = [queries.treatments[mine[(place + step) % len(mine)]] for step in range(1, len(mine))]
            treatments[i] = next(
                (t for t in others if own.isdisjoint(d.drug for d in t.doses) and t != treatments[i]), treatments[i]
            )
    return queries.with_treatments(treatments, "wrong drug")


def _regression(
    truth: World,
    queries: Questions,
    other: Questions,
    start: np.ndarray,
    risk: Any,
    look: questions.Look,
    progress: StepInputs,
) -> dict[str, np.ndarray]:
    """What the changes of other patients say: by the risk before alone, and by the treatment."""
    theirs = futures(truth, other.start, other, 1, look, stream="true", progress=progress)["risk"][0]
    their_start = questions.risk_before(risk, other.start)
    happened = theirs - their_start
    slope, level = np.polyfit(their_start, happened, 1) if np.ptp(their_start) > 1e-9 else (0.0, happened.mean())
    return {
        "before alone": level + slope * start,
        "treatment mean": treatment_mean(other.treatments, happened, queries.treatments)[0],
    }


def epk_limits(queries: Questions) -> np.ndarray:
    """Change of the limits' share of the risk ``(N,)`` that population pharmacology expects: no network, no strip."""
    before = measure_strips(queries.start.ecg)
    expected = questions.pharmacology_alone(queries)
    rows = []
    for i, values in enumerate(expected):
        row = before.row(i) | dict(zip(INTERVALS, values))
        rr_s = 60 / row["hr_bpm"]
        row["jtpeak_ms"] = row["jtpeakc_ms"] * rr_s**JTPEAK_EXPONENT
        rows.append(row)
    after = Intervals.from_rows(rows, before.reason)
    people = queries.start.patients
    return limits.together(limits.interval_terms(before, after, people)) - limits.together(
        limits.interval_terms(before, before, people)
    )


def noise_threshold(watched: np.ndarray, share: float = NOISE) -> float:
    """What ``share`` of the placebo arm's absolute changes ``(N,)`` do not exceed."""
    return float(np.quantile(np.abs(watched), share))


def sign_agreement(true: np.ndarray, predicted: np.ndarray, threshold: float) -> float:
    """Share of true changes beyond ``threshold`` whose sign was foretold; zero, or nothing, is no answer."""
    counts = np.abs(true) > threshold
    return float((np.sign(predicted[counts]) == np.sign(true[counts])).mean()) if counts.any() else np.nan


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks ``(N,)`` of the finite values, ties shared; NaN stays. Spearman's correlation is Pearson's of ranks."""
    out = np.full(len(values), np.nan)
    ok = np.isfinite(values)
    out[ok] = stats.rankdata(values[ok])
    return out


def metrics(changes: Changes, threshold: float) -> dict[str, Any]:
    """The study's metrics beside everybody's."""
    patients, true = changes.queries.patient, changes.true

    names = ["model", *(name for name in PREDICTORS if name in changes.predicted and name != "model")]
    scores: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "pearson": pearson,
        "spearman": pearson,  # of ranks
        "sign_agreement": lambda t, p: sign_agreement(t, p, threshold),
        "mae": lambda t, p: float(np.nanmean(np.abs(t - p))),
    }

    ranked = {name: ranks(changes.predicted[name]) for name in names}  # once: the interval is that of these ranks
    true_ranks = ranks(true)

    def statistics(rows: np.ndarray) -> list[float]:
        return [
            score(true_ranks[rows], ranked[name][rows])
            if key == "spearman"
            else score(true[rows], changes.predicted[name][rows])
            for key, score in scores.items()
            for name in names
        ]

    flat = iter(estimates(statistics, patients, 200))
    of = {}
    for key in scores:
        each = {name: next(flat) for name in names}
        of[key] = metric(each.pop("model"), baselines=each)
    effect, samples = true - changes.watched, changes.predicted["model"] - changes.watched_model
    corrected = {
        "wrong drug": changes.predicted["wrong drug"] - changes.watched_model,
        "truth again": changes.predicted["truth again"] - changes.watched,
    }

    def of_effect(score: Callable[[np.ndarray, np.ndarray], float]) -> dict[str, Any]:
        beside = {name: _scored(score, effect, values, patients) for name, values in corrected.items()}
        return metric(_scored(score, effect, samples, patients), baselines=beside)

    paper = read_yaml(PAPER)["delta_risk"]
    placebo = estimate(lambda rows: pearson(changes.watched[rows], changes.watched_model[rows]), patients, 500)
    return {
        **{key: row | ({"paper": paper[key]} if key in paper else {}) for key, row in of.items()},
        "pearson_placebo_corrected": of_effect(pearson),
        "spearman_placebo_corrected": of_effect(lambda t, p: pearson(ranks(t), ranks(p))),
        "pearson_in_placebo_arm": metric(placebo),
        "false_alarms_in_placebo_arm": metric(
            estimate(lambda rows: float((np.abs(changes.watched_model[rows]) > threshold).mean()), patients),
            baselines={"truth": float((np.abs(changes.watched) > threshold).mean())},
        ),
    }


def _scored(
    score: Callable[[np.ndarray, np.ndarray], float],
    true: np.ndarray,
    predicted: np.ndarray,
    patients: np.ndarray,
    draws: int = 500,
) -> dict[str, Any]:
    return estimate(lambda rows: score(true[rows], predicted[rows]), patients, draws)


def rows(changes: Changes, threshold: float) -> list[dict[str, Any]]:
    """A row per question."""
    return [
        {
            "patient": int(changes.queries.patient[i]),
            "treatment": str(changes.queries.treatments[i]),
            "hours": float(changes.queries.dt_hours[i]),
            "held_out": bool(changes.queries.held_out[i]),
            "true": changes.true[i],
            "not_noise": bool(abs(changes.true[i]) > threshold),
            "true_placebo": changes.watched[i],
            "died": changes.died[i],
            **{name: changes.predicted[name][i] for name in PREDICTORS if name in changes.predicted},
        }
        for i in range(len(changes.queries))
    ]


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per predictor for people; the questions are in the CSV."""
    metrics_ = document["metrics"]
    names = ["model", *metrics_["pearson"]["baselines"]]
    lines = []
    for name in names:
        line: dict[str, Any] = {"predictor": name}
        for key in ("pearson", "spearman", "sign_agreement", "mae"):
            row = metrics_[key]
            line[key] = row["value"] if name == "model" else row["baselines"][name]
        lines.append(line)
    paper = document["settings"]["paper"]
    return [*lines, {"predictor": "(the paper, of its own classifier)", **{k: paper[k] for k in list(paper)}}]


def figure(document: Mapping[str, Any]) -> Figure:
    """Predicted against true change, the placebo arm beside it, and the three scores with their rivals."""
    from matplotlib.figure import Figure

    samples = Figure(figsize=(14, 5), layout="constrained")
    left, middle, right = samples.subplots(1, 3)
    threshold, table = document["settings"]["threshold"], document["rows"]
    reach = 0.05 + max(abs(row[key] or 0) for row in table for key in ("true", "true_placebo", "model", NULL))
    for ax, true, predicted, title in (
        (left, "true", "model", "treated"),
        (middle, "true_placebo", NULL, "the same people, watched"),
    ):
        for clear, colour in ((False, "lightgray"), (True, "tab:red")):
            points = [(row[true], row[predicted]) for row in table if (abs(row[true]) > threshold) == clear]
            if points:
                ax.scatter(*zip(*points), s=10, color=colour, alpha=0.8, label="not noise" if clear else "noise")
        ends = np.array([-reach, reach])
        ax.plot(ends, ends, color="black", lw=0.8)
        ax.axvspan(-threshold, threshold, color="black", alpha=0.06, lw=0)
        ax.axhline(0, color="black", lw=0.4)
        ax.set(xlim=ends, ylim=ends, xlabel="true change of risk", ylabel="predicted", title=title)
        ax.legend(fontsize=8, loc="upper left")
    names = ["model", *document["metrics"]["pearson"]["baselines"]][::-1]
    place = np.arange(len(names))
    for shift, key, colour in (
        (0.25, "pearson", "tab:red"),
        (0, "spearman", "tab:orange"),
        (-0.25, "sign_agreement", "gray"),
    ):
        row = document["metrics"][key]
        values = [row["value"] if name == "model" else row["baselines"][name] for name in names]
        right.barh(place + shift, [v or 0 for v in values], height=0.25, color=colour, label=key.replace("_", " "))
        right.axvline(row["paper"], color=colour, ls=":", lw=1)
    right.set_yticks(place, names, fontsize=8)
    right.set_title("dotted: the paper's, of another truth", fontsize=9)
    right.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)
    return samples
