"""Decisions to take apart: sampled risks of every allowed treatment in the learned world, and what they are in truth.

Drawn once, then asked again and again for other lambda and other K: the risks of K futures of C treatments, for one
person after another, beside two independent sets in the virtual patient. By one of them choices are judged, by the
other the oracle chooses, so that its luck is not counted as knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import load_scenarios, scenario_named
from ecg_gym.rollout import RiskFunction, judged_now
from planners.ranking import admit
from planners.rollout import common_seeds, futures
from planners.scoring import score
from training.evaluation.questions import HELD_OUT, PURPOSES, seen_by
from training.evaluation.result import Size
from training.evaluation.trajectories import Progress

USUAL, SMALL = Size(patients=24, samples=32), Size(patients=4, samples=8)
CANDIDATES = {True: 10, False: 5}  # at most, per person, for a usual and a small number of futures
JUDGES = 24  # futures of each treatment in the virtual patient, to judge by and again to be the oracle with


@dataclass(frozen=True)
class Decision:
    """One person's candidates; "watch and wait" is the first."""

    scenario: str
    treatments: tuple[Treatment, ...]  # C
    risks: np.ndarray  # (C, K) of futures in the world, column k with the same noise for all
    now: float  # risk of the strip the world has seen
    true: np.ndarray  # (C, J) of futures in the virtual patient
    oracle: np.ndarray  # (C, J) of others
    true_now: float
    before: State  # the person, as the virtual patient knows them: a batch of one
    spare: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))  # (C, J) of others still

    @property
    def value(self) -> np.ndarray:
        """True mean risk ``(C,)``."""
        return self.true.mean(axis=1)

    @property
    def best(self) -> int:
        """What the oracle takes."""
        return int(self.oracle.mean(axis=1).argmin())

    def of(self, columns: Sequence[int] | np.ndarray) -> Decision:
        """The same decision on some of the futures."""
        return replace(self, risks=self.risks[:, columns])

    def choice(self, risk_aversion: float) -> int:
        """The candidate with the lowest S; of equals the first. One future has no spread, so lambda is left out."""
        return int(score(self.risks, risk_aversion).argmin())

    def regret(self, index: int) -> float:
        """True mean risk above that of the oracle's choice."""
        return float(self.value[index] - self.value[self.best])


def most_candidates(size: Size) -> int:
    """How many treatments each person is offered at most."""
    return CANDIDATES[size.samples > SMALL.samples]


def rows_of(size: Size) -> int:
    """How many rows are asked of the world at most, for the progress bar."""
    return most_candidates(size) * size.patients * size.samples * len(size.seeds)


def decisions(
    world: World,
    truth: World,
    size: Size,
    risk: RiskFunction,
    scenarios: Sequence[str] = (),
    progress: Progress = lambda rows: None,
    judges: int = JUDGES,
) -> list[Decision]:
    """One decision for each of ``size.patients`` people per seed, the scenarios in turn; ``judges`` futures judge.

    ``truth`` is the world the people live in. Those who do not live through the first strip are not among them.
    """
    names = list(scenarios) or list(load_scenarios())
    return [
        _decide(world, truth, names[person % len(names)], size, risk, (seed, person), progress, judges)
        for seed in size.seeds
        for person in range(size.patients)
    ]


def _decide(
    world: World,
    truth: World,
    scenario: str,
    size: Size,
    risk: RiskFunction,
    who: tuple[int, int],
    progress: Progress,
    judges: int,
) -> Decision:
    rng = np.random.default_rng([HELD_OUT, PURPOSES["test"], *who, 4])
    row = scenario_named(scenario)
    state = start(truth, row, rng)
    view = seen_by(world, state)
    here, there = judged_now(world, risk, view), judged_now(truth, risk, state)
    intervals = {name: float(value) for name, value in there.intervals.row(0).items()}
    allowed = [t for t in admit(row.menu, state, intervals)[0] if t != WATCH]
    picked = rng.permutation(len(allowed))[: most_candidates(size) - 1]
    offered = (WATCH, *(allowed[i] for i in sorted(picked)))
    words = rng.integers(2**31, size=4)

    def sampled(place: World, at: State, k: int, word: int) -> np.ndarray:
        return futures(place, at, offered, common_seeds(int(word), k), risk).risks

    result = sampled(world, view, size.samples, words[0])
    progress(result.size)
    reference, oracle, spare = (sampled(truth, state, judges, word) for word in words[1:])
    return Decision(
        scenario, offered, result, float(here.total[0]), reference, oracle, float(there.total[0]), state, spare
    )


def subsets(k: int, every: int) -> list[np.ndarray]:
    """The columns of ``every`` futures in disjoint groups of ``k``."""
    return [np.arange(i, i + k) for i in range(0, every - k + 1, k)]


def agreement(decision: Decision, groups: Sequence[np.ndarray], risk_aversion: float) -> tuple[float, float]:
    """How often two disjoint groups of futures choose the same, and the Spearman correlation of their rankings."""
    scores = [score(decision.risks[:, columns], risk_aversion) for columns in groups]
    same, order = [], []
    for i, first in enumerate(scores):
        for second in scores[i + 1 :]:
            same.append(float(first.argmin() == second.argmin()))
            order.append(spearman(first, second))
    return (float(np.mean(same)), float(np.nanmean(order))) if same else (np.nan, np.nan)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; NaN where one of them does not vary."""
    return float(stats.spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan


def changes(decisions: Sequence[Decision], risk_aversion: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and true change of risk of every candidate of everybody, and whose it is.

    Predicted is S less the risk now: for a ``risk_aversion`` of 0, the mean change of risk.
    """
    predicted = np.concatenate([score(d.risks, risk_aversion) - d.now for d in decisions])
    true = np.concatenate([d.value - d.true_now for d in decisions])
    return predicted, true, np.concatenate([np.full(len(d.treatments), i) for i, d in enumerate(decisions)])


def correlation(predicted: np.ndarray, true: np.ndarray, ranks: bool = False) -> Callable[[np.ndarray], float]:
    """Pearson's (or Spearman's) correlation over the chosen rows, as a statistic."""

    def statistic(rows: np.ndarray) -> float:
        a, b = predicted[rows], true[rows]
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            return np.nan
        if ranks:
            a, b = stats.rankdata(a), stats.rankdata(b)
        return float(np.corrcoef(a, b)[0, 1])

    return statistic
