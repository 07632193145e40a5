"""``contenders(world, state, ...)``: which treatments are worth drawing strips of.

Every candidate's futures are stepped with the seeds that a plan will use, and judged by what a measurement of their
strips would say (``world.vitals``), which costs a small part of drawing and measuring them. Only the best are ranked by
their strips: ``plan(world, state, contenders(world, state, risk))``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.look import Look
from ecg_gym.powers import ReadsVitals
from ecg_gym.rollout import RiskFunction, step_noise
from planners.measures import Measure, resolved
from planners.rollout import common_seeds

KEPT = 8  # treatments that are ranked by strips


@dataclass(frozen=True)
class Screened:
    """What readings say of K futures of C treatments: all that a measure looks at."""

    risks: np.ndarray  # (C, K)
    lost: np.ndarray  # (C, K) bool: died
    peaks: Mapping[str, np.ndarray]  # interval name -> (C, K)


def contenders(
    world: World,
    state: State,
    risk: RiskFunction,
    candidates: Iterable[Treatment],
    *,
    k: int = 16,
    keep: int = KEPT,
    seed: int = 0,
    risk_aversion: float = 0.6,
    measure: Measure | str | None = None,
) -> tuple[Treatment, ...]:
    """The ``keep`` treatments with the lowest score by readings, best first, and "watch and wait".

    ``state`` holds one patient; ``k``, ``seed``, ``risk_aversion`` and ``measure`` are those of the plan that follows.
    Raises ``ValueError`` for a world or a risk that cannot do without strips, and for a ``keep`` below 1.
    """
    if not isinstance(world, ReadsVitals) or not hasattr(risk, "judge"):
        raise ValueError(
            f"{type(world).__name__} is judged by {type(risk).__name__}; expected a world with vitals(state, seen, "
            "findings) and a risk with judge(baseline, look, patients, alive); rank all candidates by plan(...)"
        )
    if keep < 1:
        raise ValueError(f"keep is {keep}; expected at least 1; pass keep={KEPT}")
    treatments = tuple(dict.fromkeys((WATCH, *candidates)))
    if len(treatments) <= keep:
        return treatments
    screened = screen(world, state, risk, treatments, common_seeds(seed, k))
    how = resolved(measure, risk_aversion)
    scores = how.score(how.losses(screened))
    best = [treatments[i] for i in np.argsort(scores, kind="stable")[:keep]]
    return tuple(dict.fromkeys((*best, WATCH)))


def screen(
    world: ReadsVitals, state: State, risk: RiskFunction, treatments: tuple[Treatment, ...], seeds: tuple[int, ...]
) -> Screened:
    """One step of each treatment under each seed, judged by readings against those of ``state``; nothing is drawn."""
    c, k = len(treatments), len(seeds)
    arms = [treatment for treatment in treatments for _ in seeds]
    after = world.step(state.repeat(c * k), arms, step_noise([(seed,) for seed in seeds], 0) * c)  # type: ignore[attr-defined]
    classify = getattr(risk, "classifier", None) is not None
    baseline, look = world.vitals(state, None, classify), world.vitals(after, None, classify)
    _, total, _ = risk.judge(_repeated(baseline, c * k), look, after.patients, after.alive)  # type: ignore[attr-defined]
    peaks = {name: values.reshape(c, k) for name, values in look.items()}
    return Screened(np.asarray(total).reshape(c, k), ~after.alive.reshape(c, k), peaks)


def _repeated(baseline: Look, n: int) -> Look:
    return baseline.take(np.zeros(n, int))
