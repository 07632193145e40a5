"""``ImaginingPlanner``: a planner that asks a world what would happen: which one, from which belief, which seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecg_gym.core import State, World
from ecg_gym.rollout import RiskFunction
from planners.base import Planner
from planners.belief import HOWS, Belief, Believed
from planners.history import chart_of, stands_for
from planners.measures import Measure, resolved
from planners.pricing import price_of
from planners.rollout import Price

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


class ModelBasedPlanner(Planner):
    """What planners that imagine have in common.

    ``world`` is where they imagine (default: the env's own, which for the virtual patient makes them an oracle);
    ``risk`` is what judges (default: the env's own); ``measure`` makes one score of many futures; ``belief`` is one of
    ``planners.belief.HOWS`` (default: "truth" in the env's own world, "history" in any other), of as many
    hearts as ``particles`` says where it needs several.
    """

    def __init__(
        self,
        env: Any,
        world: World | None = None,
        risk: RiskFunction | None = None,
        measure: Measure | str | None = None,
        risk_aversion: float = 0.6,  # lambda of the usual measure, where no other is given
        belief: str | None = None,
        particles: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(env)
        self.world, self.risk, self.particles, self.seed = world, risk, particles, seed
        self.measure = resolved(measure, risk_aversion)
        self.belief = belief
        if belief is not None and belief not in HOWS:
            raise ValueError(f"belief is {belief!r}; expected one of {HOWS}; leave it out")
        if belief == "truth" and any(world is not None and world is not e.world for e in self.envs):
            raise ValueError(
                "belief is 'truth' in another world than the env's; expected 'history', 'last' or 'particles': "
                "only a world's own states can be stepped by it; leave belief or world out"
            )
        self._beliefs: dict[int, Belief] = {}

    def reset(self, seed: int | None = None) -> None:
        """Forget every episode; with a seed, imagine with that one from now on."""
        self.seed = self.seed if seed is None else seed
        self._beliefs.clear()

    def forget(self, env: ECGInterventionEnv) -> None:
        """Forget what was believed of this env's patient."""
        self._beliefs.pop(id(env), None)

    def world_of(self, env: ECGInterventionEnv) -> World:
        """Where it imagines."""
        return env.world if self.world is None else self.world

    def risk_of(self, env: ECGInterventionEnv) -> RiskFunction:
        """What judges."""
        return env.risk if self.risk is None else self.risk

    def price_of(self, env: ECGInterventionEnv) -> Price:
        """What steps cost in the env."""
        return price_of(env)

    def believed(self, env: ECGInterventionEnv, state: State) -> Believed:
        """What is believed of the env's patient, or of a ``state`` that stands in for it."""
        world = self.world_of(env)
        how = self.belief or ("truth" if world is env.world else "history")
        if how == "truth":
            return Believed(state, None, env.episode.first if stands_for(state, env) else state.ecg)
        belief = self._beliefs.get(id(env))
        if belief is None:
            belief = self._beliefs[id(env)] = Belief(world, how, self.particles, self.seed)
        return belief.now(chart_of(env, state))


def steps_left(env: ECGInterventionEnv) -> int:
    """Steps that the env's episode may still take, at least one."""
    return max(1, int(env.episode.horizon[0] - env.episode.steps[0]))
