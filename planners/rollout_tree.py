"""``Imagination``: a tree of imagined futures of one patient, in which no step is ever paid for twice.

Sample k of every sequence starts at the same particle and draws with the same random numbers at the same step (common
random numbers), so two sequences that begin alike share their beginnings: what is asked of the world is one row for
each *different* (sample, doses given so far). At the first step the env's own mask holds; later ones ask the clinical
rules about the imagined strip, and what they refuse is not given, as the env would do. A heart that stops, or a strip
that is not finite, costs what the env's reward makes it cost: more than any way to survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import State, Treatment, World, concatenate
from ecg_gym.envs.dynamics import likely
from ecg_gym.envs.reward import RiskReward
from ecg_gym.rollout import BATCH_ROWS, Judgement, RiskFunction, first_of, noise
from ecg_gym.waveform.intervals import NUMERIC
from planners.pricing import EnvPrice
from planners.rollout import Price

PEAKS = ("hr_bpm", "qtcf_ms")  # whose highest value along a path is kept, for measures that look at it
Mask = Callable[..., np.ndarray]  # the shape of ecg_gym.pharmacology.action_mask


@dataclass(frozen=True)
class Node:
    """One imagined heart after the treatments of ``entries``."""

    sample: int
    entries: tuple[int, ...]  # menu entries really given
    state: State  # a batch of one
    loss: float  # discounted sum so far of minus the reward
    peaks: Mapping[str, float]
    finite: bool
    alive: bool
    intervals: Mapping[str, float]
    findings: frozenset[str]

    @property
    def over(self) -> bool:
        """Nothing more can happen to it."""
        return not (self.alive and self.finite)


@dataclass(frozen=True)
class Paths:
    """What K samples say of one sequence; what measures look at (``planners.measures.Outcomes``)."""

    entries: tuple[int, ...]  # menu entries proposed, one per step
    risks: np.ndarray  # (K,) cost per step, discounted mean; in [0, 1], and up to 2 for those that are lost
    lost: np.ndarray  # (K,) bool
    finite: np.ndarray  # (K,) bool
    peaks: Mapping[str, np.ndarray]  # name -> (K,)
    refused: int  # how often the rules would refuse what is proposed, over all samples
    nodes: tuple[Node, ...]


class RolloutTree:
    """Futures of one patient in one world, as many row-steps as ``budget`` allows."""

    def __init__(
        self,
        world: World,
        particles: State,  # K rows: sample k starts at row k
        first: np.ndarray,  # (1, 12, 1024) [mV] that risk is judged against
        risk: RiskFunction,
        seeds: Sequence[int],  # K
        menu: Sequence[Treatment],
        allowed: np.ndarray,  # (n,) bool over the menu, now
        horizon: int = 3,
        budget: int = 400,
        discount: float = 1.0,
        price: Price | None = None,  # of a step; default minus the env's usual reward
        batch_rows: int = BATCH_ROWS,
        mask: Mask | None = None,
    ) -> None:
        if horizon < 1 or budget < 1 or not 0 < discount <= 1:
            raise ValueError(
                f"horizon, budget, discount are {horizon}, {budget}, {discount}; expected at least 1, at least 1, and "
                "within (0, 1]; pass horizon=3, budget=400, discount=1.0"
            )
        if len(particles) != len(seeds):
            raise ValueError(f"{len(particles)} particles for {len(seeds)} seeds; expected one each; resample them")
        self.world, self.risk, self.seeds = world, risk, tuple(seeds)
        self.first = first_of(world, risk, particles[0], first)
        self.menu, self.allowed, self.horizon = tuple(menu), np.asarray(allowed, dtype=bool), horizon
        self.budget, self.discount, self.batch_rows = budget, discount, batch_rows
        self.price = EnvPrice(RiskReward(), horizon, 1) if price is None else price
        self.mask = _default_mask() if mask is None else mask
        self.calls = 0  # row-steps asked of the world so far
        self.n_nonfinite = 0  # imagined strips that were not finite
        weights = discount ** np.arange(horizon)
        self._weight = float(weights.sum())
        self._roots = [
            Node(k, (), particles[k], 0.0, dict.fromkeys(PEAKS, -np.inf), True, True, {}, frozenset())
            for k in range(len(seeds))
        ]
        self._children: dict[tuple[int, tuple[int, ...]], Node] = {}
        self._permitted: dict[tuple[int, tuple[int, ...], int], bool] = {}

    @property
    def left(self) -> int:
        """Row-steps that may still be asked of the world."""
        return self.budget - self.calls

    def cost(self, sequences: Sequence[Sequence[int]]) -> int:
        """At most so many row-steps would be new for these sequences together."""
        targets: set[tuple[int, tuple[int, ...]]] = set()
        for entries in sequences:
            for root in self._roots:
                self._want(root, entries, targets)
        return len(targets)

    def affordable(self, sequences: Sequence[Sequence[int]], most: int | None = None) -> list[tuple[int, ...]]:
        """The first of these sequences that ``most`` (default: what is left) row-steps pay for; also all free ones."""
        purse = self.left if most is None else min(most, self.left)
        targets: set[tuple[int, tuple[int, ...]]] = set()
        result = []
        for entries in sequences:
            more = set(targets)
            for root in self._roots:
                self._want(root, entries, more)
            if len(more) <= purse:
                targets = more
                result.append(tuple(entries))
        return result

    def walk(self, sequences: Sequence[Sequence[int]]) -> list[Paths]:
        """What becomes of the patient under each sequence of menu entries (no longer than the horizon); asks the world.

        Raises ``ValueError`` for a first entry that is not allowed now, or when the budget does not reach: ask for
        :meth:`affordable` ones.
        """
        for entries in sequences:
            if not 1 <= len(entries) <= self.horizon or not self.allowed[entries[0]]:
                raise ValueError(
                    f"sequence is {tuple(entries)}; expected 1 to {self.horizon} menu entries that begin with an "
                    f"allowed one of {np.flatnonzero(self.allowed).tolist()}; choose another"
                )
        if (cost := self.cost(sequences)) > self.left:
            raise ValueError(f"{cost} row-steps are needed, {self.left} are left; pass affordable(sequences)")
        fronts, refused = [list(self._roots) for _ in sequences], [0] * len(sequences)
        for depth in range(max(map(len, sequences), default=0)):
            walking = [i for i, entries in enumerate(sequences) if len(entries) > depth]
            steps = {i: [self._step(node, sequences[i][depth]) for node in fronts[i]] for i in walking}
            missing: dict[tuple[int, tuple[int, ...]], tuple[Node, int]] = {}
            for i in walking:
                for node, entry in zip(fronts[i], steps[i]):
                    key = (node.sample, (*node.entries, entry))
                    if not node.over and key not in self._children:
                        missing.setdefault(key, (node, entry))
            self._grow(list(missing.values()))
            for i in walking:
                refused[i] += sum(entry != sequences[i][depth] and not n.over for n, entry in zip(fronts[i], steps[i]))
                fronts[i] = [
                    node if node.over else self._children[node.sample, (*node.entries, entry)]
                    for node, entry in zip(fronts[i], steps[i])
                ]
        return [self._paths(tuple(entries), nodes, no) for entries, nodes, no in zip(sequences, fronts, refused)]

    def permitted(self, node: Node, entry: int) -> bool:
        """Whether the clinical rules allow a menu entry at an imagined heart: the env's mask at the root."""
        if not node.entries:
            return bool(self.allowed[entry])
        key = (node.sample, node.entries, entry)
        if key not in self._permitted:
            state = node.state
            value = (state.patients[0], node.intervals, state.doses[0], float(state.hours[0]))
            self._permitted[key] = bool(self.mask([self.menu[entry]], *value, findings=node.findings)[0])
        return self._permitted[key]

    def _step(self, node: Node, entry: int) -> int:
        """What is really given: watching where the rules refuse."""
        return entry if node.over or self.permitted(node, entry) else 0

    def _want(self, node: Node, entries: Sequence[int], targets: set[tuple[int, tuple[int, ...]]]) -> None:
        """Add the nodes below a root that this sequence would need; refusals that are not known yet count as none."""
        path: tuple[int, ...] = ()
        child: Node | None = node
        for entry in entries:
            if child is not None:
                if child.over:
                    return
                entry = self._step(child, entry)
            path = (*path, entry)
            child = self._children.get((node.sample, path))
            if child is None:
                targets.add((node.sample, path))

    def _grow(self, pairs: Sequence[tuple[Node, int]]) -> None:
        """Ask the world for the children of these nodes, in batches."""
        for start in range(0, len(pairs), self.batch_rows):
            part = pairs[start : start + self.batch_rows]
            crowd = concatenate([node.state for node, _ in part])
            generators = [noise(self.seeds[node.sample], len(node.entries)) for node, _ in part]
            treatments = [self.menu[entry] for _, entry in part]
            later = self.world.step(crowd, treatments, generators)
            judgement = Judgement.of(self.risk, self.first, later, NUMERIC, self.world)
            depth = np.array([len(node.entries) for node, _ in part])
            costs = self.price(depth, crowd, later, treatments, judgement)
            self.calls += len(part)
            self.n_nonfinite += int((~judgement.finite).sum())
            for row, (node, entry) in enumerate(part):
                child = self._child(node, entry, later[row], judgement, row, float(costs[row]))
                self._children[child.sample, child.entries] = child

    def _child(self, node: Node, entry: int, state: State, judgement: Judgement, row: int, cost: float) -> Node:
        intervals = judgement.assessment.intervals.row(row)
        intervals["map_mmhg"] = float(judgement.intervals["map_mmhg"][row])
        return Node(
            sample=node.sample,
            entries=(*node.entries, entry),
            state=state,
            loss=node.loss + cost * self.discount ** len(node.entries),
            peaks={name: float(np.maximum(high, intervals.get(name, np.nan))) for name, high in node.peaks.items()},
            finite=bool(judgement.finite[row]),
            alive=bool(state.alive[0]),
            intervals=intervals,
            findings=likely(judgement.assessment.probabilities[row]),
        )

    def _paths(self, entries: tuple[int, ...], nodes: Sequence[Node], refused: int) -> Paths:
        return Paths(
            entries,
            np.array([node.loss for node in nodes]) / self._weight,
            np.array([node.over for node in nodes]),
            np.array([node.finite for node in nodes]),
            {name: np.array([node.peaks[name] for node in nodes]) for name in PEAKS},
            refused,
            tuple(nodes),
        )


def _default_mask() -> Mask:
    from ecg_gym.pharmacology import action_mask

    return action_mask
