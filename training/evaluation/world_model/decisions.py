"""Whose word is worth following? People of every scenario, one decision each, judged in the virtual patient.

Every candidate's risk is foretold by what the world says of its futures, by strips it draws of them (on some of the
people: it is slow), by population pharmacology with interval limits, and by a few futures of the truth itself. Whoever
foretells takes the candidate of lowest mean risk; regret is the true mean risk of that one above the oracle's, whose
futures are others than those that judge. Watching and chance stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import State, World
from ecg_gym.powers import Emits
from ecg_gym.risk import RiskModel
from planners.rollout import common_seeds, futures
from training.evaluation import result
from training.evaluation.planning.ranking import Decision, decisions
from training.evaluation.questions import Questions, seen_by
from training.evaluation.result import Size, estimate_mean, metric
from training.evaluation.world_model.delta_risk import epk_limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=200, samples=16), Size(patients=6, samples=8)
JUDGES = 8  # futures of each candidate in the truth to judge by, and as many for the oracle
FEW = 4  # of the oracle's futures that "a few futures of the truth" are
DRAWN = (60, 6)  # people whose futures are drawn too, and futures of each candidate
QUICK_DRAWN = (3, 2)
PHARMACOLOGY = "pharmacology and limits"

Progress = Callable[[int], None]


def answers_of(size: Size, quick: bool = False) -> int:
    """About how many rows are asked of the world, for a progress bar."""
    return 10 * size.patients * size.samples * len(size.seeds)


def study(
    world: World, truth: World, size: Size = USUAL, quick: bool = False, progress: Progress = lambda n: None,
    risk: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document."""
    risk = risk or RiskModel.load()
    people = decisions(world, truth, size, risk, progress=progress, judges=JUDGES)
    regrets: dict[str, np.ndarray] = {
        "model": np.array([d.regret(int(d.risks.mean(axis=1).argmin())) for d in people]),
        PHARMACOLOGY: np.array([d.regret(int(_pharmacology(d, truth).argmin())) for d in people]),
        "watch and wait": np.array([d.regret(0) for d in people]),
        "random": np.array([d.value.mean() - d.value[d.best] for d in people]),
        "a few futures of the truth": np.array([d.regret(int(_few(d).argmin())) for d in people]),
    }
    who = np.arange(len(people))
    metrics = {
        "regret": metric(
            estimate_mean(regrets["model"], who),
            baselines={name: estimate_mean(values, who) for name, values in regrets.items() if name != "model"},
        ),
        "regret_less_pharmacologys": metric(estimate_mean(regrets["model"] - regrets[PHARMACOLOGY], who)),
        "correlation_within_people": metric(estimate_mean(np.array([_within(d) for d in people]), who)),
    }
    some, k = QUICK_DRAWN if quick else DRAWN
    if isinstance(world, Emits) and world.emits and is_dataclass(world):
        drawing: Any = replace(world, fidelity="strip", draws="diffusion")
        from_strips = np.array([d.regret(int(_risks_of_strips(drawing, d, k, risk).argmin())) for d in people[:some]])
        same = np.array([d.regret(int(d.risks[:, :k].mean(axis=1).argmin())) for d in people[:some]])
        metrics["regret_drawn"] = metric(
            estimate_mean(from_strips, who[: len(from_strips)]),
            baselines={"said, as many futures": estimate_mean(same, who[: len(from_strips)])},
        )
        metrics["regret_said_less_drawn"] = metric(estimate_mean(same - from_strips, who[: len(from_strips)]))
    rows = [
        {"person": i, "scenario": d.scenario, "candidates": len(d.treatments),
         **{name: float(values[i]) for name, values in regrets.items()}}
        for i, d in enumerate(people)
    ]  # fmt: skip
    return result.document(
        "decisions", world, len(people), size.seeds, metrics, rows, samples=size.samples, judges=JUDGES, few=FEW,
        drawn_people=some, drawn_futures=k,
    )  # fmt: skip


def _few(decision: Decision) -> np.ndarray:
    """Mean risks ``(C,)`` over a few futures that neither judge nor choose for the oracle."""
    return decision.spare[:, :FEW].mean(axis=1)


def _within(decision: Decision) -> float:
    """Correlation of foretold and true mean risk over a person's candidates; NaN where nothing differs."""
    foretold, true = decision.risks.mean(axis=1), decision.value
    return float(np.corrcoef(foretold, true)[0, 1]) if np.ptp(foretold) > 0 and true.std() > 0.02 else np.nan


def _pharmacology(decision: Decision, truth: World) -> np.ndarray:
    """The limits' share of the risk ``(C,)`` that population pharmacology expects of each candidate."""
    n = len(decision.treatments)
    queries = Questions(
        decision.before.repeat(n),
        decision.treatments,
        np.zeros(n, int),
        np.array([str(t) for t in decision.treatments]),
        np.full(n, float(truth.dt_hours)),
        np.zeros(n, bool),
    )
    return epk_limits(queries)


def _risks_of_strips(world: World, decision: Decision, k: int, risk: Any) -> np.ndarray:
    """Mean risk ``(C,)`` read off strips that the world draws."""
    view: State = seen_by(world, decision.before)
    return futures(world, view, decision.treatments, common_seeds(0, k), risk).risks.mean(axis=1)


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per way of choosing, for people."""
    row = document["metrics"]["regret"]
    lines = [{"who chooses": "model", "regret": row["value"], "ci95": row["ci95"]}]
    intervals = row.get("baselines_ci95", {})
    for name, value in row["baselines"].items():
        lines.append({"who chooses": name, "regret": value, "ci95": intervals.get(name)})
    if "regret_drawn" in document["metrics"]:
        strips = document["metrics"]["regret_drawn"]
        lines.append({"who chooses": "strips drawn (some people)", "regret": strips["value"], "ci95": strips["ci95"]})
    return lines


def figure(document: Mapping[str, Any]) -> Figure:
    """Regret of everybody who chooses, with intervals."""
    from matplotlib.figure import Figure

    lines: Sequence[Mapping[str, Any]] = summary(document)[::-1]
    picture = Figure(figsize=(7, 3.2), layout="constrained")
    ax = picture.subplots()
    values = np.array([line["regret"] for line in lines])
    reach = np.abs(np.array([line["ci95"] or (v, v) for line, v in zip(lines, values)]).T - values)
    ax.barh([line["who chooses"] for line in lines], values, xerr=reach, color="tab:red", alpha=0.7)
    ax.set_xlabel("regret: true mean risk above the oracle's choice")
    return picture
