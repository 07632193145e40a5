"""The upper anchor: exhaustive ranking in the env's own world, from its own state. In the virtual patient, the truth.

It knows the heart and its hidden sensitivity, not the dice of the steps to come. It is a strong planner, not a proven
optimum: each candidate is followed by watching, so that plans of several different doses are found one step at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecg_gym.core import State, Treatment
from ecg_gym.registration import HORIZON
from planners import Plan, PlanInfo, Planner, plan
from planners.base import allowed

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


class Oracle(Planner):
    """Every allowed treatment with ``sift`` futures, then the best ``keep`` with ``k``, over ``horizon`` steps."""

    def __init__(
        self,
        env: Any,
        sift: int = 4,
        keep: int = 4,
        k: int = 12,
        horizon: int = 2,  # [steps] to look ahead
        last: int = HORIZON,  # [steps] of an episode, beyond which nothing counts
        seed: int = 0,
    ) -> None:
        super().__init__(env)
        self.sift, self.keep, self.k, self.horizon, self.last, self.seed = sift, keep, k, horizon, last, seed

    def reset(self, seed: int | None = None) -> None:
        """With a seed, imagine with that one from now on."""
        self.seed = self.seed if seed is None else seed

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The treatment with the lowest mean true risk."""
        options = allowed(env)
        steps = max(1, min(self.horizon, self.last - int(env.episode.steps[0])))
        calls = 0
        if len(options) > self.keep:
            sifted = self._plan(env, state, options, self.sift, steps, self.seed)
            options = tuple(candidate.treatment for candidate in sifted.candidates[: self.keep])
            calls += sifted.model_calls
        ranked = self._plan(env, state, options, self.k, steps, self.seed + 1)
        lost = sum(candidate.n_nonfinite for candidate in ranked.candidates)
        return PlanInfo(ranked.best.treatment, calls + ranked.model_calls, lost, ranked)

    def _plan(
        self, env: ECGInterventionEnv, state: State, options: tuple[Treatment, ...], k: int, horizon: int, seed: int
    ) -> Plan:
        return plan(
            env.world, state, options, env.risk,
            k=k, risk_aversion=0.0, seed=seed, horizon=horizon, first=env.episode.first, rules=lambda *_, **__: (),
        )  # fmt: skip
