"""What the weight of uncertainty does: lambda in S = mean risk + lambda x SD, from 0 to 2.

The paper's Figure 5 draws the correlation of predicted and true change of risk against lambda. The change is one of
mean risks (its B.10), which lambda cannot move; it moves decisions. So: how much worse is what the model would take
than what the oracle takes (regret of the true mean risk), how bad is its bad tail (the true 90th percentile), and do
two independent sets of futures take the same? The correlations are listed too: once of the mean, which is constant,
and once of S itself, which is what a figure like the paper's can have shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.rollout import RiskFunction
from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.planning.ranking import (
    SMALL,
    USUAL,
    Decision,
    agreement,
    changes,
    correlation,
    decisions,
    rows_of,
    subsets,
)
from training.evaluation.result import Size, document, estimate, mean_of, metric
from training.evaluation.trajectories import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SMALL", "USUAL", "figure", "rows_of", "study", "summary"]
LAMBDAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
PAPER = 0.6
TAIL = 0.9  # quantile of the true risk after the choice


def study(
    world: World,
    size: Size = USUAL,
    truth: World | None = None,
    risk: RiskFunction | None = None,
    progress: Progress = lambda rows: None,
) -> dict[str, Any]:
    """The study's document; ``risk`` chooses and judges, by default the packaged model."""
    truth = truth or VirtualPatient(dt_hours=world.dt_hours)
    result = decisions(world, truth, size, risk or packaged_risk(), progress=progress)
    patient = np.arange(len(result))
    rows = [_row(result, value, patient) for value in LAMBDAS]
    return document(
        "ablate-lambda", world, len(result), size.seeds, _metrics(result, patient), rows,
        samples=size.samples, candidates=[len(d.treatments) for d in result], scenarios=[d.scenario for d in result],
    )  # fmt: skip


def packaged_risk() -> RiskFunction:
    """Both channels with the packaged weights."""
    from ecg_gym.risk import RiskModel  # torch, only here

    return RiskModel.load()


def _metrics(result: Sequence[Decision], patient: np.ndarray) -> dict[str, Any]:
    regret = {value: np.array([d.regret(d.choice(value)) for d in result]) for value in LAMBDAS}
    beside: dict[str, Any] = {
        "lambda 0": estimate(mean_of(regret[0.0]), patient),
        "watch and wait": estimate(mean_of(np.array([d.regret(0) for d in result])), patient),
        "random": estimate(mean_of(np.array([d.value.mean() - d.value[d.best] for d in result])), patient),
        "oracle": 0.0,
    }
    metrics = {"regret": metric(estimate(mean_of(regret[PAPER]), patient), baselines=beside)}
    metrics["regret_beyond_lambda_0"] = metric(estimate(mean_of(regret[PAPER] - regret[0.0]), patient))
    tail = {v: np.array([np.quantile(d.true[d.choice(v)], TAIL) for d in result]) for v in (0.0, PAPER)}
    metrics["tail_beyond_lambda_0"] = metric(
        estimate(mean_of(tail[PAPER] - tail[0.0]), patient), quantile_of_true_risk=TAIL
    )
    differs = np.array([float(d.choice(PAPER) != d.choice(0.0)) for d in result])
    metrics["decisions_moved"] = metric(estimate(mean_of(differs), patient))
    same = {v: np.array([agreement(d, _halves(d), v)[0] for d in result]) for v in (0.0, PAPER)}
    metrics["same_choice"] = metric(
        estimate(mean_of(same[PAPER]), patient),
        baselines={
            "lambda 0": estimate(mean_of(same[0.0]), patient),
            "random": float(np.mean([1 / len(d.treatments) for d in result])),
        },
    )
    predicted, true, who = changes(result)
    for name, ranks in (("pearson", False), ("spearman", True)):
        metrics[name] = metric(
            estimate(correlation(predicted, true, ranks), who),
            baselines={"S itself": estimate(correlation(changes(result, PAPER)[0], true, ranks), who)},
        )
    return metrics


def _halves(decision: Decision) -> list[np.ndarray]:
    every = decision.risks.shape[1]
    return subsets(every // 2, every)


def _row(result: Sequence[Decision], value: float, patient: np.ndarray) -> dict[str, Any]:
    """One lambda."""
    regret = estimate(mean_of(np.array([d.regret(d.choice(value)) for d in result])), patient)
    stable = np.array([agreement(d, _halves(d), value) for d in result])
    predicted, true, _ = changes(result, value)
    every = np.arange(len(true))
    return {
        "lambda": value,
        "regret": regret["value"],
        "regret_ci95": regret["ci95"],
        "true_risk": float(np.mean([d.value[d.choice(value)] for d in result])),
        "true_tail": float(np.mean([np.quantile(d.true[d.choice(value)], TAIL) for d in result])),
        "moved": float(np.mean([d.choice(value) != d.choice(0.0) for d in result])),
        "same_choice": mean_of(stable[:, 0])(patient),
        "same_order": mean_of(stable[:, 1])(patient),
        "pearson_mean": correlation(changes(result)[0], true)(every),
        "pearson_S": correlation(predicted, true)(every),
        "spearman_S": correlation(predicted, true, ranks=True)(every),
        "sign_S": float((np.sign(predicted) == np.sign(true)).mean()),
    }


def summary(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All rows."""
    return list(result["rows"])


def figure(result: Mapping[str, Any]) -> Figure:
    """Regret, stability and correlation against lambda."""
    import matplotlib.pyplot as plt

    samples, panels = plt.subplots(1, 3, figsize=(12, 3.6))
    rows = result["rows"]
    x = [row["lambda"] for row in rows]

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)

    panels[0].plot(x, column("regret"), "o-", label="what the model takes")
    if all(row["regret_ci95"] for row in rows):
        panels[0].fill_between(x, *np.array([row["regret_ci95"] for row in rows]).T, alpha=0.2)
    for name, line in (("watch and wait", ":"), ("random", "--")):
        panels[0].axhline(result["metrics"]["regret"]["baselines"][name], color="k", ls=line, lw=0.8, label=name)
    panels[0].set(title="true mean risk above the oracle's", ylim=(0, None))
    panels[1].plot(x, column("same_choice"), "o-", label="same choice")
    panels[1].plot(x, column("same_order"), "s-", label="rank correlation")
    panels[1].plot(x, column("moved"), "^-", label="decisions moved from lambda 0")
    panels[1].set(title="two halves of the futures", ylim=(0, 1.02))
    panels[2].plot(x, column("pearson_mean"), "o-", label="of the mean (constant)")
    panels[2].plot(x, column("pearson_S"), "s-", label="of S")
    panels[2].set(title="correlation with the true change of risk")
    for axes in panels:
        axes.set_xlabel("lambda")
        axes.axvline(PAPER, color="C7", lw=0.6)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    samples.tight_layout()
    plt.close(samples)
    return samples
