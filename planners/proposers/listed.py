"""Proposers without learning: the whole menu, and what the guideline table calls for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ecg_gym.core import State, Treatment
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import FINDINGS
from ecg_gym.rollout import RiskFunction
from planners.facts import facts_of_state
from planners.guideline import Bedside, finding_column, suggestions


@dataclass(frozen=True)
class Enumeration:
    """Every usual dose of every drug in the formulary's order, then, with ``pairs``, every two of different drugs."""

    drugs: Sequence[str] | None = None  # default: all
    pairs: bool = False

    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """The menu without watching; the same for everybody."""
        single = [treatment for treatment in FORMULARY.menu(self.drugs) if treatment]
        if not self.pairs:
            return single
        two = [
            Treatment((*a.doses, *b.doses)) for a, b in combinations(single, 2) if a.doses[0].drug != b.doses[0].drug
        ]
        return [*single, *two]


@dataclass(frozen=True)
class Shuffled:
    """Another proposer's list in random order: the chance that a proposer has to beat."""

    proposer: Enumeration

    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """The list, shuffled by ``rng``."""
        items = self.proposer.propose(state, rng)
        return [items[i] for i in rng.permutation(len(items))]


@dataclass(frozen=True)
class Guideline:
    """What ``guidelines.yaml`` calls for, by the strip and the chart of doses, in the order of the table."""

    risk: RiskFunction  # reads intervals and findings off the strip

    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """Every line that is left of every situation that holds; often none."""
        facts = facts_of_state(state, self.risk)
        readings = dict(facts.intervals)
        readings |= {finding_column(name): float(p) for name, p in zip(FINDINGS, facts.probabilities)}
        view = Bedside(readings, state.patients[0], tuple(state.doses[0]), float(state.hours[0]))
        return [treatment for treatment, _ in suggestions(view, FORMULARY.menu())]
