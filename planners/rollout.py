"""``futures(world, state, treatments, seeds, risk)`` returns K sampled futures of one patient under each treatment.

Future k of every treatment is drawn with the same seed (common random numbers), and each row carries its own generator,
so a row's result depends neither on the batch it stood in nor on which other treatments were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World, concatenate
from ecg_gym.rollout import BATCH_ROWS, First, Judgement, RiskFunction, first_of, step_noise

Progress = Callable[[int, int], None]  # rows done, rows in all


class Price(Protocol):
    """What a step costs; :class:`planners.pricing.EnvPrice` is minus the reward of an env."""

    def __call__(
        self, step: int | np.ndarray, before: State, after: State, treatments: Sequence[Treatment], judgement: Judgement
    ) -> np.ndarray:
        """Costs ``(B,)`` of step ``step`` (0 is the next one; one for all rows, or ``(B,)``) of each row."""
        ...


@dataclass(frozen=True)
class Strips:
    """The strips at the end of C x K futures, drawn when somebody looks: ``strips[row]`` is (K, 12, 1024) [mV]."""

    rows: tuple[State, ...]  # the K hearts of each treatment

    def __getitem__(self, row: int) -> np.ndarray:
        return self.rows[row].ecg

    def of(self, row: int) -> Strips:
        """One treatment's."""
        return Strips(self.rows[row : row + 1])

    @classmethod
    def join(cls, parts: Sequence[Strips]) -> Strips:
        """More futures of the same treatments, side by side."""
        return cls(tuple(concatenate(rows) for rows in zip(*(part.rows for part in parts))))


@dataclass(frozen=True)
class Futures:
    """K futures of C treatments, one row per treatment."""

    risks: np.ndarray  # (C, K) in [0, 1]: mean over the steps of the horizon; 1 where not finite or not alive
    finite: np.ndarray  # (C, K) bool
    alive: np.ndarray  # (C, K) bool, at the end
    intervals: Mapping[str, np.ndarray]  # name -> (C, K), measured at the end; NaN where not measurable
    peaks: Mapping[str, np.ndarray]  # name -> (C, K), the highest on the way; NaN where not measurable at some step
    ecg: Strips  # at the end
    model_calls: int  # rows times steps asked of the world

    @property
    def lost(self) -> np.ndarray:
        """(C, K) bool: died, or not finite."""
        return ~(self.finite & self.alive)

    def of(self, row: int) -> Futures:
        """One treatment's futures, (1, K)."""
        part = slice(row, row + 1)
        intervals, peaks = ({name: x[part] for name, x in table.items()} for table in (self.intervals, self.peaks))
        whole = len(self.risks)
        return Futures(
            self.risks[part], self.finite[part], self.alive[part], intervals, peaks, self.ecg.of(row),
            self.model_calls // whole,
        )  # fmt: skip

    @classmethod
    def join(cls, parts: Sequence[Futures]) -> Futures:
        """More futures of the same treatments, side by side."""

        def beside(arrays: list[np.ndarray]) -> np.ndarray:
            return np.concatenate(arrays, axis=1)

        risks, finite, alive = (beside([getattr(p, name) for p in parts]) for name in ("risks", "finite", "alive"))
        intervals = {name: beside([p.intervals[name] for p in parts]) for name in parts[0].intervals}
        peaks = {name: beside([p.peaks[name] for p in parts]) for name in parts[0].peaks}
        ecg = Strips.join([p.ecg for p in parts])
        return cls(risks, finite, alive, intervals, peaks, ecg, sum(p.model_calls for p in parts))


def common_seeds(seed: int, k: int) -> tuple[int, ...]:
    """``k`` seeds out of one; the first three of sixteen are the three of three."""
    return tuple(int(s) for s in np.random.SeedSequence(seed).generate_state(k))


def futures(
    world: World,
    state: State,
    treatments: Sequence[Treatment],
    seeds: Sequence[int],
    risk: RiskFunction,
    *,
    horizon: int = 1,
    names: Sequence[str] = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms"),
    batch_rows: int = BATCH_ROWS,
    progress: Progress | None = None,
    particles: State | None = None,
    first: np.ndarray | None = None,
    price: Price | None = None,
) -> Futures:
    """Each treatment given once, then watching up to ``horizon`` [steps]; every step judged against ``first``.

    Future k starts at row k of ``particles`` (what the patient may be like, as many rows as seeds), or at ``state``.
    ``first (1, 12, 1024)`` [mV] is the strip that risk is judged against, by default that of ``state``; a world that
    emits is judged by what it says of that strip and of the futures, and draws none of them. With a
    ``price``, ``risks`` are mean costs of a step by it (minus the reward of an env) instead of mean risks.
    """
    if len(state) != 1:
        raise ValueError(f"state holds {len(state)} patients; expected one; plan for each with state[i]")
    if particles is not None and len(particles) != len(seeds):
        raise ValueError(f"{len(particles)} particles for {len(seeds)} seeds; expected one each; resample them")
    sampled = np.tile(np.arange(len(seeds)), len(treatments))
    rows = [(treatment, seed) for treatment in treatments for seed in seeds]
    parts, ends, against = [], [], first_of(world, risk, state, first)
    for start in range(0, len(rows), batch_rows):
        part = rows[start : start + batch_rows]
        crowd = state.repeat(len(part)) if particles is None else particles[sampled[start : start + batch_rows]]
        end, result = _roll(world, crowd, against, part, risk, horizon, names, price)
        ends.append(end)
        parts.append(result)
        if progress is not None:
            progress(min(start + batch_rows, len(rows)), len(rows))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    grid = {name: x.reshape(len(treatments), len(seeds), *x.shape[1:]) for name, x in joined.items()}
    readings, peaks = {name: grid[name] for name in names}, {name: grid[f"peak {name}"] for name in names}
    whole, k = concatenate(ends), len(seeds)
    strips = Strips(tuple(whole[i * k : (i + 1) * k] for i in range(len(treatments))))
    return Futures(grid["risk"], grid["finite"], grid["alive"], readings, peaks, strips, len(rows) * horizon)


def _roll(
    world: World,
    crowd: State,
    before: First,
    rows: Sequence[tuple[Treatment, int]],
    risk: RiskFunction,
    horizon: int,
    names: Sequence[str],
    price: Price | None,
) -> tuple[State, dict[str, np.ndarray]]:
    """One batch of futures: hearts at the end, and an array (rows, ...) per quantity."""
    seeds, treatments = [(seed,) for _, seed in rows], [treatment for treatment, _ in rows]
    total, finite = np.zeros(len(rows)), np.ones(len(rows), bool)
    peaks = {name: np.full(len(rows), -np.inf) for name in names}
    for step in range(horizon):
        before_step = crowd
        crowd = world.step(crowd, treatments, step_noise(seeds, step))
        judgement = Judgement.of(risk, before, crowd, names, world)
        if price is None:
            total += judgement.risk
        else:  # the episode of a row that is lost is over: nothing more is paid
            total += np.where(before_step.alive & finite, price(step, before_step, crowd, treatments, judgement), 0.0)
        finite &= judgement.finite
        peaks = {name: np.maximum(peaks[name], judgement.intervals[name]) for name in names}
        treatments = [WATCH] * len(rows)
    risks = np.where(finite, total / horizon, 1.0) if price is None else total / horizon
    highest = {f"peak {name}": values for name, values in peaks.items()}
    return crowd, {"risk": risks, "finite": finite, "alive": crowd.alive, **judgement.intervals, **highest}
