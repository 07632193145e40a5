"""Searches: generators that yield candidates and receive their outcomes. They go anywhere in the space at once.

    search = beam(SMALL, rng)
    candidate = next(search)
    while True:
        candidate = search.send(evaluator.evaluate(candidate))    # StopIteration when it has nothing more to try

``run`` does that within a budget. Agents that edit the best structure step by step stand in ``agents.py``; both leave a
``Run``, so that all are counted alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace

import numpy as np

from ecg_gym.tissue.spec import Spec
from training.leads.outcome import Evaluator, Outcome
from training.leads.structure import ACTIONS, Candidate, Space

Search = Generator[Candidate, Outcome, None]
MakeSearch = Callable[[Space, np.random.Generator], Search]


@dataclass
class Run:
    """What a search tried, in order."""

    history: list[tuple[Candidate, Outcome]] = field(default_factory=list)

    @property
    def best(self) -> tuple[Candidate, Outcome] | None:
        """The stable candidate with the least validation error at the most effort that was tried for it."""
        stable = [(c, o) for c, o in self.history if o.stable]
        return min(stable, key=lambda pair: pair[1].validation_error, default=None)

    @property
    def cost(self) -> float:
        """Fits, each counted by its effort."""
        return sum(candidate.effort for candidate, _ in self.history)

    def cost_until(self, error: float) -> float:
        """Fits until the best validation error was ``error`` or less; infinite if that never came."""
        cost = 0.0
        for candidate, outcome in self.history:
            cost += candidate.effort
            if outcome.stable and outcome.validation_error <= error:
                return cost
        return math.inf


def run(search: Search, evaluator: Evaluator, budget: float) -> Run:
    """The search within a budget of fits, each counted by its effort; a candidate that comes again costs nothing."""
    out, outcomes = Run(), dict[Candidate, Outcome]()
    try:
        candidate = next(search)
        while True:
            if candidate not in outcomes:
                if out.cost + candidate.effort > budget + 1e-9:
                    break
                outcomes[candidate] = evaluator.evaluate(candidate)
                out.history.append((candidate, outcomes[candidate]))
            candidate = search.send(outcomes[candidate])
    except StopIteration:
        pass
    finally:
        search.close()
    return out


def exhaustive(space: Space, rng: np.random.Generator) -> Search:
    """Every structure in the order of the catalogue."""
    for spec in space.specs:
        yield Candidate(spec, space.usual_effort)


def random_order(space: Space, rng: np.random.Generator) -> Search:
    """Every structure in random order: the baseline of all."""
    for number in rng.permutation(len(space.specs)):
        yield Candidate(space.specs[number], space.usual_effort)


def beam(space: Space, rng: np.random.Generator, width: int = 2) -> Search:
    """From one structure of each reaction, all neighbours of the best ``width``, then of the best of those."""
    scores: dict[Candidate, float] = {}
    start = space.start
    for name in space.reactions:
        candidate = replace(start, spec=replace(start.spec, reaction=name))
        scores[candidate] = _score((yield candidate))
    expanded: set[Candidate] = set()
    while True:
        best = [c for c in sorted(scores, key=lambda c: scores[c]) if c not in expanded][:width]
        if not best:
            return
        for candidate in best:
            expanded.add(candidate)
            for neighbour in _neighbours(space, candidate):
                if neighbour not in scores:
                    scores[neighbour] = _score((yield neighbour))


def evolution(space: Space, rng: np.random.Generator, population: int = 6, sample: int = 3) -> Search:
    """Regularised evolution: the best of a random sample is changed by one edit, and the oldest dies.

    Real E et al. 2019, AAAI 33:4780.
    """
    alive: list[tuple[Candidate, float]] = []
    for number in rng.permutation(len(space.specs))[:population]:
        candidate = Candidate(space.specs[number], space.usual_effort)
        alive.append((candidate, _score((yield candidate))))
    scores = dict(alive)
    while len(scores) < len(space.specs):
        some = [alive[k] for k in rng.choice(len(alive), min(sample, len(alive)), replace=False)]
        parent = min(some, key=lambda pair: pair[1])[0]
        neighbours = _neighbours(space, parent)
        child = neighbours[rng.integers(len(neighbours))]
        if child in scores:
            if all(neighbour in scores for neighbour in neighbours):  # nothing new here: somewhere else
                unknown = [spec for spec in space.specs if Candidate(spec, space.usual_effort) not in scores]
                child = Candidate(unknown[rng.integers(len(unknown))], space.usual_effort)
            else:
                continue
        scores[child] = _score((yield child))
        alive = [*alive[-(population - 1) :], (child, scores[child])]


def factor_bandit(space: Space, rng: np.random.Generator, batch: int = 4, bonus: float = 0.3) -> Search:
    """UCB over single choices (a reaction, a diffusion ...), with successive halving over the iterations.

    A batch is chosen by the sum of its choices' upper confidence bounds of the negative log error and fitted with the
    least effort; the better half goes on with the next. Auer P et al. 2002, Mach Learn 47:235; Jamieson K, Talwalkar A
    2016, AISTATS 51:240.
    """
    values: dict[tuple[str, object], list[float]] = {}
    done: set[Candidate] = set()
    efforts = sorted(space.efforts)
    while True:
        lowest = [Candidate(spec, efforts[0]) for spec in space.specs]
        left = [candidate for candidate in lowest if candidate not in done]
        if not left:
            return
        bound = {c: _bound(c, values, len(done), bonus) + 1e-3 * rng.random() for c in left}
        rung: list[Candidate] = []
        for _ in range(min(batch, len(left))):
            rung.append(max((c for c in left if c not in rung), key=lambda c: bound[c] - _overlap(c, rung)))
        for effort in efforts:
            scores = {}
            for candidate in (replace(c, effort=effort) for c in rung):
                scores[candidate] = _score((yield candidate))
                done.add(candidate)
                for choice in _choices(candidate):
                    values.setdefault(choice, []).append(-scores[candidate])
            rung = sorted(scores, key=lambda c: scores[c])[: max(1, len(scores) // 2)]


def _score(outcome: Outcome) -> float:
    """log10 of the validation error; unstable candidates come last."""
    return math.log10(max(outcome.validation_error, 1e-12)) if outcome.stable else 3.0


def _neighbours(space: Space, candidate: Candidate) -> list[Candidate]:
    """Structures that one edit leads to, in the order of the actions."""
    out: dict[Candidate, None] = {}
    for action in ACTIONS[:-3]:  # neither more iterations, nor a restart, nor the end
        other = space.apply(action, candidate)
        if other != candidate and other.spec in _spec_set(space):
            out[replace(other, effort=candidate.effort)] = None
    return list(out)


_SPECS: dict[Space, frozenset[Spec]] = {}


def _spec_set(space: Space) -> frozenset[Spec]:
    if space not in _SPECS:
        _SPECS[space] = frozenset(space.specs)
    return _SPECS[space]


def _choices(candidate: Candidate) -> list[tuple[str, object]]:
    spec = candidate.spec
    return [(name, getattr(spec, name)) for name in ("reaction", "diffusion", "residual", "width", "regulariser")]


def _bound(candidate: Candidate, values: dict[tuple[str, object], list[float]], trials: int, bonus: float) -> float:
    total = 0.0
    for choice in _choices(candidate):
        returns = values.get(choice, [])
        total += max(returns) if returns else 3.0  # the best that a choice was part of; optimistic where it is new
        total += bonus * math.sqrt(math.log(trials + 2) / (len(returns) + 1))
    return total


def _overlap(candidate: Candidate, others: list[Candidate]) -> float:
    """A batch should differ: what a candidate shares with those in it."""
    return sum(0.2 for other in others for a, b in zip(_choices(candidate), _choices(other)) if a == b)
