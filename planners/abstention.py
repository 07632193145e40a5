"""Knowing when not to act: a planner that defers, and what deferring buys (the selective-risk curve).

To defer is to watch and wait, and to say why (``PlanInfo.abstained``). A choice is compared with watching, not with the
runner-up: two drugs that help equally are no reason to give neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import State
from planners.base import PlanInfo, Planner

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv

NEEDED = "hr_bpm"  # a strip on which this cannot be measured is not readable


@dataclass(frozen=True)
class Abstention:
    """When to defer; what is left at its default never defers."""

    better: float = 0.0  # least P(the choice really scores lower than watching), sampling noise only
    spread: float = np.inf  # largest SD of the risk of the choice's futures
    nonfinite: int | None = None  # most futures that may be not finite, over all candidates
    readable: bool = True  # defer when the newest strip cannot be read

    def __post_init__(self) -> None:
        if not 0 <= self.better < 1 or not self.spread > 0:
            raise ValueError(
                f"better is {self.better} and spread {self.spread}; expected within [0, 1), and above 0; "
                "better=0.9 asks for nine in ten"
            )

    def reason(self, decision: PlanInfo, unreadable: bool = False) -> str:
        """Why not to do what was decided; "" if nothing speaks against it."""
        if not decision.treatment:
            return ""
        if self.readable and unreadable:
            return "the strip cannot be read: no rate can be measured on it"
        if self.nonfinite is not None and decision.n_nonfinite > self.nonfinite:
            return f"{decision.n_nonfinite} futures were not finite; {self.nonfinite} are accepted"
        if self.better and not decision.better >= self.better:
            return f"better than watching with probability {decision.better:.2f}; {self.better:g} is asked for"
        if np.isfinite(self.spread) and not decision.spread <= self.spread:
            return f"the risk after it has an SD of {decision.spread:.3f}; {self.spread:g} is accepted"
        return ""


class DeferringPlanner(Planner):
    """Another planner, that watches and waits instead of acting when ``when`` says so."""

    def __init__(self, env: Any, planner: Planner, when: Abstention | None = None) -> None:
        super().__init__(env)
        self.planner, self.when = planner, Abstention(better=0.9) if when is None else when

    def reset(self, seed: int | None = None) -> None:
        """Reset the planner."""
        self.planner.reset(seed)

    def forget(self, env: ECGInterventionEnv) -> None:
        """Let the planner forget the env's episode."""
        self.planner.forget(env)

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """What the planner chose, or watching with the reason."""
        decision = self.planner.choose(env, state)
        unreadable = not np.isfinite(env.episode.now[NEEDED][0])
        if reason := self.when.reason(decision, unreadable):
            return replace(decision, treatment=env.menu[0], sequence=(), abstained=reason)
        return decision


@dataclass(frozen=True)
class SelectiveRisk:
    """Mean regret of the decisions that are still made when only the most confident are."""

    coverage: np.ndarray  # (M,) share of decisions made, rising to 1
    regret: np.ndarray  # (M,) their mean regret
    area: float  # under the curve: what is lost on average over all coverages; lower is better
    blind: float  # the area if confidence said nothing: the mean regret of all
    ideal: float  # the area if confidence ordered the decisions by their regret

    @property
    def gained(self) -> float:
        """Share of what confidence could save that it saves: 1 is ideal, 0 is blind; NaN if nothing could be."""
        return float((self.blind - self.area) / (self.blind - self.ideal)) if self.blind > self.ideal else np.nan


def selective_risk(confidence: np.ndarray, regret: np.ndarray) -> SelectiveRisk:
    """The curve of decisions ``(N,)``, the most confident first; equal confidence is one point.

    Geifman & El-Yaniv 2017, arXiv:1705.08500. Raises ``ValueError`` for nothing, for different lengths, or for numbers
    that are not finite.
    """
    confidence, regret = np.asarray(confidence, dtype=float), np.asarray(regret, dtype=float)
    if confidence.shape != regret.shape or confidence.ndim != 1 or not len(regret):
        raise ValueError(
            f"confidence has shape {confidence.shape} and regret {regret.shape}; expected (N,) twice, N at least 1"
        )
    if not (np.isfinite(confidence).all() and np.isfinite(regret).all()):
        raise ValueError("confidence or regret is not finite; expected numbers; leave such out, and count them")
    coverage, mean = _curve(-confidence, regret)
    return SelectiveRisk(coverage, mean, _area(-confidence, regret), float(regret.mean()), _area(regret, regret))


def _curve(key: np.ndarray, regret: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and mean regret at each different key, the lowest first."""
    order = np.argsort(key, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(key[order]) != 0, True)) + 1
    return ends / len(key), np.cumsum(regret[order])[ends - 1] / ends


def _area(key: np.ndarray, regret: np.ndarray) -> float:
    """Mean over n = 1..N of the mean regret of the first n; equals are made in random order, on average."""
    coverage, mean = _curve(key, regret)
    counts = np.round(coverage * len(key)).astype(int)
    sums, before, total, area = mean * counts, 0, 0.0, 0.0
    for end, whole in zip(counts, sums):
        each = (whole - total) / (end - before)
        sizes = np.arange(before + 1, end + 1)
        area += float(((total + each * (sizes - before)) / sizes).sum())
        before, total = int(end), float(whole)
    return area / len(key)
