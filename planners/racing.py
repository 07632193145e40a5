"""``Race``: spend samples where they decide. Arms that are surely not the best leave; the rest are drawn again.

Successive elimination with common random numbers: after each round every arm is compared with the leader by the paired
difference of their scores, and leaves when the difference is surely above ``-indifference``. Pairing makes the
difference sharp; Bonferroni over arms and rounds keeps the promise that, with probability ``confidence``, the winner's
score is at most ``indifference`` above the best (cf. Even-Dar, Mannor & Mansour 2006, JMLR 7:1079; Kim & Nelson 2001,
doi:10.1145/502109.502111). The scores may be means or any smooth measure: their paired differences are jackknifed.
The promise is about sampling noise, and approximate, as Student's t is for few futures; it knows no error of a world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

Score = Callable[[np.ndarray], np.ndarray]  # (..., K) -> (...)


@dataclass
class Race:
    """Which arms to draw next: ``while race.running: race.tell(draw(race.arms, race.columns))``."""

    n: int  # arms
    score: Score
    budget: int  # draws in all, over all arms
    start: int = 6  # draws of each arm in the first round
    batch: int = 4  # draws of each arm that is left in the later rounds
    confidence: float = 0.95
    indifference: float = 0.01  # difference of scores that does not matter
    losses: list[np.ndarray] = field(init=False)  # (k_i,) each
    left: list[int] = field(init=False)  # arms that may still be the best
    usage: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.start < 3 or self.batch < 1 or not 0.5 < self.confidence < 1 or self.indifference < 0:
            raise ValueError(
                f"start, batch, confidence, indifference are {self.start}, {self.batch}, {self.confidence}, "
                f"{self.indifference}; expected at least 3, at least 1, within (0.5, 1), at least 0; leave them out"
            )
        if self.budget < self.n * 3:
            raise ValueError(
                f"budget is {self.budget} for {self.n} arms; expected at least 3 draws of each, {3 * self.n}; "
                "give more or ask for fewer arms"
            )
        self.start = min(self.start, self.budget // self.n)
        self.losses = [np.zeros(0) for _ in range(self.n)]
        self.left = list(range(self.n))

    @property
    def rounds(self) -> int:
        """Rounds there can be at most: the doubts that confidence is shared out to."""
        return 1 + max(0, self.budget - self.n * self.start) // (2 * self.batch)

    @property
    def running(self) -> bool:
        """Whether anything is left to find out, and to spend."""
        return not len(self.losses[0]) or (len(self.left) > 1 and self.usage + len(self.left) <= self.budget)

    @property
    def columns(self) -> range:
        """Which draws come next: the same numbers, so the same noise, for every arm."""
        done = len(self.losses[self.left[0]])
        more = self.start if done == 0 else min(self.batch, (self.budget - self.usage) // len(self.left))
        return range(done, done + more)

    def tell(self, samples: np.ndarray) -> None:
        """Take in the losses ``(len(left), len(columns))`` of the arms that are left; the surely worse leave."""
        self.usage += samples.size
        for arm, row in zip(self.left, samples):
            self.losses[arm] = np.concatenate([self.losses[arm], row])
        leader = self.leader
        quantile = 1 - (1 - self.confidence) / (max(1, self.n - 1) * self.rounds)
        survivors = []
        for arm in self.left:
            difference, error = paired(self.losses[arm], self.losses[leader], self.score)
            low = difference - error * student.ppf(quantile, len(self.losses[leader]) - 1)
            if arm == leader or low <= -self.indifference:
                survivors.append(arm)
        self.left = survivors

    @property
    def leader(self) -> int:
        """The arm that is left with the lowest score; of equals the first."""
        scores = [float(self.score(self.losses[arm])) for arm in self.left]
        return self.left[int(np.argmin(scores))]

    def certainty(self) -> float:
        """A lower bound of P(the leader has the lowest score): 1 - sum over arms of P(it is lower), at least 0."""
        leader, doubt = self.leader, 0.0
        for arm in range(self.n):
            if arm != leader:
                difference, error = paired(self.losses[arm], self.losses[leader], self.score)
                degrees = min(len(self.losses[arm]), len(self.losses[leader])) - 1
                doubt += below(difference, error, degrees)
        return max(0.0, 1 - doubt)


def paired(a: np.ndarray, b: np.ndarray, score: Score) -> tuple[float, float]:
    """S(a) - S(b) and its standard error, from the draws that both have (same column, same noise).

    Of jackknife pseudo-values (Tukey 1958; Efron & Stein 1981, Ann Stat 9:586): for a mean they are the draws
    themselves, and this is the paired t statistic.
    """
    k = min(len(a), len(b))
    values = pseudo_values(a[:k], score) - pseudo_values(b[:k], score)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(k))


def pseudo_values(losses: np.ndarray, score: Score) -> np.ndarray:
    """``k S - (k - 1) S_without_i`` of losses ``(k,)``, ``(k,)``."""
    k = len(losses)
    without = np.broadcast_to(losses, (k, k))[~np.eye(k, dtype=bool)].reshape(k, k - 1)
    return k * float(score(losses)) - (k - 1) * score(without)


def below(difference: float, error: float, degrees: int) -> float:
    """P(a difference is really below 0), as Student's t has it; without any error a half for 0, else 0 or 1."""
    if error == 0:
        return float(np.select([difference > 0, difference < 0], [0.0, 1.0], 0.5))
    return float(student.cdf(-difference / error, degrees))


def interval_of(a: np.ndarray, b: np.ndarray, score: Score, level: float = 0.95) -> tuple[float, float]:
    """The paired interval of S(a) - S(b)."""
    difference, error = paired(a, b, score)
    half = error * float(student.ppf((1 + level) / 2, min(len(a), len(b)) - 1))
    return difference - half, difference + half


def uniform(arms: int, budget: int) -> Sequence[int]:
    """What equal shares would draw of each arm."""
    return [budget // arms + (i < budget % arms) for i in range(arms)]
