"""``SiftingPlanner``: exhaustive ranking in two rounds, so that futures are spent on treatments that may be the best.

In the env's own world it is the upper anchor: in the virtual patient it plans from the truth, hidden sensitivity
included, and only the dice of the steps to come are unknown. It is a strong planner, not a proven optimum: each
candidate is followed by watching, so that plans of several different doses are found one step at a time. In a learned
world it is the same planner from what may be seen; between the two stands nothing but the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecg_gym.core import State, Treatment
from planners import Believed, Plan, PlanInfo, plan
from planners.base import allowed_treatments
from planners.model_based import ModelBasedPlanner, steps_left

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


class TwoStagePlanner(ModelBasedPlanner):
    """Everything allowed with ``sift`` futures over ``horizon`` steps, then the best ``keep`` with ``k`` others."""

    def __init__(
        self,
        env: Any,
        *,
        sift: int = 3,
        keep: int = 3,
        k: int = 8,
        horizon: int = 2,
        risk_aversion: float = 0.0,
        **imagining: Any,  # world, risk, measure, belief, particles, seed: see ImaginingPlanner
    ) -> None:
        super().__init__(env, risk_aversion=risk_aversion, **imagining)
        self.sift, self.keep, self.k, self.horizon, self.risk_aversion = sift, keep, k, horizon, risk_aversion

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The treatment with the lowest score, with the plan of the last round."""
        believed, options = self.believed(env, state), allowed_treatments(env)
        steps, calls = min(self.horizon, steps_left(env)), believed.model_calls
        if len(options) > self.keep:
            sifted = self._plan(env, believed, options, self.sift, steps, self.seed)
            options = tuple(candidate.treatment for candidate in sifted.candidates[: self.keep])
            calls += sifted.model_calls
        ranked = self._plan(env, believed, options, self.k, steps, self.seed + 1)
        lost = sum(candidate.n_nonfinite for candidate in ranked.candidates)
        return PlanInfo(ranked.best.treatment, calls + ranked.model_calls, lost, ranked)

    def _plan(
        self, env: ECGInterventionEnv, believed: Believed, options: tuple[Treatment, ...], k: int, horizon: int,
        seed: int,
    ) -> Plan:  # fmt: skip
        particles = None if believed.particles is None else believed.rows(k)
        return plan(
            self.world_of(env), believed.state, options, self.risk_of(env), k=k, risk_aversion=self.risk_aversion,
            seed=seed, horizon=horizon, rules=lambda *_, **__: (), measure=self.measure, particles=particles,
            first=believed.first, price=self.price_of(env),
        )  # fmt: skip
