"""``PolicyPlanner``: a policy of stable-baselines3 as a planner. (Planners are policies already: see ``predict``.)

Masks reach those that take them (``MaskablePPO``), and the memory of recurrent ones (``RecurrentPPO``) is kept from
decision to decision of an episode. No torch is loaded here: the model brings its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, State
from planners.base import PlanInfo, Planner, allowed_treatments
from planners.history import stands_for

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv

REFUSED = "the policy chose what the clinical rules refuse now"


class PolicyPlanner(Planner):
    """Does what a trained policy says: anything with SB3's ``predict(observation, state, episode_start, ...)``.

    Where a policy without masks asks for what is not allowed now, it watches, as the env would make it do, and
    ``PlanInfo.abstained`` says so.
    """

    def __init__(self, env: Any, model: Any, deterministic: bool = True) -> None:
        super().__init__(env)
        self.model, self.deterministic = model, deterministic
        self.takes_masks = "action_masks" in inspect.signature(model.predict).parameters
        self._memory: dict[int, tuple[np.ndarray, int, Any, Any]] = {}  # first strip, steps, memory before and after

    def reset(self, seed: int | None = None) -> None:
        """Forget every episode."""
        self._memory.clear()

    def forget(self, env: ECGInterventionEnv) -> None:
        """Forget the episode of this env."""
        self._memory.pop(id(env), None)

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """What the policy says to the env's current observation; ``ValueError`` for a state that is not the env's."""
        if not stands_for(state, env):
            raise ValueError(
                "the state is not the env's own; expected that one: a policy reads the observation of the env, not a "
                "state; leave state out"
            )
        return self._decide(env, env.observation())

    def act(
        self, obs: Any = None, info: Mapping[str, Any] | None = None, state: State | None = None
    ) -> tuple[Any, PlanInfo]:
        """The action for the first env; ``obs`` may come from wrappers that the policy was trained with."""
        if obs is None or state is not None:
            return super().act(obs, info, state)
        decision = self._decide(self.envs[0], obs)
        return self.envs[0].action(decision.treatment), decision

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """The actions for a batch of observations, or for one; row i belongs to env i."""
        self._begin(episode_start)
        batched = self._batched(observation)
        rows = [_row(observation, i) for i in range(len(self.envs))] if batched else [observation]
        actions = [env.action(self._decide(env, row).treatment) for env, row in zip(self.envs, rows)]
        return np.asarray(actions if batched else actions[0]), state

    def _decide(self, env: ECGInterventionEnv, observation: Any) -> PlanInfo:
        steps, first = int(env.episode.steps[0]), env.episode.first
        entry, before = self._memory.get(id(env)), None
        if entry is not None and np.array_equal(entry[0], first):
            before = {steps: entry[2], steps - 1: entry[3]}.get(entry[1])
        masks: dict[str, Any] = {"action_masks": env.action_masks()} if self.takes_masks else {}
        begins = np.array([before is None])
        action, after = self.model.predict(
            observation, state=before, episode_start=begins, deterministic=self.deterministic, **masks
        )
        self._memory[id(env)] = (first, steps, before, after)
        treatment = env.treatment(action)
        return PlanInfo(treatment) if treatment in allowed_treatments(env) else PlanInfo(WATCH, abstained=REFUSED)


def _row(observation: Any, row: int) -> Any:
    """One row of a batch of observations."""
    return {k: v[row] for k, v in observation.items()} if isinstance(observation, Mapping) else observation[row]


def prior_and_value(model: Any) -> tuple[Any, Any]:
    """Of an actor-critic of SB3 (PPO, MaskablePPO): the two functions that ``TreeSearchPlanner`` takes.

    The first says the policy's probabilities ``(B, n)`` of what is allowed, for observations ``(B, d)`` and masks
    ``(B, n)``; the second the critic's values ``(B,)``. Raises ``ValueError`` for a model without a critic.
    """
    policy = model.policy
    if not hasattr(policy, "predict_values") or not hasattr(policy, "get_distribution"):
        raise ValueError(
            f"the model is a {type(model).__name__}; expected an actor-critic such as PPO or MaskablePPO; leave prior "
            "and value out"
        )

    def prior(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        inputs, _ = policy.obs_to_tensor(observations)
        chances = policy.get_distribution(inputs).distribution.probs.detach().cpu().numpy()
        allowed_chances = np.where(masks, chances + 1e-9, 0.0)
        return allowed_chances / np.maximum(allowed_chances.sum(axis=1, keepdims=True), 1e-12)

    def value(observations: np.ndarray) -> np.ndarray:
        inputs, _ = policy.obs_to_tensor(observations)
        return policy.predict_values(inputs).detach().cpu().numpy()[:, 0]

    return prior, value
