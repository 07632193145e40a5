"""What the history of strips is worth: the same question asked from the last strip alone, from all, and by particles.

Virtual people are given three random allowed treatments, an hour apart, and seen after each. Then several are asked
about. Error: predicted mean of the next rate and QTcF against the truth's (the same heart, many times). Regret:
true mean risk of what would be chosen above that of the best of those asked about. Everybody answers with the same
number of futures under the same seeds; only what they start from differs.

    python -m training.evaluation.planning.belief [--patients 40] [--tier clean] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import WATCH, World
from ecg_gym.envs.scenarios import load_scenarios
from ecg_gym.powers import weights_hash
from planners.belief import Belief
from planners.history import chart_of
from planners.rollout import Futures, common_seeds, futures
from planners.scoring import score
from training.evaluation.result import estimate_mean, metric

HOWS = ("last", "history", "particles")
INTERVALS = ("hr_bpm", "qtcf_ms")
STEPS, TARGET_INTERVALS, K, JUDGES, PARTICLES = 3, 4, 8, 12, 16
PAPER = 0.6  # lambda


def study(
    world: World,
    patients: int = 40,
    tier: str = "clean",
    seed: int = 0,
    risk: str = "limits",
    scenarios: Sequence[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The study's document."""
    names = list(scenarios) or list(load_scenarios())
    rows: list[dict[str, Any]] = []
    for person in range(patients):
        rows += _ask(world, names[person % len(names)], tier, risk, [seed, person], person)
        progress()
    who = np.array([row["patient"] for row in rows])
    metrics = {}
    for measure in ("hr_bpm_error", "qtcf_ms_error", "regret"):
        column = {how: np.array([row[f"{measure}_{how}"] for row in rows]) for how in HOWS}
        finite = np.all([np.isfinite(values) for values in column.values()], axis=0)
        column = {how: np.where(finite, values, np.nan) for how, values in column.items()}
        record = {how: estimate_mean(values, who) for how, values in column.items()}
        for how in HOWS[1:]:
            record[f"{how} less last"] = estimate_mean(column[how] - column["last"], who)
        metrics[measure] = metric(record.pop("history"), baselines=record)
        better = {how: _nearer(column[how], column["last"]) for how in HOWS[1:]}
        nearer = {how: estimate_mean(values, who) for how, values in better.items()}
        metrics[f"{measure}_lower_than_last"] = metric(nearer.pop("history"), baselines=nearer)
    return {
        "study": "belief",
        "tier": tier,
        "model_sha256": weights_hash(world),
        "n_patients": len(set(who.tolist())),
        "n_questions": len(rows),
        "futures": K,
        "particles": PARTICLES,
        "ess": float(np.mean([row["ess"] for row in rows])),
        "seeds": [seed],
        "metrics": metrics,
        "rows": rows,
    }


def _ask(world: World, scenario: str, tier: str, risk: str, seed: list[int], person: int) -> list[dict[str, Any]]:
    """One person: a row per treatment asked about; nothing for those who did not live to be asked."""
    rng = np.random.default_rng([*seed, 11])
    env = gym.make("ECGInterventionOracle-v0", scenario=scenario, tier=tier, risk=risk)
    env.reset(seed=int(rng.integers(2**31)))
    inner: Any = env.unwrapped
    for _ in range(STEPS):
        *_, terminated, _, _ = env.step(int(rng.choice(np.flatnonzero(inner.episode.allowed[0]))))
        if terminated:
            return []
    options = [inner.menu[i] for i in np.flatnonzero(inner.episode.allowed[0]) if i]
    picked = [options[i] for i in sorted(rng.permutation(len(options))[: TARGET_INTERVALS - 1])]
    treatments, words = [WATCH, *picked], rng.integers(2**31, size=2)
    truth = _futures(inner.world, inner.state, treatments, int(words[0]), JUDGES, inner)
    row: list[dict[str, Any]] = [{"patient": person, "scenario": scenario, "treatment": str(t)} for t in treatments]
    value = truth.risks.mean(axis=1)
    for how in HOWS:
        believed = Belief(world, how, PARTICLES, int(words[1])).now(chart_of(inner))
        samples = futures(
            world, believed.state, treatments, common_seeds(int(words[1]), K), inner.risk,
            particles=believed.rows(K), first=believed.first, names=INTERVALS,
        )  # fmt: skip
        regret = float(value[int(np.argmin(score(samples.risks, PAPER)))] - value.min())
        for i in range(len(treatments)):
            row[i][f"regret_{how}"] = regret
            for name in INTERVALS:
                row[i][f"{name}_error_{how}"] = _error(samples.intervals[name][i], truth.intervals[name][i])
            row[i]["ess"] = believed.ess  # of the last of HOWS, the particles
    return row


def _futures(world: World, state: Any, treatments: Sequence[Any], seed: int, k: int, env: Any) -> Futures:
    seeds = common_seeds(seed, k)
    return futures(world, state, treatments, seeds, env.risk, first=env.episode.first, names=INTERVALS)


def _nearer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 where ``a`` is lower, 1/2 where they are equal, 0 elsewhere; for means with long tails."""
    return np.where(np.isfinite(a) & np.isfinite(b), (a < b) + 0.5 * (a == b), np.nan)


def _error(samples: np.ndarray, true: np.ndarray) -> float:
    """Absolute error of the mean; NaN where fewer than half could be measured on either side."""
    if min(np.isfinite(samples).mean(), np.isfinite(true).mean()) < 0.5:
        return float("nan")
    return abs(float(np.nanmean(samples) - np.nanmean(true)))


def main() -> None:
    """The study from the command line."""
    from ecg_gym.world_model import WorldModel

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--tier", default="clean")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    row = parser.parse_args()
    document = study(WorldModel.load(), row.patients, row.tier, row.seed)
    if row.json:
        print(json.dumps(document, indent=2))
        return
    print(
        f"{document['n_patients']} people, {document['n_questions']} questions, "
        f"tier {row.tier}, ESS {document['ess']:.1f}"
    )
    for name, one in document["metrics"].items():
        print(f"{name:14s} {'history':20s} {_cell(one['value'], one['ci95'])}")
        for other, value in one["baselines"].items():
            print(f"{'':14s} {other:20s} {_cell(value, one['baselines_ci95'].get(other))}")


def _cell(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")


if __name__ == "__main__":
    main()
