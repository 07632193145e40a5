"""``TreeSearchPlanner``: closed-loop Monte Carlo tree search over treatments, and over what is seen after each.

A node is a patient after what was given and seen, an edge a treatment. The outcomes of an edge are widened
progressively: a new one is drawn while there are fewer than ``widening x visits ** exponent`` (Couetoux 2011,
doi:10.1007/978-3-642-25566-3_32), and outcomes whose measured intervals cannot be told apart are one node, as in a
search over beliefs (Silver & Veness 2010, NeurIPS, "Monte-Carlo planning in large POMDPs"). So what is planned below an
edge depends on what happens, which no sequence can say. Below the root treatments are chosen by UCB1 (Kocsis &
Szepesvari 2006, doi:10.1007/11871842_29), with a ``prior`` by PUCT (Silver 2017, doi:10.1038/nature24270); at the root
the budget is shared out by sequential halving (Karnin 2013, ICML; in trees Pepels 2014,
doi:10.1007/978-3-319-14923-3_1).

A simulation asks the world for one step. Those of all patients, and ``leaves`` of each, are asked as one batch; a
virtual loss (Chaslot 2008, doi:10.1007/978-3-540-87608-3_6) keeps the simulations of one tree apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ecg_gym.core import State
from ecg_gym.envs import dynamics
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import READINGS, Episode, History, Moment
from ecg_gym.envs.observability import USUAL, tier_named
from ecg_gym.powers import ReadsVitals
from ecg_gym.risk import RiskModel
from ecg_gym.streams import Streams
from planners.base import PlanInfo
from planners.model_based import ModelBasedPlanner, steps_left
from planners.particles import measurement
from planners.tree_kernel import Forest, Growth, best_entries, forest, plant, put, select

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv

Prior = Callable[[np.ndarray, np.ndarray], np.ndarray]
Value = Callable[[np.ndarray], np.ndarray]
UNMEASURED = -1e6  # stands for a reading that could not be made: nothing that was read looks like it


class TreeSearchPlanner(ModelBasedPlanner):
    """Searches closed-loop plans to the end of the episode with ``budget`` steps of the world per decision.

    ``prior(observations (B, d), masks (B, n)) -> (B, n)`` gives probabilities of the menu's entries and
    ``value(observations) -> (B,)`` expected returns to come, for example those of a trained policy
    (:func:`planners.sb3.prior_and_value`); without them all that is allowed is alike, and a reward is expected to go on
    as the last one. ``fidelity`` is that of the imagination; the default is "vitals" where the world reads them.
    In the env's own world it plans from the truth. What the belief costs is taken from the budget.
    """

    def __init__(
        self,
        env: Any,
        *,
        budget: int = 400,
        leaves: int = 16,  # simulations of one tree that are asked of the world together
        exploration: float = 1.0,  # weight of the exploration term; values are scaled to [0, 1] over a tree
        widening: float = 1.0,
        exponent: float = 0.75,
        apart: float = 1.0,  # outcomes are one node if no reading differs by so many SDs of a measurement
        mixing: float = 0.5,  # weight of the best edge in the value of a node; the rest is the mean over visits
        guess_weight: float = 1.0,  # visits that the first guess of a node's value counts for
        discount: float = 1.0,
        prior: Prior | None = None,
        value: Value | None = None,
        fidelity: str | None = None,
        **imagining: Any,  # world, risk, belief, particles, seed: see ModelBasedPlanner
    ) -> None:
        super().__init__(env, **imagining)
        if budget < 1 or leaves < 1 or not 0 < discount <= 1:
            raise ValueError(
                f"budget, leaves, discount are {budget}, {leaves}, {discount}; expected at least 1, at least 1 and "
                "within (0, 1]; pass budget=400"
            )
        self.budget, self.leaves, self.prior, self.value, self.fidelity = budget, leaves, prior, value, fidelity
        self.growth = Growth(
            budget, exploration, widening, exponent, apart, mixing, guess_weight, discount, prior is not None
        )

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The treatment with the highest value at the root."""
        return self._search([env], [state])[0]

    def choose_rows(self, rows: Sequence[int]) -> list[PlanInfo]:
        """The treatments of several patients, searched together."""
        envs = [self.envs[row] for row in rows]
        return self._search(envs, [env.state for env in envs])

    def _search(self, envs: Sequence[ECGInterventionEnv], states: Sequence[State]) -> list[PlanInfo]:
        if not envs:
            return []
        roots = [root_of(self, env, state, self.fidelity) for env, state in zip(envs, states)]
        task = task_of(self, envs[0], self.fidelity)
        samples = len(roots[0].episode)
        start = _together([root.episode for root in roots])
        cost = max(root.model_calls for root in roots)
        growth = self.growth._replace(budget=max(self.budget - cost, 1))
        grown = Search(task, start, samples, self, growth)
        while grown.grow():
            pass
        entries, values = best_entries(grown.forest)
        return [
            PlanInfo(
                treatment=env.menu[int(entry)],
                model_calls=int(calls) + root.model_calls,
                n_nonfinite=int(lost),
                score=-float(value),
                samples=int(calls),
                ess=root.ess,
            )
            for env, root, entry, value, calls, lost in zip(
                envs, roots, entries, values, grown.forest.requests, grown.nonfinite
            )
        ]


@dataclass(frozen=True)
class Root:
    """Where the search of one patient begins."""

    episode: Episode  # one row per heart that the patient may have
    model_calls: int
    ess: float


def task_of(planner: ModelBasedPlanner, env: ECGInterventionEnv, fidelity: str | None = None) -> Task:
    """What is imagined: the env's task in the world and fidelity of the imagination, all of it seen."""
    world, risk = planner.world_of(env), cast(RiskModel, planner.risk_of(env))  # or what judges as it does
    quick = isinstance(world, ReadsVitals) and hasattr(risk, "judge")
    return replace(
        env.task, world=world, risk=risk, invalid="noop", samples=1, tier=tier_named(USUAL), cost=False,
        reward_timing="seen", fidelity=fidelity or ("vitals" if quick else "strip"),
    )  # fmt: skip


def root_of(planner: ModelBasedPlanner, env: ECGInterventionEnv, state: State, fidelity: str | None = None) -> Root:
    """Where imagining one patient begins: hearts that the patient may have, as episodes."""
    task, believed = task_of(planner, env, fidelity), planner.believed(env, state)
    hearts = believed.state if believed.particles is None else believed.rows(planner.particles)
    n, steps = len(hearts), int(env.episode.steps[0])
    own = planner.world_of(env) is env.world and believed.particles is None
    first = env.episode.origin if own else hearts.replaced(ecg=np.repeat(believed.first, n, axis=0))
    nobody = Streams.start(np.zeros((n, 2), np.uint64))
    scenario = np.repeat(env.episode.scenario, n)
    origin, now = (dynamics.begin(task, state, nobody, scenario) for state in (first, hearts))
    readings = {name: getattr(origin, name) for name in ("baseline", "start")}
    readings |= {name: getattr(now, name) for name in READINGS if name not in readings}
    episode = replace(
        now, origin=first, allowed=np.repeat(env.episode.allowed, n, axis=0), steps=np.full(n, steps),
        horizon=np.full(n, steps + steps_left(env)), blood=np.repeat(env.episode.blood, n, axis=0),
        blood_hours=np.repeat(env.episode.blood_hours, n), **readings,
    )  # fmt: skip
    return Root(episode, believed.model_calls, believed.ess)


class Search:
    """The trees of several patients while they grow."""

    def __init__(self, task: Task, start: Episode, samples: int, planner: TreeSearchPlanner, growth: Growth) -> None:
        self.task, self.planner, self.growth = task, planner, growth
        trees, most = len(start) // samples, self.growth.budget + samples
        self.forest: Forest = forest(trees, most, start.allowed.shape[1], len(measurement().names))
        self.batches = [start]
        self.batch, self.row = np.zeros((trees, most), int), np.zeros((trees, most), int)
        self.row[:, :samples] = np.arange(len(start)).reshape(trees, samples)
        self.nonfinite = np.zeros(trees, int)
        self.ways = np.zeros((5, trees * planner.leaves), np.int64)
        self.key = int(np.random.SeedSequence([planner.seed, 11]).generate_state(1, np.uint64)[0])
        first = start[np.arange(0, len(start), samples)]
        risk = np.asarray(first.now["risk"], float)
        left = np.maximum(first.horizon - first.steps, 0).astype(np.int64)
        plant(self.forest, samples, *self._described(first, -np.nan_to_num(risk, nan=1.0), left), left)

    def grow(self) -> bool:
        """One batch of outcomes in every tree; False when the budget is spent."""
        n = select(self.forest, self.growth, self.planner.leaves, self.ways)
        if not n:
            return False
        tree, node, edge, sample, nth = self.ways[:, :n]
        before = self._episodes(self.batch[tree, sample], self.row[tree, sample])
        keys = np.stack([np.full(n, self.key, np.uint64), nth.astype(np.uint64)], axis=1)
        entries = self.forest.edge_entry[tree, edge]
        after, outcome = dynamics.advance(self.task, before, entries, Streams.start(keys).after(before.steps + 1))
        after = _trimmed(after)
        place = self.forest.outcomes[tree] + _count(tree)
        self.batch[tree, place], self.row[tree, place] = len(self.batches), np.arange(n)
        self.batches.append(after)
        np.add.at(self.nonfinite, tree, after.truth["finite"] == 0)
        left = np.where(outcome.terminated, 0, self.forest.left[tree, node] - 1)
        described = self._described(after, outcome.reward, left)
        put(self.forest, self.growth, tree, edge, outcome.reward, *described, left)
        return True

    def _described(
        self, episode: Episode, reward: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Readings, mask, prior and guess of the nodes of these episodes."""
        table = measurement()
        readings = np.stack([np.asarray(episode.now[name], float) for name in table.names], axis=1) / table.sd
        finite = np.where(np.isnan(readings), UNMEASURED, readings)
        prior = episode.allowed / np.maximum(episode.allowed.sum(axis=1, keepdims=True), 1)
        guess = reward * left
        if self.planner.prior is not None or self.planner.value is not None:
            observations = dynamics.features(self.task, episode)
            if self.planner.prior is not None:
                prior = np.asarray(self.planner.prior(observations, episode.allowed), float)
            if self.planner.value is not None:
                guess = np.where(left > 0, np.asarray(self.planner.value(observations), float), 0.0)
        return finite, episode.allowed, prior, guess

    def _episodes(self, batch: np.ndarray, row: np.ndarray) -> Episode:
        """The chosen episodes out of those drawn so far, in this order."""
        which = np.unique(batch)
        order = np.concatenate([np.flatnonzero(batch == b) for b in which])
        return _together([self.batches[b][row[batch == b]] for b in which])[np.argsort(order)]


def _together(parts: Sequence[Episode]) -> Episode:
    """One batch out of several of the same task."""
    if len(parts) == 1:
        return parts[0]
    stops = np.cumsum([len(part) for part in parts])
    places = [np.arange(stop - len(part), stop) for part, stop in zip(parts, stops)]
    return parts[0][np.zeros(stops[-1], int)].placed(list(zip(places, parts)))


def _count(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal numbers."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def _trimmed(episode: Episode) -> Episode:
    """The episode without its past: what is imagined needs no history of strips."""
    moment: Moment = episode.history.moments[-1]
    return replace(episode, history=History.start(episode.history.tier, moment))
