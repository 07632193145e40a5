"""What a step is worth, term by term. The usual reward is minus the risk of the strip that the step led to.

A reward is anything that can be called with a :class:`Transition` and returns rewards ``(B,)``, or, if it has
``terms``, a mapping from each term to its share ``(B,)``; the reward is their sum. Name yours by import path:
``gym.make(id, reward="my_package.my_module:my_reward")``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.envs.episode import Reward, Transition

if TYPE_CHECKING:
    pass

MOST_BURDEN = 1000.0  # a dose that costs more than a thousand deaths of an hour is a slip
WHOLE = "reward"  # the only term of a reward that does not name its terms


@dataclass(frozen=True)
class RiskReward:
    """Minus the risk, minus a burden for each dose; a lethal end costs more than any survival.

    With ``worst = 1 + burden x most doses``, what a surviving step can cost at most, a lethal step earns
    ``-worst x (horizon + remaining)`` and nothing else, where ``remaining = horizon - steps`` includes it. So an
    undiscounted episode that ends lethally totals less than any surviving one, and dying later is never worse than
    dying sooner: nobody gains by making a bad episode short. From any step on, under any discount, dying now is worse
    than every way to survive.
    """

    burden: float = 0.0  # cost of one dose: side effects that no strip shows, effort
    terms = ("risk", "burden", "lethal")

    def __post_init__(self) -> None:
        if not isinstance(self.burden, int | float) or not 0 <= self.burden <= MOST_BURDEN:
            raise ValueError(f"burden is {self.burden!r}; expected a number from 0 to {MOST_BURDEN:g}; pass burden=0.0")

    def __call__(self, step: Transition) -> dict[str, np.ndarray]:
        worst = 1 + self.burden * step.most_doses
        remaining = np.maximum(step.horizon - step.steps, 1)
        lives = ~step.lost
        return {
            "risk": np.where(lives, 0.0 - np.minimum(np.maximum(step.risk, 0.0), 1.0), 0.0),
            "burden": np.where(lives, 0.0 - self.burden * step.doses, 0.0),
            "lethal": np.where(lives, 0.0, -worst * (step.horizon + remaining)),
        }


def terms_of(reward: Reward) -> tuple[str, ...]:
    """The names of a reward's terms, the same at every step."""
    return tuple(getattr(reward, "terms", (WHOLE,)))


def price_terms(reward: Reward, step: Transition) -> Mapping[str, np.ndarray]:
    """The terms of a step, each ``(B,)`` float64; ValueError if the reward does not say what it promised."""
    value, names, rows = reward(step), terms_of(reward), len(step.treatments)
    result = value if isinstance(value, Mapping) else {WHOLE: value}
    columns = {name: np.asarray(values, dtype=float) for name, values in result.items()}
    if tuple(columns) != names or any(values.shape != (rows,) for values in columns.values()):
        raise ValueError(
            f"the reward said { {name: values.shape for name, values in columns.items()} } for {rows} rows; expected "
            f"the terms {names} with shape ({rows},) each; give it an attribute `terms`, or return one array"
        )
    return columns


def mean_variance(risks: np.ndarray, risk_aversion: float) -> np.ndarray:
    """``min(1, mean + risk_aversion x SD)`` over the last axis of ``(B, samples)``; a single sample is its own mean."""
    spread = risks.std(axis=-1, ddof=1) if risks.shape[-1] > 1 else 0.0
    return np.minimum(1.0, risks.mean(axis=-1) + risk_aversion * spread)
