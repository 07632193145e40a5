"""Planners that choose by themselves: exhaustive ranking, and the anchors every study needs to be read against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.rollout import RiskFunction
from planners.base import PlanInfo, Planner, allowed_treatments
from planners.model_based import ModelBasedPlanner
from planners.ranking import plan

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


class ExhaustivePlanner(ModelBasedPlanner):
    """Ranks everything that is allowed, and takes the best; how it imagines stands in :class:`ImaginingPlanner`."""

    def __init__(
        self,
        env: Any,
        world: World | None = None,
        risk: RiskFunction | None = None,
        k: int = 16,
        risk_aversion: float = 0.6,
        horizon: int = 1,
        seed: int = 0,
        **imagining: Any,  # measure, belief, particles
    ) -> None:
        super().__init__(env, world, risk, risk_aversion=risk_aversion, seed=seed, **imagining)
        self.k, self.risk_aversion, self.horizon = k, risk_aversion, horizon

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The best of the allowed, with its plan."""
        believed = self.believed(env, state)
        ranked = plan(
            self.world_of(env),
            believed.state,
            allowed_treatments(env),
            self.risk_of(env),
            k=self.k,
            risk_aversion=self.risk_aversion,
            seed=self.seed,
            horizon=self.horizon,
            rules=already_masked,
            measure=self.measure,
            particles=None if believed.particles is None else believed.rows(self.k),
            first=believed.first,
            price=self.price_of(env),
        )
        return PlanInfo(
            treatment=ranked.best.treatment,
            model_calls=ranked.model_calls + believed.model_calls,
            n_nonfinite=sum(candidate.n_nonfinite for candidate in ranked.candidates),
            plan=ranked,
            score=ranked.best.score,
            separation=ranked.separation,
            better=ranked.best.better,
            spread=ranked.best.sd,
            samples=ranked.k,
            ess=believed.ess,
        )


class RandomPlanner(Planner):
    """Anything that is allowed, each with the same probability."""

    def __init__(self, env: Any, seed: int = 0) -> None:
        super().__init__(env)
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """With a seed, draw from its beginning."""
        if seed is not None:
            self.rng = np.random.default_rng(seed)

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """One draw from the allowed treatments."""
        options = allowed_treatments(env)
        return PlanInfo(options[self.rng.integers(len(options))])


class WatchAndWait(Planner):
    """Nothing, ever: the anchor that says what the drugs are good for."""

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """Watch and wait."""
        return PlanInfo(WATCH)


class KitchenSink(Planner):
    """Always another drug: the first of the menu that is allowed and was not given yet, and watching when none is left.

    The anchor that says whether giving more is enough to do well.
    """

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The first allowed treatment whose drugs are not on the chart."""
        drugs = {administration.dose.drug for administration in state.doses[0]}
        new = (t for t in allowed_treatments(env) if t.doses and not any(dose.drug in drugs for dose in t.doses))
        return PlanInfo(next(new, WATCH))


class BestConstant(Planner):
    """One treatment whenever it is allowed, and watching otherwise; :meth:`search` finds which."""

    def __init__(self, env: Any, treatment: Treatment = WATCH) -> None:
        super().__init__(env)
        self.treatment = treatment

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The treatment, if the mask allows it."""
        return PlanInfo(self.treatment if self.treatment in allowed_treatments(env) else WATCH)

    @classmethod
    def search(cls, env: Any, episodes: int = 4, seed: int = 0) -> BestConstant:
        """The constant with the highest mean return over the same ``episodes`` seeds; equal ones: first of the menu."""
        menu = env.unwrapped.menu
        returns = [
            np.mean([episode_return(env, cls(env, treatment), seed + i) for i in range(episodes)]) for treatment in menu
        ]
        return cls(env, menu[int(np.argmax(returns))])


def episode_return(env: Any, planner: Planner, seed: int) -> float:
    """The undiscounted return of one episode; ``env`` must end by itself (``gym.make`` puts a TimeLimit around it)."""
    obs, info = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action, _ = planner.act(obs, info)
        obs, earned, terminated, truncated, info = env.step(action)
        total, over = total + float(earned), terminated or truncated
    return total


def already_masked(*_: Any, **__: Any) -> tuple[()]:
    """The env's own mask has asked the clinical rules before."""
    return ()
