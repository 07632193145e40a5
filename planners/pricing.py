"""What a step costs a planner: minus the reward that its env would give, a user's own reward included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.core import State, Treatment
from ecg_gym.envs.episode import Reward, Transition
from ecg_gym.envs.reward import RiskReward, priced
from ecg_gym.rollout import Judgement

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


@dataclass(frozen=True)
class EnvPrice:
    """Costs of the steps of an episode that is ``horizon`` steps long and begins now."""

    reward: Reward
    horizon: int  # steps
    most_doses: int  # of the largest treatment on the menu

    def __call__(
        self, step: int | np.ndarray, before: State, after: State, given: Sequence[Treatment], judgement: Judgement
    ) -> np.ndarray:
        """Minus the reward ``(B,)``; ValueError where the reward does not keep its promises."""
        transition = Transition(
            steps=np.broadcast_to(step, len(after)),
            before=before,
            after=after,
            given=tuple(given),
            refused=np.zeros(len(after), bool),
            lost=~(after.alive & judgement.finite),
            risk=judgement.risk,
            intervals=judgement.intervals,
            horizon=self.horizon,
            most_doses=self.most_doses,
        )
        return -np.sum(list(priced(self.reward, transition).values()), axis=0)


def price_of(env: ECGInterventionEnv, horizon: int) -> EnvPrice:
    """The price of the env's own reward for a plan of ``horizon`` steps."""
    return EnvPrice(env.task.reward, horizon, max(len(treatment.doses) for treatment in env.menu))


def risk_alone(env: ECGInterventionEnv) -> bool:
    """Whether the env's reward is minus the risk and nothing else, so that ranking by risk is ranking by reward."""
    return isinstance(env.task.reward, RiskReward) and env.task.reward.burden == 0
