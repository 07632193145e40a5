"""How many futures: K = 1, 2, 3, 5, 8, 16, 32 for the same decisions, and the paper's Table 7 both ways.

Table 7 lists errors that fall with K without saying whether K strips are averaged before they are compared. The mean
error of single strips does not depend on K; the error of their mean falls as (1 + 1/K) / 2 for futures that are exactly
right, and the mean of K strips is not an ECG. What K is for is the decision: regret, the error of the mean risk, how
well the SD is known, and whether another K futures would choose the same. All K are groups of the same futures,
disjoint, averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.rollout import RiskFunction, advance
from ecg_gym.virtual_patient import VirtualPatient
from planners.scoring import mean_and_sd
from training.evaluation.planning.ablate_lambda import PAPER, packaged_risk
from training.evaluation.planning.ranking import SMALL, USUAL, Decision, agreement, decisions, rows_of, subsets
from training.evaluation.questions import seen_by
from training.evaluation.result import Size, document, estimate, mean_of, metric
from training.evaluation.trajectories import Progress, crowd_of, draws, latent_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SMALL", "USUAL", "figure", "rows_of", "study", "summary"]
KS = (1, 2, 3, 5, 8, 16, 32)
PAPER_K = 3


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
    queries = [k for k in KS if k <= size.samples]
    shape = _table_7(world, truth, result, queries, size)
    rows = [_row(result, k, queries[-1]) | {name: table[k] for name, table in shape.items()} for k in queries]
    patient = np.arange(len(result))
    return document(
        "ablate-k", world, len(result), size.seeds, _metrics(result, queries, patient), rows,
        samples=size.samples, candidates=[len(d.treatments) for d in result], scenarios=[d.scenario for d in result],
    )  # fmt: skip


def _each(decision: Decision, k: int) -> list[Decision]:
    return [decision.of(columns) for columns in subsets(k, decision.risks.shape[1])]


def _regret(decision: Decision, k: int) -> float:
    return float(np.mean([one.regret(one.choice(PAPER)) for one in _each(decision, k)]))


def _risk_error(decision: Decision, k: int) -> float:
    """Mean absolute error of the predicted change of mean risk, over candidates and groups."""
    true = decision.value - decision.true_now
    return float(np.mean([np.abs(one.risks.mean(axis=1) - one.now - true).mean() for one in _each(decision, k)]))


def _same(decision: Decision, k: int) -> tuple[float, float]:
    return agreement(decision, subsets(k, decision.risks.shape[1]), PAPER)


def _metrics(result: Sequence[Decision], counts: Sequence[int], patient: np.ndarray) -> dict[str, Any]:
    most = counts[-1]
    half = [k for k in counts if 2 * k <= most][-1]  # the largest that can be drawn twice
    few = max([k for k in counts if k < half and k <= PAPER_K], default=1)
    regret = {k: np.array([_regret(d, k) for d in result]) for k in (1, few, half, most)}
    error = {k: np.array([_risk_error(d, k) for d in result]) for k in (1, few, most)}
    same = {k: np.array([_same(d, k) for d in result]) for k in (1, few, half)}
    beside: dict[str, Any] = {
        "watch and wait": estimate(mean_of(np.array([d.regret(0) for d in result])), patient),
        "random": estimate(mean_of(np.array([d.value.mean() - d.value[d.best] for d in result])), patient),
        "oracle": 0.0,
    }
    still = np.array([np.abs(d.value - d.true_now).mean() for d in result])
    return {
        f"regret_{half}": metric(
            estimate(mean_of(regret[half]), patient),
            baselines={f"K = {k}": estimate(mean_of(regret[k]), patient) for k in (1, few)} | beside,
        ),
        f"regret_{few}_beyond_{half}": metric(estimate(mean_of(regret[few] - regret[half]), patient)),
        f"delta_risk_mae_{most}": metric(
            estimate(mean_of(error[most]), patient),
            baselines={f"K = {k}": estimate(mean_of(error[k]), patient) for k in (1, few)}
            | {"no change": estimate(mean_of(still), patient)},
        ),
        f"same_choice_{half}": metric(
            estimate(mean_of(same[half][:, 0]), patient),
            baselines={f"K = {k}": estimate(mean_of(same[k][:, 0]), patient) for k in (1, few)}
            | {"random": float(np.mean([1 / len(d.treatments) for d in result]))},
        ),
    }


def _row(result: Sequence[Decision], k: int, most: int) -> dict[str, Any]:
    """One K: decisions, risk and spread."""
    patient = np.arange(len(result))
    regret = estimate(mean_of(np.array([_regret(d, k) for d in result])), patient)
    stable = np.array([_same(d, k) for d in result])
    return {
        "k": k,
        "regret": regret["value"],
        "regret_ci95": regret["ci95"],
        "delta_risk_mae": float(np.mean([_risk_error(d, k) for d in result])),
        "same_choice": mean_of(stable[:, 0])(patient),
        "same_order": mean_of(stable[:, 1])(patient),
        "sd_relative_error": _sd_error(result, k, most),
    }


def _sd_error(result: Sequence[Decision], k: int, most: int) -> float:
    """Root mean square of SD of K over SD of all, less 1; NaN for one future, and where all is what K is."""
    if k < 2 or k == most:
        return np.nan
    off = []
    for decision in result:
        whole = mean_and_sd(decision.risks)[1]
        moves = whole > 1e-4  # risks that never move have no SD to miss
        off += [(mean_and_sd(one.risks)[1][moves] / whole[moves] - 1) ** 2 for one in _each(decision, k)]
    return float(np.sqrt(np.mean(np.concatenate(off)))) if off and any(len(o) for o in off) else np.nan


def _table_7(
    world: World, truth: World, result: Sequence[Decision], counts: Sequence[int], size: Size
) -> dict[str, dict[int, float]]:
    """Squared and absolute errors of the next strip and latent: the mean of K errors, the error of the mean of K."""
    k = counts[-1]
    tables: dict[str, dict[int, list[float]]] = {}
    for i, decision in enumerate(result):
        treatment = decision.treatments[-1]
        later = advance(truth, decision.before, [treatment], draws(("true", i), 1, 1, 7))
        sample = advance(
            world, crowd_of(seen_by(world, decision.before), k), [treatment] * k, draws(("model", i), 1, k, 7)
        )
        pairs = [("signal", sample.ecg.reshape(k, -1), later.ecg.reshape(-1))]
        mine, true = latent_of(sample, world), latent_of(seen_by(world, later), world)
        if mine is not None and true is not None:
            pairs.append(("latent", mine, true[0]))
        for what, samples, real in pairs:
            for many in counts:
                groups = [samples[columns] - real for columns in subsets(many, k)]
                alone = np.mean([(off**2).mean() for off in groups])
                pooled = np.mean([(off.mean(axis=0) ** 2).mean() for off in groups])
                pooled_mae = np.mean([np.abs(off.mean(axis=0)).mean() for off in groups])
                for name, value in (("mse", alone), ("mse_of_mean", pooled), ("mae_of_mean", pooled_mae)):
                    tables.setdefault(f"{what}_{name}", {}).setdefault(many, []).append(float(value))
    return {name: {many: float(np.mean(values)) for many, values in table.items()} for name, table in tables.items()}


def summary(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All rows."""
    return list(result["rows"])


def figure(result: Mapping[str, Any]) -> Figure:
    """Regret, stability and errors against K."""
    import matplotlib.pyplot as plt

    samples, panels = plt.subplots(1, 3, figsize=(12, 3.6))
    rows = result["rows"]
    x = [row["k"] for row in rows]

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)

    panels[0].plot(x, column("regret"), "o-", label="what the model takes")
    if all(row["regret_ci95"] for row in rows):
        panels[0].fill_between(x, *np.array([row["regret_ci95"] for row in rows]).T, alpha=0.2)
    beside = next(m["baselines"] for name, m in result["metrics"].items() if "watch and wait" in m["baselines"])
    for name, line in (("watch and wait", ":"), ("random", "--")):
        panels[0].axhline(beside[name], color="k", ls=line, lw=0.8, label=name)
    panels[0].set(title="true mean risk above the oracle's", ylim=(0, None))
    for name, label in (
        ("same_choice", "same choice"), ("same_order", "rank correlation"), ("sd_relative_error", "error of the SD"),
    ):  # fmt: skip
        panels[1].plot(x, column(name), "o-", label=label)
    panels[1].set(title="another K futures", ylim=(0, 1.02))
    for name, label in (("signal_mse", "mean of K errors"), ("signal_mse_of_mean", "error of the mean of K")):
        panels[2].plot(x, column(name), "o-", label=label)
    panels[2].set(title="squared error of the next strip [mV^2]", ylim=(0, None))
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(k) for k in x])
        axes.set_xlabel("K")
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    samples.tight_layout()
    plt.close(samples)
    return samples
