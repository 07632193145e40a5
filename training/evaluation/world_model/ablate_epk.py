"""Does the physiological prior (EPK) help? Each set of weights at EPK x 0, x 0.25 and x 1 of its inference-time scale.

On the questions of ``study calibration``, for every variant: CRPS of interval changes, spread of the samples (over the
true conditional spread, and over their own error), and how well the condition is followed: correlation and slope of the
drawn mean change against what population pharmacology expects, beside those of the truth itself (1 would be a model
that repeats its condition; the truth is not 1, because people differ).

``rendered_*`` is how far the strips are from what the model ordered before it drew them (mean absolute difference of
ordered and measured intervals): what the anchor is for. It is absent for weights without a prognosis.

Give ``--model`` several times to set weights that were trained with other priors beside each other (no EPK, lead II
with a learned projection, all leads through the codec, the paper's recipe). Switching EPK off at inference is no
substitute for training without it: the first shows whether it is used, the second whether it is needed.

Corresponds to the paper's Figure 4 and Table 6, whose rows differ by less than their own repetitions elsewhere in the
paper (lambda = 0 there, "w/o EPK" in Figure 4 and Table 8 disagree), and to "EPK x 0.25" of its Figure 9. Its errors
are of other latents and of unaligned beats; ours are intervals. Not comparable in number, only in kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.powers import weights_hash
from training.evaluation import questions, result
from training.evaluation.questions import (
    INTERVALS,
    SHORT,
    Questions,
    both,
    fair_crps,
    futures,
    mean_known,
    measure_step,
    observe_first,
)
from training.evaluation.result import Size, estimate, estimate_mean, estimate_ratio, metric
from training.evaluation.world_model.calibration import baselines, numbered, variance_of
from training.evaluation.world_model.intervals import pearson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=160, samples=8), Size(patients=20, samples=4)
SCALES = (0.0, 0.25, 1.0)
FUTURES = 4  # true futures of one heart, and strangers'
REFERENCE = 320
JUDGED = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")

StepInputs = Callable[[int], None]


def study(
    worlds: Mapping[str, World],
    truth: World,
    size: Size = USUAL,
    quick: bool = False,
    progress: StepInputs = lambda n: None,
    draw: questions.Draw | None = None,
) -> dict[str, Any]:
    """The study's document. ``worlds`` by name, each with a knob ``epk_scale``; the first at x 1 gives the values."""
    queries = questions.joined(
        [numbered(questions.transitions(truth, size.patients, s, draw=draw), s) for s in size.seeds]
    )
    other = questions.transitions(truth, 3 * SMALL.patients if quick else REFERENCE, 0, "validation", draw=draw)
    pre = questions.intervals_of(queries.start.ecg)
    true = (
        futures(truth, queries.start, queries, FUTURES, measure_step, stream="true", progress=progress)["intervals"]
        - pre
    )
    lost = questions.futures_of_other_patients(truth, queries, FUTURES, measure_step, progress=progress)
    strange = None if lost is None else lost["intervals"] - pre
    expected = questions.pharmacology_alone(queries) - pre
    scores = {}
    for name, world in variants(worlds).items():
        look = both(measure_step, questions.ordered) if questions.draws_intervals_first(world) else measure_step
        samples = futures(world, observe_first(world, queries), queries, size.samples, look, progress=progress)
        scores[name] = score(samples["intervals"] - pre, true, strange, expected, queries)
        if "asked" in samples:
            scores[name] |= rendered(samples["intervals"], samples["asked"], queries)
    rivals = {
        who: {f"crps_{SHORT[q]}": estimate_mean(_crps(by[q], true[..., i]), queries.patient, 300)}
        for who, by in baselines(truth, queries, other, None, progress).items()
        for q, i in [("qtcf_ms", INTERVALS.index("qtcf_ms"))]
    }
    truth_follows = follows(mean_known(true), expected, queries)
    first = list(scores)[len(SCALES) - 1]
    metrics = {}
    for key, own in scores[first].items():
        beside = {name: by[key] for name, by in scores.items() if name != first and key in by}
        beside |= {who: by[key] for who, by in rivals.items() if key in by}
        beside |= {"truth": truth_follows[key]} if key in truth_follows else {}
        metrics[key] = metric(own, baselines=beside)
    return result.document(
        "ablate-epk",
        worlds[next(iter(worlds))],
        len(np.unique(queries.patient)),
        size.seeds,
        metrics,
        [{"variant": name, **{key: own["value"] for key, own in by.items()}} for name, by in scores.items()],
        samples=size.samples,
        n_questions=len(queries),
        value_is_of=first,
        models={name: weights_hash(world) for name, world in worlds.items()},
    )


def answers_of(size: Size, quick: bool = False, models: int = 1) -> int:
    """About how many questions are answered, for a progress bar."""
    queries = size.patients * len(size.seeds)
    return (2 + len(SCALES) * models) * queries + (3 * SMALL.patients if quick else REFERENCE)


def variants(worlds: Mapping[str, World]) -> dict[str, World]:
    """Every world at every scale, in order; the scales of one world lie together."""
    return {
        f"{name}, EPK x {scale:g}" if len(worlds) > 1 else f"EPK x {scale:g}": replace(world, epk_scale=scale)  # type: ignore[type-var]
        for name, world in worlds.items()
        for scale in SCALES
    }


def score(
    samples: np.ndarray, true: np.ndarray, strange: np.ndarray | None, expected: np.ndarray, queries: Questions
) -> dict[str, dict[str, Any]]:
    """Scores of one variant's changes ``(K, N, 6)`` against true ones ``(J, N, 6)``, each ``{value, ci95}``."""
    results: dict[str, dict[str, Any]] = {}
    fresh = np.array([not doses for doses in queries.start.doses])
    for name in JUDGED:
        i, short = INTERVALS.index(name), SHORT[name]
        sample, real = samples[..., i], true[..., i]
        results[f"crps_{short}"] = estimate_mean(_crps(sample, real), queries.patient, 300)
        variance = variance_of(sample)
        if strange is not None and fresh.any():
            total = np.where(fresh, variance_of(strange[..., i]), np.nan)
            results[f"spread_ratio_{short}"] = estimate_ratio(variance, total, queries.patient, root=True)
        error = mean_known((mean_known(sample) - real) ** 2, least=0.0)
        results[f"spread_skill_{short}"] = estimate_ratio(
            variance * (1 + 1 / len(sample)), error, queries.patient, root=True
        )
    return results | follows(mean_known(samples), expected, queries)


def rendered(got: np.ndarray, targets: np.ndarray, queries: Questions) -> dict[str, dict[str, Any]]:
    """Mean absolute difference of intervals measured on strips and ordered for them, ``(K, N, 6)`` both."""
    return {
        f"rendered_{SHORT[name]}": estimate_mean(
            mean_known(np.abs(got - targets)[..., INTERVALS.index(name)], least=0.0), queries.patient
        )
        for name in JUDGED
    }


def follows(change: np.ndarray, expected: np.ndarray, queries: Questions) -> dict[str, dict[str, Any]]:
    """Correlation and slope of changes ``(N, 6)`` against those that population pharmacology expects."""
    results: dict[str, dict[str, Any]] = {}
    for name in ("hr_bpm", "qtcf_ms"):
        i = INTERVALS.index(name)
        got, targets = change[:, i], expected[:, i]

        def correlation(rows: np.ndarray, got: np.ndarray = got, targets: np.ndarray = targets) -> float:
            return pearson(targets[rows], got[rows])

        def slope(rows: np.ndarray, got: np.ndarray = got, targets: np.ndarray = targets) -> float:
            x, y = targets[rows], got[rows]
            ok = np.isfinite(x) & np.isfinite(y)
            return float(np.polyfit(x[ok], y[ok], 1)[0]) if ok.sum() > 2 and np.ptp(x[ok]) > 1e-9 else np.nan

        results[f"follows_{SHORT[name]}_correlation"] = estimate(correlation, queries.patient, 300)
        results[f"follows_{SHORT[name]}_slope"] = estimate(slope, queries.patient, 300)
    return results


def _crps(samples: np.ndarray, true: np.ndarray) -> np.ndarray:
    return mean_known(np.stack([fair_crps(samples, t) for t in true]), least=0.0)


def figure(document: Mapping[str, Any]) -> Figure:
    """CRPS, spread and following of every variant side by side."""
    from matplotlib.figure import Figure

    keys = [
        key
        for key in ("crps_hr", "crps_pr", "crps_qrs", "crps_qtcf", "spread_ratio_qtcf", "follows_qtcf_correlation",
                    "rendered_qrs", "rendered_qtcf")
        if key in document["metrics"]
    ]  # fmt: skip
    samples = Figure(figsize=(15, 7), layout="constrained")
    axes = samples.subplots(2, 4).ravel()
    names = [row["variant"] for row in document["rows"]][::-1]
    for ax, key in zip(axes, keys):
        values = {row["variant"]: row.get(key) for row in document["rows"]}
        beside = {k: v for k, v in document["metrics"][key]["baselines"].items() if k not in values and v is not None}
        who = [*beside, *names]
        heights = [values[w] if w in values else beside[w] for w in who]
        colours = ["tab:red" if w in values else "lightgray" for w in who]
        ax.barh(who, [v or 0 for v in heights], color=colours)
        ax.tick_params(axis="y", labelsize=7)
        if key.startswith("spread"):
            ax.axvspan(0.8, 1.2, color="black", alpha=0.12, lw=0)
        ax.set_title(key.replace("_", " "), fontsize=9)
    for ax in axes[len(keys) :]:
        ax.set_axis_off()
    samples.suptitle(f"EPK at inference: {document['n_patients']} held-out patients")
    return samples
