"""Step a crowd of hearts and judge it: the one place where futures are made, for env, planners and studies.

Seed rule: the noise of one row at one step is ``noise(*words, step)``, a generator of its own. Rows that are compared
(candidates of a plan, arms of a study) are given the same words: common random numbers, whatever batch they stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ecg_gym.core import Patient, State, Treatment, World, concatenate
from ecg_gym.look import Look
from ecg_gym.powers import Emits, measured_pressure
from ecg_gym.risk.limits import PRESSURE, pressure_term

BATCH_ROWS = 64
First = np.ndarray | Look  # strips (1 or B, 12, 1024) [mV], or what was read off them
Progress = Callable[[int], None]  # rows that have been stepped since the last call


class RiskFunction(Protocol):
    """Anything that judges strips ``after`` against ``before``, such as :class:`ecg_gym.risk.RiskModel`."""

    def __call__(
        self, before: np.ndarray, after: np.ndarray, patients: Sequence[Patient], alive: np.ndarray | None = None
    ) -> Any:
        """From (B, 12, 1024) [mV] a result with ``total (B,)`` in [0, 1], ``intervals`` of ``after``, ``finite``."""
        ...


def noise(*words: int) -> np.random.Generator:
    """The generator that these words name, always the same."""
    return np.random.default_rng(words)


def step_noise(rows: Iterable[Sequence[int]], step: int) -> list[np.random.Generator]:
    """One generator per row for one step: ``noise(*row, step)``."""
    return [noise(*words, step) for words in rows]


def advance(
    world: World,
    state: State,
    treatments: Sequence[Treatment],
    rngs: Sequence[np.random.Generator],
    progress: Progress = lambda rows: None,
    batch_rows: int = BATCH_ROWS,
) -> State:
    """One step of any number of rows, ``batch_rows`` at a time; row i draws from ``rngs[i]`` only."""
    parts = []
    for start in range(0, len(state), batch_rows):
        rows = slice(start, start + batch_rows)
        parts.append(world.step(state[rows], treatments[rows], rngs[rows]))
        progress(len(parts[-1]))
    return concatenate(parts)


@dataclass(frozen=True)
class Judgement:
    """What a risk function says of B strips. What is unknown is the worst, never 0."""

    risk: np.ndarray  # (B,) in [0, 1]; 1 for the dead and for what is not finite
    finite: np.ndarray  # (B,) bool: the strip and everything said of it are numbers
    intervals: Mapping[str, np.ndarray]  # name -> (B,) [ms, 1/min]; NaN where not measurable
    assessment: Any  # the risk function's own result

    @classmethod
    def of(
        cls, risk: RiskFunction, first: First, state: State, names: Sequence[str] = (), world: Any = None
    ) -> Judgement:
        """``state`` judged against ``first`` of 1 or B rows: its strips, or what ``world`` says of them to a look."""
        if isinstance(first, Look):
            before = first if first.n == len(state) else first.take(np.zeros(len(state), int))
            assessment = risk.of_looks(before, world.vitals(state), state.patients, state.alive)  # type: ignore[attr-defined]
            sound, absent = np.ones(len(state), bool), np.full(len(state), np.nan)
            table = {name: np.asarray(getattr(assessment.intervals, name, absent), dtype=float) for name in names}
        else:
            assessment = risk(np.broadcast_to(first, state.ecg.shape), state.ecg, state.patients, state.alive)
            sound = np.isfinite(state.ecg).all(axis=(1, 2))
            rows = [assessment.intervals.row(i) for i in range(len(state))] if names else []
            table = {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in names}
        pressure = measured_pressure(world, state)
        total = 1 - (1 - np.asarray(assessment.total, dtype=float)) * (1 - pressure_term(pressure))
        finite = np.asarray(assessment.finite) & sound & np.isfinite(total)
        if names:
            table[PRESSURE.quantity] = pressure
        return cls(np.where(finite & state.alive, np.nan_to_num(total, nan=1.0), 1.0), finite, table, assessment)


def first_of(world: Any, risk: RiskFunction, state: State, first: np.ndarray | None = None) -> First:
    """What futures of ``state`` are judged against: what a world that emits said of the first strip, or of that of
    ``state`` where no ``first`` is given; in other worlds ``first (1, 12, 1024)`` [mV], or the strip of ``state``.
    """
    if isinstance(world, Emits) and world.emits and hasattr(risk, "of_looks"):
        return world.vitals(state) if first is None else world.first_look(state)
    return state.ecg if first is None else first


def judged_now(world: Any, risk: RiskFunction, state: State) -> Any:
    """What the risk function says of a state as it is, judged against itself."""
    return Judgement.of(risk, first_of(world, risk, state), state, world=world).assessment
