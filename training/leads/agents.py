"""Agents of the environment: ``choose(observation, mask, rng) -> action``, one edit of the best structure at a time.

``random_agent`` is the baseline. ``greedy_agent`` reads the diagnostics as a modeller would: a misfit of the plateau,
of recovery and of the second beat points at the reaction, an activation that drifts with the distance from the pacing
site at the diffusion, and a validation error far above the training error at too many parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.tissue.spec import REACTIONS
from training.leads.env import BEST_NUMBERS, CANDIDATE_NUMBERS, CHOICES, DiscoveryEnv
from training.leads.searches import Run
from training.leads.structure import ACTIONS, FULL, STOP, features

FIRST = ACTIONS.index("diffusion spline")
LEAST_SUSPICION = 0.25  # below it greedy stops
Choose = Callable[[Mapping[str, np.ndarray], np.ndarray, np.random.Generator], int]


@dataclass(frozen=True)
class CandidateRow:
    """A row of the observation, in words and numbers."""

    spec: dict[str, Any]  # field -> value
    numbers: dict[str, float]  # CANDIDATE_NUMBERS

    @property
    def stable(self) -> bool:
        """Whether the fit stayed finite."""
        return self.numbers["stable"] > 0


def rows_of(observation: Mapping[str, np.ndarray]) -> list[CandidateRow]:
    """The candidates that are seen, newest first."""
    out = []
    for row in observation["candidates"]:
        choices = [choice for choice, on in zip(features(FULL), row[:CHOICES]) if on > 0.5]
        if choices:
            numbers = {name: float(x) for name, x in zip(CANDIDATE_NUMBERS, row[CHOICES:])}
            out.append(CandidateRow(dict(choices), numbers))
    return out


def diagnostics_of(observation: Mapping[str, np.ndarray]) -> dict[str, float]:
    """``BEST_NUMBERS`` of the best candidate."""
    return {name: float(x) for name, x in zip(BEST_NUMBERS, observation["diagnostics"])}


def random_agent(observation: Mapping[str, np.ndarray], mask: np.ndarray, rng: np.random.Generator) -> int:
    """Any allowed action but the end, while there is one."""
    allowed = np.flatnonzero(mask[:STOP])
    return int(rng.choice(allowed)) if len(allowed) else STOP


def run_agent(env: DiscoveryEnv, choose: Choose, rng: np.random.Generator, case: int | None = None) -> Run:
    """One episode of an agent; ``case`` is the number of the patient."""
    options = {} if case is None else {"case": case}
    observation, info = env.reset(seed=int(rng.integers(2**31)), options=options)
    over = False
    while not over:
        observation, _, over, _, info = env.step(choose(observation, info["action_mask"], rng))
    return Run(list(env.history))


def greedy_agent(observation: Mapping[str, np.ndarray], mask: np.ndarray, rng: np.random.Generator) -> int:
    """The most suspicious part of the best model is changed; nothing is drawn at random.

    It begins with a smooth field of conductances, for hardly any tissue conducts the same everywhere.
    """
    rows = rows_of(observation)
    if not rows:
        return FIRST if mask[FIRST] else int(np.flatnonzero(mask)[0])
    suspicion = suspicions(rows, diagnostics_of(observation))
    allowed = [number for number in np.flatnonzero(mask) if number != STOP and suspicion[number] > LEAST_SUSPICION]
    return int(max(allowed, key=lambda number: (suspicion[number], -number), default=STOP))


def suspicions(rows: list[CandidateRow], notes: Mapping[str, float]) -> np.ndarray:
    """``(27,)`` how much speaks for each action; 0 where nothing does."""
    out = np.zeros(len(ACTIONS))
    best = next((row for row in rows if row.numbers["is_best"] > 0), rows[0])
    reactions = {row.spec["reaction"] for row in rows if row.spec["diffusion"] == best.spec["diffusion"]}
    ever = {row.spec["reaction"] for row in rows}
    recovery = notes["apd_error_10ms"] + notes["second_beat_error_10ms"] + 10 * notes["plateau_error"]
    conduction = notes["activation_error_10ms"] + abs(notes["distance_correlation"])
    for name in REACTIONS:
        if name not in ever:
            out[ACTIONS.index(f"reaction {name}")] = 1.0 + recovery - _unlikeness(best.spec["reaction"], name)
        elif name not in reactions:
            out[ACTIONS.index(f"reaction {name}")] = 0.2 * recovery
    out[ACTIONS.index("refine")] = 0.5 + conduction
    out[ACTIONS.index("simplify")] = 2.0 * max(0.0, notes["log10_gap"] - 0.3)
    out[ACTIONS.index("add residual")] = 0.3 if len(ever) >= 4 else 0.05
    out[ACTIONS.index("regulariser up")] = max(0.0, notes["log10_gap"] - 0.2)
    out[ACTIONS.index("widen")] = 0.1
    out[ACTIONS.index("more iterations")] = 0.15
    out[ACTIONS.index("restart")] = 0.08
    return out


RELATIVES = (("ap", "rm"), ("rm", "fhn"), ("ms", "mms"), ("fk", "bocf"))


def _unlikeness(a: str, b: str) -> float:
    """0 for reactions of one family, more for others; a network comes last."""
    if b == "neural":
        return 0.9
    return 0.0 if (a, b) in RELATIVES or (b, a) in RELATIVES else 0.3
