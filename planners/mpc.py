"""Planners that look several steps ahead: they imagine sequences of treatments and give the first of the best.

    RandomShootingPlanner, CEMPlanner, BeamPlanner    think anew at every decision
    RecedingHorizonPlanner(env, search=...)           begins from what remains of the sequence planned before

A path costs minus the rewards that the env would give it, so one that ends lethally is worse than any that does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import State
from planners.base import PlanInfo, at_hand
from planners.belief import Believed
from planners.model_based import ModelBasedPlanner, steps_left
from planners.pricing import price_of
from planners.rollout import common_seeds
from planners.rollout_tree import Mask, Paths, RolloutTree
from planners.scoring import lower, mean_and_sd, paired_bootstrap, separation
from planners.search import Beam, CrossEntropy, Entries, RandomShooting, Search, ordered

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv

LEADERS = 3  # first treatments that meet again in fresh futures, watching among them


@dataclass(frozen=True)
class Memory:
    """What was planned at the decision before."""

    first: np.ndarray  # the episode's first strip: another one is another episode
    steps: int  # of the episode when it was planned
    warm: Entries  # what that decision began from
    plan: Entries  # what it planned, the treatment given first


class SequencePlanner(ModelBasedPlanner):
    """Searches sequences of ``horizon`` treatments with ``budget`` row-steps of the world per decision.

    ``k`` futures per sequence while searching. ``finish`` is the share of the budget kept for the end, when the best
    sequences of three first treatments (watching among them) meet again in fresh futures; the choice is made on old and
    fresh ones together. ``discount`` weighs later steps less. The horizon never reaches beyond the end of the episode.
    What the belief costs is taken from the budget.
    """

    search: Search

    def __init__(
        self,
        env: Any,
        search: Search,
        *,
        horizon: int = 3,
        k: int = 4,
        budget: int = 400,
        finish: float = 0.3,
        discount: float = 1.0,
        warm: bool = False,
        mask: Mask | None = None,  # the clinical rules at imagined steps; default ecg_gym.pharmacology.action_mask
        **imagining: Any,  # world, risk, measure, risk_aversion, belief, particles, seed: see ImaginingPlanner
    ) -> None:
        super().__init__(env, **imagining)
        if horizon < 1 or k < 1 or not 0 <= finish < 1 or budget * (1 - finish) < horizon * k:
            raise ValueError(
                f"horizon, k, finish, budget are {horizon}, {k}, {finish}, {budget}; expected at least 1, at least 1, "
                "within [0, 1), and a budget whose first part pays for one sequence (horizon x k); ask for less"
            )
        self.search, self.horizon, self.k, self.budget, self.finish = search, horizon, k, budget, finish
        self.discount, self.warm, self.mask = discount, warm, mask
        self._memory: dict[int, Memory] = {}

    def reset(self, seed: int | None = None) -> None:
        """Forget every episode; with a seed, imagine with that one from now on."""
        super().reset(seed)
        self._memory.clear()

    def forget(self, env: ECGInterventionEnv) -> None:
        """Forget what was planned and believed in this env."""
        super().forget(env)
        self._memory.pop(id(env), None)

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The first treatment of the best sequence found."""
        believed = self.believed(env, state)
        horizon = min(self.horizon, steps_left(env))
        least = horizon * self.k  # one sequence is always imagined, even if the belief has used up the budget
        budget = max(self.budget - believed.model_calls, least)
        fresh = min(int(self.finish * budget), budget - least) // (LEADERS * horizon)
        seeds, rows = common_seeds(self.seed, self.k + fresh), believed.rows(self.k + fresh)
        rng = np.random.default_rng([self.seed, int(env.episode.steps[0])])
        warm = self._warm(env, horizon) if self.warm else ()
        purse = budget - LEADERS * horizon * fresh
        searching = self._imagination(env, believed, rows[: self.k], seeds[: self.k], horizon, purse)
        match = self.search(searching, self.measure, rng, warm)
        leaders = leading(match, searching)
        calls, lost = searching.calls, searching.n_nonfinite
        if fresh and len(leaders) > 1:
            again = self._imagination(env, believed, rows[self.k :], seeds[self.k :], horizon, budget - calls)
            more = again.walk([paths.entries for paths in leaders])
            leaders = ordered([joined(old, new) for old, new in zip(leaders, more)], self.measure)
            calls, lost = calls + again.calls, lost + again.n_nonfinite
        best = leaders[0]
        self._memory[id(env)] = Memory(env.episode.first, int(env.episode.steps[0]), warm, best.entries)
        menu = tuple(env.menu[entry] for entry in at_hand(env))
        losses = np.stack([self.measure.losses(paths) for paths in leaders])
        draws = paired_bootstrap(losses, self.measure.score, self.seed)
        watching = [draws[i] for i, paths in enumerate(leaders) if paths.entries[0] == 0]
        return PlanInfo(
            treatment=menu[best.entries[0]],
            model_calls=calls + believed.model_calls,
            n_nonfinite=lost,
            sequence=tuple(menu[entry] for entry in best.entries),
            score=float(self.measure.score(losses[0])),
            separation=separation(draws, 0),
            better=lower(draws[0], watching[0]) if watching else np.nan,
            spread=float(mean_and_sd(best.risks)[1]),
            samples=losses.shape[1],
            refused=best.refused,
            ess=believed.ess,
        )

    def _imagination(
        self,
        env: ECGInterventionEnv,
        believed: Believed,
        rows: State,
        seeds: tuple[int, ...],
        horizon: int,
        budget: int,
    ) -> RolloutTree:
        here, menu = at_hand(env), env.menu
        return RolloutTree(
            self.world_of(env), rows, believed.first, self.risk_of(env), seeds, tuple(menu[entry] for entry in here),
            env.episode.allowed[0][here], horizon, budget, self.discount, price_of(env), mask=self.mask,
        )  # fmt: skip

    def _warm(self, env: ECGInterventionEnv, horizon: int) -> Entries:
        """What remains of the plan before, made long enough by watching; nothing in a new episode or if refused now."""
        memory = self._memory.get(id(env))
        if memory is None or not np.array_equal(memory.first, env.episode.first):
            return ()
        ago = int(env.episode.steps[0]) - memory.steps
        if ago == 0:  # asked twice
            return memory.warm
        rest = (*memory.plan[ago:], *(0,) * horizon)[:horizon] if ago > 0 else ()
        return rest if rest and env.episode.allowed[0][at_hand(env)[rest[0]]] else ()


class RandomShootingPlanner(SequencePlanner):
    """The best of many random sequences."""

    def __init__(self, env: Any, *, n: int = 256, watch: float = 0.5, **how: Any) -> None:
        super().__init__(env, RandomShooting(n, watch), **how)


class CEMPlanner(SequencePlanner):
    """The best sequence of a categorical cross-entropy search."""

    def __init__(self, env: Any, *, population: int = 32, elite: float = 0.25, rounds: int = 12, **how: Any) -> None:
        super().__init__(env, CrossEntropy(population, elite, rounds), **how)


class BeamPlanner(SequencePlanner):
    """The best sequence of a beam search."""

    def __init__(self, env: Any, *, width: int = 6, **how: Any) -> None:
        super().__init__(env, Beam(width), **how)


class RecedingHorizonPlanner(SequencePlanner):
    """Gives the first treatment of a sequence and begins the next search from the rest of it."""

    def __init__(self, env: Any, search: Search | None = None, **how: Any) -> None:
        super().__init__(env, CrossEntropy() if search is None else search, **{"warm": True, **how})


def leading(result: list[Paths], imagination: RolloutTree) -> list[Paths]:
    """The best sequence of each of the best first treatments, and of watching first, if that can still be paid for."""
    best: dict[int, Paths] = {}
    for paths in result:
        best.setdefault(paths.entries[0], paths)
    if 0 not in best and (idle := imagination.affordable([(0,) * imagination.horizon])):
        best[0] = imagination.walk(idle)[0]
    first = list(best.values())[:LEADERS]
    return first if 0 not in best or any(paths is best[0] for paths in first) else [*first[: LEADERS - 1], best[0]]


def joined(old: Paths, new: Paths) -> Paths:
    """One sequence in more futures."""
    return Paths(
        old.entries,
        np.concatenate([old.risks, new.risks]),
        np.concatenate([old.lost, new.lost]),
        np.concatenate([old.finite, new.finite]),
        {name: np.concatenate([values, new.peaks[name]]) for name, values in old.peaks.items()},
        old.refused + new.refused,
        (*old.nodes, *new.nodes),
    )
