"""What a step costs a planner: minus the reward that its env would give, a user's own reward included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.core import State, Treatment
from ecg_gym.envs.episode import Reward, Transition
from ecg_gym.envs.reward import price_terms
from ecg_gym.rollout import Judgement

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


@dataclass(frozen=True)
class EnvPrice:
    """Costs of the next steps of an episode that is ``horizon`` steps long, ``steps`` of which are over."""

    reward: Reward
    horizon: int  # steps of the whole episode
    most_doses: int  # of the largest treatment on the menu
    steps: int = 0

    def __call__(
        self, step: int | np.ndarray, before: State, after: State, treatments: Sequence[Treatment], judgement: Judgement
    ) -> np.ndarray:
        """Minus the reward ``(B,)``; ValueError where the reward does not keep its promises."""
        transition = Transition(
            steps=np.broadcast_to(self.steps + np.asarray(step), len(after)),
            before=before,
            after=after,
            treatments=tuple(treatments),
            refused=np.zeros(len(after), bool),
            lost=~(after.alive & judgement.finite),
            risk=judgement.risk,
            intervals=judgement.intervals,
            horizon=self.horizon,
            most_doses=self.most_doses,
        )
        return -np.sum(list(price_terms(self.reward, transition).values()), axis=0)


def price_of(env: ECGInterventionEnv) -> EnvPrice:
    """The price of the env's own reward from now on: a death costs what it would in the env."""
    most = max(len(treatment.doses) for treatment in env.menu)
    return EnvPrice(env.task.reward, int(env.episode.horizon[0]), most, int(env.episode.steps[0]))
