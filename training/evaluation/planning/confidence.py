"""How sure a decision is, and what that is worth: adaptive sampling against equal shares, and the selective-risk curve.

Decisions of virtual people are drawn once (``ranking.decisions``): futures of every candidate in the learned world, and
two independent sets in the virtual patient that judge. Then

- equal shares of a budget and a race for it choose from the same futures: how often each agrees with the choice of all
  futures, its true regret, and what it spent;
- decisions are ordered by how sure they look, and the mean true regret of those that are still made is drawn against
  their share. Deferring means watching: what is not made has the regret of watching, which is listed beside.

    python -m training.evaluation.planning.confidence [--patients 16] [--samples 32] [--out FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.io import atomic_write, write_text
from ecg_gym.powers import weights_hash
from ecg_gym.rollout import RiskFunction
from ecg_gym.virtual_patient import VirtualPatient
from planners.abstention import SelectiveRisk, selective_risk
from planners.measures import MeanVariance
from planners.racing import Race, uniform
from planners.scoring import lower, mean_and_sd, paired_bootstrap, score, separation
from training.evaluation.planning.ranking import Decision, decisions
from training.evaluation.result import Size, estimate_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAMBDA = 0.6
USUAL = Size(patients=16, samples=32)
SHARES = (4, 8, 16)  # futures each that a budget would pay for in equal shares
FEW = 8  # futures behind the decisions of the curve: what a planner usually has
SURENESS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {  # (risks, draws, choice) -> how sure
    "P(best)": lambda risks, draws, c: separation(draws, c),
    "P(better than watching)": lambda risks, draws, c: lower(draws[c], draws[0]),
    "low spread": lambda risks, draws, c: -float(mean_and_sd(risks[c])[1]),
    "gap to the second": lambda risks, draws, c: float(np.sort(score(risks, LAMBDA))[1] - score(risks, LAMBDA)[c]),
}


def study(
    world: World,
    size: Size = USUAL,
    truth: World | None = None,
    risk: RiskFunction | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """The study's document; ``risk`` chooses and judges, by default the interval limits."""
    from ecg_gym.risk import RiskModel

    truth = truth or VirtualPatient(dt_hours=world.dt_hours)
    result = [
        d
        for d in decisions(world, truth, size, risk or RiskModel.limits_only(), progress=progress)
        if len(d.treatments) > 1
    ]
    curves, regret = sureness(result)
    return {
        "study": "confidence",
        "model_sha256": weights_hash(world),
        "n_patients": len(result),
        "futures": size.samples,
        "seeds": list(size.seeds),
        "rows": [row for share in SHARES if 2 * share <= size.samples for row in races(result, share)],
        "curve": {
            name: {
                "coverage": curve.coverage.tolist(),
                "regret": curve.regret.tolist(),
                "area": curve.area,
                "gained": curve.gained,
            }
            for name, curve in curves.items()
        },
        "blind": float(regret.mean()),
        "watching": float(np.mean([d.regret(0) for d in result])),
    }


def races(result: Sequence[Decision], share: int) -> list[dict[str, Any]]:
    """Equal shares and a race for the same budget: agreement with all futures, true regret, futures spent per arm."""
    rows: dict[str, list[tuple[float, float, float]]] = {"equal shares": [], "race": []}
    measure = MeanVariance(LAMBDA)
    for decision in result:
        arms, most = decision.risks.shape
        whole = decision.choice(LAMBDA)
        equal = [score(row[:n], LAMBDA) for row, n in zip(decision.risks, uniform(arms, share * arms))]
        race = Race(arms, measure.score, share * arms, start=min(4, share), batch=2)
        while race.running and race.columns.stop <= most:
            race.tell(decision.risks[np.ix_(race.left, race.columns)])
        for name, choice, cost in (
            ("equal shares", int(np.argmin(equal)), share * arms),
            ("race", race.leader, race.usage),
        ):
            rows[name].append((float(choice == whole), decision.regret(choice), cost / arms))
    who = np.arange(len(result))
    return [
        {
            "budget_per_arm": share,
            "how": name,
            "agrees": estimate_mean(np.array(values)[:, 0], who),
            "regret": estimate_mean(np.array(values)[:, 1], who),
            "spent_per_arm": float(np.mean(np.array(values)[:, 2])),
        }
        for name, values in rows.items()
    ]


def synthetic(budgets: Sequence[int] = (160, 320, 640), repeats: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Races among eight arms of known means, whose draws share most of their noise: how often the best is found.

    Risks 0.30, 0.33, 0.45 to 0.70; SD of the noise that all share 0.1, of an arm's own 0.08; nothing is indifferent.
    """
    means = np.array([0.30, 0.33, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70])
    rows = []
    for budget in budgets:
        costs: list[float] = []
        right: list[bool] = []
        equal: list[bool] = []
        same: list[bool] = []
        for repeat in range(repeats):
            rng = np.random.default_rng([seed, repeat])
            table = means[:, None] + rng.normal(0, 0.1, budget) + rng.normal(0, 0.08, (len(means), budget))
            race = Race(len(means), MeanVariance(0.0).score, budget, indifference=0.0)
            while race.running:
                race.tell(table[np.ix_(race.left, race.columns)])
            costs.append(race.usage)
            right.append(race.leader == 0)
            for result, draws in ((equal, budget), (same, race.usage)):
                shares = uniform(len(means), draws)
                result.append(int(np.argmin([row[:n].mean() for row, n in zip(table, shares)])) == 0)
        record = {"race": right, "equal shares": equal, "equal shares of what the race spent": same}
        rows.append(
            {"budget": budget, "spent": float(np.mean(costs))} | {k: float(np.mean(v)) for k, v in record.items()}
        )
    return rows


def sureness(result: Sequence[Decision]) -> tuple[dict[str, SelectiveRisk], np.ndarray]:
    """A curve for each way to be sure, and the true regret ``(N,)`` of the decisions; several a person if possible."""
    sure: dict[str, list[float]] = {name: [] for name in SURENESS}
    regret = []
    for i, decision in enumerate(result):
        for start in range(0, decision.risks.shape[1] - FEW + 1, FEW):
            risks = decision.risks[:, start : start + FEW]
            choice, draws = int(score(risks, LAMBDA).argmin()), paired_bootstrap(risks, LAMBDA, i, 500)
            regret.append(decision.regret(choice))
            for name, how in SURENESS.items():
                sure[name].append(how(risks, draws, choice))
    found_regret = np.array(regret)
    return {name: selective_risk(np.array(values), found_regret) for name, values in sure.items()}, found_regret


def figure(document: dict[str, Any]) -> Figure:
    """The curves: mean true regret of the decisions that are still made, against their share."""
    import matplotlib.pyplot as plt

    samples, axes = plt.subplots(figsize=(5.2, 3.8))
    for name, curve in document["curve"].items():
        axes.plot(curve["coverage"], curve["regret"], drawstyle="steps-post", label=name)
    axes.axhline(document["blind"], color="k", lw=0.8, ls=":", label="all decisions")
    axes.set(xlabel="share of decisions made", ylabel="their true regret", xlim=(0, 1), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    samples.tight_layout()
    plt.close(samples)
    return samples


def main() -> None:
    """The study from the command line."""
    from ecg_gym.world_model import WorldModel

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=USUAL.patients)
    parser.add_argument("--samples", type=int, default=USUAL.samples)
    parser.add_argument("--out", type=Path, help="folder of confidence.json and confidence.png")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--synthetic", action="store_true", help="races among arms of known means only; seconds")
    record = parser.parse_args()
    if record.synthetic:
        print("\n".join(map(str, synthetic())))
        return
    document = study(WorldModel.load(), Size(record.patients, record.samples))
    if record.out:
        write_text(record.out / "confidence.json", json.dumps(document, indent=2) + "\n")
        with atomic_write(record.out / "confidence.png") as aside:
            figure(document).savefig(aside, dpi=150, format="png")
    if record.json:
        print(json.dumps(document, indent=2))
        return
    print(
        f"{document['n_patients']} people; mean regret {document['blind']:.4f}, of watching {document['watching']:.4f}"
    )
    for row in document["rows"]:
        agrees, regret = row["agrees"], row["regret"]
        print(
            f"budget {row['budget_per_arm']:2d} per arm, {row['how']:12s} same {agrees['value']:.2f} {agrees['ci95']}, "
            f"regret {regret['value']:.4f} {regret['ci95']} spent {row['spent_per_arm']:.1f}"
        )
    for name, curve in document["curve"].items():
        half = np.interp(0.5, curve["coverage"], curve["regret"])
        print(f"{name:24s} area {curve['area']:.4f}, gained {curve['gained']:.2f}, regret at half {half:.4f}")


if __name__ == "__main__":
    main()
