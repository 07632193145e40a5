"""``branches(world, state, courses, seeds, risk)`` follows whole courses of treatment over several steps.

A course is what is given at each step, and watching afterwards. Future k of every course is drawn with the same seed,
and courses that begin alike share their beginning: they part only where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World, concatenate
from ecg_gym.rollout import BATCH_ROWS, First, Judgement, RiskFunction, first_of, step_noise
from planners.rollout import Progress
from planners.scoring import mean_and_sd

Course = tuple[Treatment, ...]


@dataclass(frozen=True)
class Branch:
    """K futures of one course over H steps."""

    course: Course  # as asked for, without the watching afterwards
    risks: np.ndarray  # (H, K) in [0, 1]; 1 where not finite or not alive
    finite: np.ndarray  # (H, K) bool: so far
    alive: np.ndarray  # (H, K) bool
    intervals: Mapping[str, np.ndarray]  # name -> (H, K); NaN where not measurable
    state: State  # the K futures after the last step
    early: State  # and after the first

    @property
    def first(self) -> np.ndarray:
        """Their strips after the first step ``(K, 12, 1024)`` [mV]; drawn when somebody looks."""
        return self.early.ecg

    @property
    def mean(self) -> float:
        """Mean risk over steps and futures."""
        return float(self.risks.mean())

    @property
    def sd(self) -> float:
        """c4-corrected SD over futures of their mean risk over steps; NaN for one future."""
        return float(mean_and_sd(self.risks.mean(axis=0))[1])


@dataclass
class _Node:
    state: State
    risk: np.ndarray
    finite: np.ndarray
    intervals: dict[str, np.ndarray]


def branches(
    world: World,
    state: State,
    courses: Sequence[Course],
    seeds: Sequence[int],
    risk: RiskFunction,
    *,
    steps: int,
    names: Sequence[str] = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms"),
    first: np.ndarray | None = None,
    batch_rows: int = BATCH_ROWS,
    progress: Progress | None = None,
) -> tuple[Branch, ...]:
    """Each course followed for ``steps`` from a state of one patient.

    Every strip is judged against ``first (1, 12, 1024)`` [mV], by default ``state.ecg``.
    ``progress(done, total)`` counts rows of all steps. Raises ``ValueError`` for several patients, a course longer than
    ``steps``, or no steps at all.
    """
    if len(state) != 1:
        raise ValueError(f"state holds {len(state)} patients; expected one; follow each with state[i]")
    if steps < 1 or (longest := max(map(len, courses), default=0)) > steps:
        raise ValueError(f"steps is {steps} and the longest course {longest if steps > 0 else '?'}; "
                         "expected at least one step and none beyond the last; raise steps")  # fmt: skip
    whole = {course: (*course, *[WATCH] * (steps - len(course))) for course in courses}
    layers = [list(dict.fromkeys(c[: t + 1] for c in whole.values())) for t in range(steps)]
    total, done = sum(map(len, layers)) * len(seeds), 0
    k = len(seeds)
    start = _Node(state.repeat(k), np.zeros(k), np.ones(k, bool), {})
    trace: dict[Course, _Node] = {(): start}
    against = first_of(world, risk, state, first)
    for step, layer in enumerate(layers):
        size = max(1, batch_rows // k)
        for i in range(0, len(layer), size):
            some = layer[i : i + size]
            trace |= zip(some, _step(world, against, [(trace[c[:-1]], c[-1]) for c in some], risk, names, seeds, step))
            done += len(some) * k
            if progress is not None:
                progress(done, total)
    return tuple(_branch(course, [trace[whole[course][: t + 1]] for t in range(steps)], names) for course in courses)


def _step(
    world: World,
    before: First,
    moves: Sequence[tuple[_Node, Treatment]],
    risk: RiskFunction,
    names: Sequence[str],
    seeds: Sequence[int],
    step: int,
) -> list[_Node]:
    """One step from each node under its treatment, all in one batch."""
    k = len(seeds)
    crowd = world.step(
        concatenate([node.state for node, _ in moves]),
        [treatment for _, treatment in moves for _ in range(k)],
        step_noise([(seed,) for _ in moves for seed in seeds], step),
    )
    judgement = Judgement.of(risk, before, crowd, names, world)
    finite = judgement.finite & np.concatenate([node.finite for node, _ in moves])
    risks = np.where(finite, judgement.risk, 1.0)
    parts = [slice(i * k, (i + 1) * k) for i in range(len(moves))]
    return [
        _Node(crowd[part], risks[part], finite[part], {name: x[part] for name, x in judgement.intervals.items()})
        for part in parts
    ]


def _branch(course: Course, nodes: Sequence[_Node], names: Sequence[str]) -> Branch:
    return Branch(
        course=course,
        risks=np.stack([node.risk for node in nodes]),
        finite=np.stack([node.finite for node in nodes]),
        alive=np.stack([node.state.alive for node in nodes]),
        intervals={name: np.stack([node.intervals[name] for node in nodes]) for name in names},
        state=nodes[-1].state,
        early=nodes[0].state,
    )
