"""Searches: which sequences of treatments to imagine. Each returns all that it imagined, best first.

All treat the budget as law, share beginnings through ``Imagination``, and compare under common random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from planners.measures import Measure
from planners.rollout_tree import Paths, RolloutTree

Entries = tuple[int, ...]  # menu entries, one per step; 0 is watch and wait


class Search(Protocol):
    """A way to look for a good sequence."""

    def __call__(
        self, imagination: RolloutTree, measure: Measure, rng: np.random.Generator, warm: Entries = ()
    ) -> list[Paths]:
        """Imagined sequences of full length, best first, at least one; ``warm`` is one to begin with."""
        ...


@dataclass(frozen=True)
class RandomShooting:
    """Imagine many random sequences, keep the best (Rao 2009, arXiv; Nagabandi 2018, doi:10.1109/ICRA.2018.8463189).

    Before the random ones come: the warm one, watching, and every allowed treatment once followed by watching. Random
    ones begin with any allowed treatment and go on watching with probability ``watch``, else with anything.
    """

    n: int = 256  # random sequences at most; the budget usually ends it before
    watch: float = 0.5

    def __call__(
        self, imagination: RolloutTree, measure: Measure, rng: np.random.Generator, warm: Entries = ()
    ) -> list[Paths]:
        """All affordable ones, best first."""
        chances = proposal(imagination, self.watch)
        samples = [draw(chances, rng) for _ in range(self.n)]
        proposed = list(dict.fromkeys([*basics(imagination, warm), *samples]))
        return ordered(imagination.walk(imagination.affordable(proposed)), measure)


@dataclass(frozen=True)
class CrossEntropy:
    """Categorical cross-entropy method: draw, keep the elite, move the probabilities towards it, draw again.

    p[t, a] <- (1 - s) p[t, a] + s x share of the elite that does a at step t (Rubinstein 1999,
    doi:10.1023/A:1010091220143; de Boer 2005, doi:10.1007/s10479-005-5724-z). One table of probabilities per step;
    a share ``doubt`` of the draws still comes from the first one, so that it does not settle for good too soon.
    """

    population: int = 32
    elite: float = 0.25
    rounds: int = 12  # at most; drawing what was imagined before costs nothing
    smoothing: float = 0.5
    doubt: float = 0.2
    watch: float = 0.5  # probability of watching at later steps, in the beginning

    def __call__(
        self, imagination: RolloutTree, measure: Measure, rng: np.random.Generator, warm: Entries = ()
    ) -> list[Paths]:
        """All rounds together, best first."""
        chances = open_minded = proposal(imagination, self.watch)
        result: dict[Entries, Paths] = {}
        for turn in range(self.rounds):
            sources = [open_minded if u < self.doubt else chances for u in rng.random(self.population)]
            samples = [draw(source, rng) for source in sources]
            proposed = [*basics(imagination, warm), *samples] if turn == 0 else samples
            walked = imagination.walk(imagination.affordable(list(dict.fromkeys(proposed))))
            result |= {paths.entries: paths for paths in walked}
            scored = ordered([result[entries] for entries in proposed if entries in result], measure)
            if not scored:
                break
            best = scored[: max(1, round(self.elite * len(scored)))]
            share = np.zeros_like(chances)
            for paths in best:
                share[np.arange(len(chances)), paths.entries] += 1 / len(best)
            chances = (1 - self.smoothing) * chances + self.smoothing * share
        return ordered(list(result.values()), measure)


@dataclass(frozen=True)
class Beam:
    """Beam search: at each step every kept sequence is continued by everything, the ``width`` best stay (Lowerre 1976).

    What remains of the budget is shared evenly between the steps that remain. A treatment that the rules refuse in most
    of the imagined hearts is not tried. Width 1 is greedy; a width beyond all sequences is exhaustive.
    """

    width: int = 6

    def __call__(
        self, imagination: RolloutTree, measure: Measure, rng: np.random.Generator, warm: Entries = ()
    ) -> list[Paths]:
        """The last beam, best first."""
        beam: list[Paths] = []
        for depth in range(imagination.horizon):
            proposed = [warm[: depth + 1]] if warm else []
            if depth == 0:
                proposed += [(int(entry),) for entry in np.flatnonzero(imagination.allowed)]
            else:
                proposed += [(*paths.entries, entry) for paths in beam for entry in sensible(imagination, paths)]
            share = imagination.left // (imagination.horizon - depth)
            affordable = imagination.affordable(list(dict.fromkeys(proposed)), share)
            beam = ordered(imagination.walk(affordable), measure)[: self.width]
        return beam


def basics(imagination: RolloutTree, warm: Entries = ()) -> list[Entries]:
    """Sequences that are always worth a look: the warm one, watching, and each allowed treatment given once."""
    rest = (0,) * (imagination.horizon - 1)
    once = [(int(entry), *rest) for entry in np.flatnonzero(imagination.allowed)]
    return list(dict.fromkeys([*([warm] if warm else []), *once]))


def proposal(imagination: RolloutTree, watch: float) -> np.ndarray:
    """Probabilities ``(H, n)`` of random sequences: first anything allowed, later watching with chance ``watch``."""
    n = len(imagination.menu)
    chances = np.full((imagination.horizon, n), (1 - watch) / max(1, n - 1))
    chances[:, 0] = watch if n > 1 else 1.0
    chances[0] = imagination.allowed / imagination.allowed.sum()
    return chances


def draw(chances: np.ndarray, rng: np.random.Generator) -> Entries:
    """One sequence out of probabilities ``(H, n)``."""
    edges = np.cumsum(chances, axis=1)
    return tuple(int(np.searchsorted(row, u * row[-1], side="right")) for row, u in zip(edges, rng.random(len(edges))))


def sensible(imagination: RolloutTree, paths: Paths) -> list[int]:
    """Entries that the rules allow in at least half of the hearts that a sequence leaves alive; watching always."""
    living = [node for node in paths.nodes if not node.over]
    most, entries = max(1, len(living)) / 2, range(1, len(imagination.menu))
    return [0, *(e for e in entries if sum(imagination.permitted(node, e) for node in living) >= most)]


def ordered(result: Sequence[Paths], measure: Measure) -> list[Paths]:
    """Best first: fewest strips that are not finite, lowest score, lowest mean, least given, first of the menu."""

    def place(paths: Paths) -> tuple[Any, ...]:
        score = float(measure.score(measure.losses(paths)))
        doses = sum(entry != 0 for entry in paths.entries)
        return int((~paths.finite).sum()), round(score, 12), round(float(paths.risks.mean()), 12), doses, paths.entries

    return sorted(result, key=place)
