"""How many fits each agent needs until it is within 5 % of the exhaustive best, on a table of fits of held-out hearts.

A fit counts by its effort (a quarter of the iterations counts a quarter). What an agent chooses is judged by the mean
absolute error of u on a pacing protocol that neither the fit nor the agent has seen. Baselines: random order, which
needs half the table, and the exhaustive search, which needs the order of the catalogue.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.evaluation.result import document, estimate, metric
from training.leads import searches
from training.leads.agents import Choose, greedy_agent, random_agent, run_agent
from training.leads.env import DiscoveryEnv
from training.leads.make_table import TEST_SEEDS
from training.leads.searches import MakeSearch, Run, run
from training.leads.structure import SMALL, Space
from training.leads.table import Case, TableEvaluator, read_table

NEAR = 1.05  # times the validation error of the exhaustive best
BUDGET = 48.0  # fits, more than any table has of the usual effort
SEARCHES: dict[str, MakeSearch] = {
    "exhaustive": searches.exhaustive,
    "random order": searches.random_order,
    "beam": searches.beam,
    "evolution": searches.evolution,
    "bandit": searches.factor_bandit,
}
POLICIES: dict[str, Choose] = {"random edits": random_agent, "greedy": greedy_agent}


@dataclass(frozen=True)
class Trial:
    """One agent on one heart."""

    agent: str
    heart: str
    seed: int
    fits: float  # until within NEAR of the exhaustive best; infinite if never
    fits_in_all: float  # altogether
    right: bool  # whether the chosen reaction is the truth
    mae: float  # of u, held out, of what was chosen
    best_mae: float  # of the exhaustive best


def trials(
    cases: Sequence[Case],
    policies: dict[str, Choose],
    seeds: Iterable[int] = range(10),
    space: Space = SMALL,
    progress: Callable[[], None] | None = None,
) -> list[Trial]:
    """Every agent on every heart with every seed."""
    out: list[Trial] = []
    for number, case in enumerate(cases):
        shared = Table(case, space)
        for seed in seeds:
            for name, make in SEARCHES.items():
                done = run(
                    shared.only(make(shared.space, np.random.default_rng([seed, number]))), shared.evaluator, BUDGET
                )
                out.append(shared.trial(name, seed, done))
            for name, choose in policies.items():
                env = DiscoveryEnv(cases=[case], budget=int(BUDGET), space=space)
                out.append(shared.trial(name, seed, run_agent(env, choose, np.random.default_rng([seed, number]), 0)))
            if progress:
                progress()
    return out


class Table:
    """One heart: its best and what is within reach."""

    def __init__(self, case: Case, space: Space) -> None:
        self.case, self.evaluator = case, TableEvaluator(case)
        usual = [c for c in case.outcomes if c.effort == space.usual_effort]
        levels = [e for e in space.efforts if all(replace(c, effort=e) in case.outcomes for c in usual)]
        self.space = replace(space, efforts=tuple(levels))  # of efforts that the table has for every structure
        self.best = case.best(usual)
        self.goal = NEAR * case.outcomes[self.best].validation_error

    def only(self, search: searches.Search) -> searches.Search:
        """The search without the candidates that the table lacks: they are answered as diverged, and cost nothing."""
        from training.leads.outcome import Outcome

        try:
            candidate = next(search)
            while True:
                if self.evaluator.available(candidate):
                    outcome = yield candidate
                else:
                    outcome = Outcome(1.0, 1.0, False, 1, 0.0, 0.0, {})
                candidate = search.send(outcome)
        except StopIteration:
            return

    def trial(self, agent: str, seed: int, done: Run) -> Trial:
        """What the run came to."""
        best = done.best[0] if done.best else None
        mae = self.case.held_out_mae[best] if best else math.nan
        right = best is not None and best.spec.reaction == self.case.truth
        near = done.cost_until(self.goal)
        return Trial(agent, self.case.name, seed, near, done.cost, right, mae, self.case.held_out_mae[self.best])


def study(
    ppo_steps: int | None = None, seeds: int = 10, progress: Callable[[], None] | None = None, **more: Choose
) -> dict[str, Any]:
    """The document; ``ppo_steps`` None leaves MaskablePPO out; ``more`` are other agents by name."""
    cases = read_table()
    train = [case for case in cases if case.seed not in TEST_SEEDS]
    test = [case for case in cases if case.seed in TEST_SEEDS]
    policies = {**POLICIES, **more}
    settings: dict[str, Any] = {"near": NEAR, "hearts": len(test), "candidates": len(cases[0].outcomes)}
    if ppo_steps:
        from training.leads.ppo import train_ppo

        began = time.process_time()
        policies["MaskablePPO"] = train_ppo(train, steps=ppo_steps)
        settings |= {
            "ppo_steps": ppo_steps,
            "ppo_cpu_s": round(time.process_time() - began, 1),
            "ppo_hearts": len(train),
        }
    done = trials(test, policies, range(seeds), progress=progress)
    rows = summary(done)
    baseline = {row["agent"]: row["fits"] for row in rows}
    metrics = {
        f"fits_{row['agent'].replace(' ', '_')}": metric(
            row["fits"], row["ci95"], {"random order": baseline["random order"]}
        )
        for row in rows
    }
    return document("leads-agents", SMALL, len(test), range(seeds), metrics, rows, **settings)


def summary(done: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row for each agent: mean fits until near the best (a run that never comes near counts all it spent, and is
    counted in ``reached``), the share of right reactions, and the held-out error of its choice over the best's."""
    rows = []
    for agent in dict.fromkeys(trial.agent for trial in done):
        mine = [trial for trial in done if trial.agent == agent]
        fits = np.array([min(trial.fits, trial.fits_in_all) for trial in mine])
        hearts = np.array([trial.heart for trial in mine])
        interval = estimate(lambda index, fits=fits: float(fits[index].mean()), hearts)  # type: ignore[misc]
        rows.append(
            {
                "agent": agent,
                "fits": interval["value"],
                "ci95": interval["ci95"],
                "reached": float(np.mean([math.isfinite(trial.fits) for trial in mine])),
                "spent": float(np.mean([trial.fits_in_all for trial in mine])),
                "right_reaction": float(np.mean([trial.right for trial in mine])),
                "mae": float(np.nanmean([trial.mae for trial in mine])),
                "mae_over_best": float(np.nanmean([trial.mae / trial.best_mae for trial in mine])),
                "n": len(mine),
            }
        )
    return rows
