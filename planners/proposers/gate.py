"""``proposed(proposer, state)``: the proposals that the formulary and the clinical rules let through, best first.

The rules stand outside of the proposer: whatever it is and whatever it says, each item is checked and spelt by
``FORMULARY.check``, held against the rules, and counted where it is refused. Watching always joins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ecg_gym.core import WATCH, Dose, Patient, State, Treatment
from ecg_gym.pharmacology import FORMULARY
from planners.ranking import Rules, admit

MOST = 1000  # items that are looked at; an endless list ends here


class Proposer(Protocol):
    """Whoever can say which treatments are worth ranking. It need not know the rules."""

    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """Treatments for the one patient of ``state``, best first; an empty list proposes nothing."""
        ...


@dataclass(frozen=True)
class Refusal:
    """A proposal that did not pass, and why."""

    proposal: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Proposals:
    """What is left to be ranked."""

    treatments: tuple[Treatment, ...]  # best first, watching among them; at most k besides watching
    refusals: tuple[Refusal, ...]
    n: int  # items that were looked at until there were enough

    @property
    def refused_share(self) -> float:
        """Refused items over all items; 0 where there was none."""
        return len(self.refusals) / self.n if self.n else 0.0

    def sentences(self, name: str) -> list[str]:
        """What a reader of the plan should know: how many, and every refusal with its reasons."""
        counts = (
            f"Proposer {name}: {self.n} proposals, {len(self.treatments) - 1} ranked, {len(self.refusals)} refused."
        )
        return [counts, *(f"Refused: {r.proposal} ({'; '.join(r.reasons)})" for r in self.refusals)]


def proposed(
    proposer: Proposer,
    state: State,
    k: int = 8,
    rng: np.random.Generator | None = None,
    *,
    intervals: Mapping[str, float],
    findings: frozenset[str] = frozenset(),
    rules: Rules | None = None,
) -> Proposals:
    """At most ``k`` different proposals that may be given to the one patient of ``state``, and watching.

    ``intervals`` and ``findings`` are what the rules ask about, read off the patient's own strip. Watching keeps the
    place that the proposer gave it, or comes last. ``ValueError`` for several patients or a ``k`` below 1.
    """
    if len(state) != 1 or k < 1:
        raise ValueError(f"{len(state)} patients and k = {k}; expected one patient and at least 1; pass state[i], k=8")
    proposals: dict[Treatment, None] = {}
    refusals: list[Refusal] = []
    n = 0
    for item in islice(proposer.propose(state, rng or np.random.default_rng(0)), MOST):
        if len(proposals.keys() - {WATCH}) >= k:
            break
        n += 1
        treatment, reasons = _spelt(item, state.patients[0])
        if treatment is not None and treatment != WATCH:
            _, excluded = admit([treatment], state, intervals, rules, findings)
            reasons = tuple(sentence for e in excluded for sentence in e.reasons)
        if reasons or treatment is None:
            refusals.append(Refusal(str(item)[:80], reasons))
        else:
            proposals.setdefault(treatment)
    proposals.setdefault(WATCH)
    return Proposals(tuple(proposals), tuple(refusals), n)


def _spelt(item: Any, patient: Patient) -> tuple[Treatment | None, tuple[str, ...]]:
    """The treatment in the formulary's own spelling, or why there is none."""
    if not isinstance(item, Treatment) or not all(isinstance(dose, Dose) for dose in item.doses):
        return None, (f"a {type(item).__name__} is no Treatment",)
    try:
        return Treatment(tuple(FORMULARY.check(dose, patient) for dose in item.doses)), ()
    except (ValueError, TypeError, AttributeError) as error:
        return None, (str(error),)
