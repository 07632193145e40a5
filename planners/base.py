"""What every planner can do: ``act`` for loops of your own, ``predict`` shaped like Stable-Baselines3's.

A planner sits beside an env and imagines from the env's state (``env.unwrapped.state``), which a learned policy never
sees. Give it another world to imagine in, and it starts from what may be known instead (:mod:`planners.belief`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, WATCH, Administration, State, Treatment, World
from planners.env_rows import seats

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv
    from planners.plan import Plan


@dataclass(frozen=True)
class PlanInfo:
    """What a decision cost and how sound it was."""

    treatment: Treatment = WATCH
    model_calls: int = 0  # rows times steps asked of a world
    n_nonfinite: int = 0  # futures that were not finite
    plan: Plan | None = None  # the whole ranking, where there is one
    sequence: tuple[Treatment, ...] = ()  # what is meant to follow, the treatment first, where a sequence was planned
    score: float = np.nan  # of the treatment or sequence, by the planner's measure; lower is better
    separation: float = np.nan  # P(the choice really scores lower than the runner-up), over paired resamples
    better: float = np.nan  # P(the choice really scores lower than watching), likewise
    spread: float = np.nan  # SD of the risk over the futures of the choice
    samples: int = 0  # futures behind the score
    refused: int = 0  # doses of the sequence that the clinical rules refused in imagination, over all samples
    ess: float = np.nan  # effective number of particles behind the belief
    abstained: str = ""  # why it watches instead of choosing; "" if it chose


class Planner(ABC):
    """Chooses treatments for the env, or for each row of the vector env, it was made for.

    Vector envs may be ours (``gym.make_vec``), Gymnasium's ``SyncVectorEnv`` or SB3's ``DummyVecEnv``.
    """

    def __init__(self, env: Any) -> None:
        self.envs: list[ECGInterventionEnv] = seats(env)

    @abstractmethod
    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The treatment for a state (a batch of one) of the env, out of what its mask allows now."""
        ...

    def choose_rows(self, rows: Sequence[int]) -> list[PlanInfo]:
        """The treatments for some rows of the vector env; who thinks about many patients at once overrides it."""
        return [self.choose(self.envs[row], self.envs[row].state) for row in rows]

    def reset(self, seed: int | None = None) -> None:  # noqa: B027 - most planners keep nothing between decisions
        """Forget the episode; with a seed, also start the planner's own randomness again."""

    def forget(self, env: ECGInterventionEnv) -> None:  # noqa: B027 - most planners keep nothing between decisions
        """Forget the episode of one env, because a new one has begun there."""

    def act(
        self, obs: Any = None, info: Mapping[str, Any] | None = None, state: State | None = None
    ) -> tuple[Any, PlanInfo]:
        """The action for the first env and what it cost; ``state`` stands in for the env's own. ``obs`` is not read."""
        env = self.envs[0]
        decision = self.choose(env, env.state if state is None else state)
        return env.action(decision.treatment), decision

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """The actions for a batch of observations, or for one; row i belongs to env i. Shaped as SB3's ``predict``."""
        self._begin(episode_start)
        actions = [env.action(self.choose(env, env.state).treatment) for env in self.envs]
        return np.asarray(actions if self._batched(observation) else actions[0]), state

    def _begin(self, episode_start: Any) -> None:
        """Forget the episodes of the rows that begin a new one."""
        for env, begins in zip(self.envs, () if episode_start is None else np.atleast_1d(episode_start)):
            if begins:
                self.forget(env)

    def _batched(self, observation: Any) -> bool:
        space = self.envs[0].observation_space
        leaf, expected = observation, space
        if isinstance(observation, Mapping):
            name = next(iter(observation))
            leaf, expected = observation[name], space[name]  # type: ignore[index]
        return np.ndim(leaf) > len(expected.shape or ())


def at_hand(env: ECGInterventionEnv) -> np.ndarray:
    """The menu entries that there are in the env's scenario, allowed now or not, in the order of its menu."""
    return np.flatnonzero(env.task.at_hand[env.episode.scenario[0]])


def allowed_treatments(env: ECGInterventionEnv) -> tuple[Treatment, ...]:
    """The treatments that the env's clinical rules allow now, in the order of its menu."""
    return tuple(t for t, yes in zip(env.menu, env.episode.allowed[0]) if yes)


def believe(world: World, env: ECGInterventionEnv, state: State) -> State:
    """What ``world`` makes of the env's state: the state itself if it is the env's own world, else its strip observed.

    Planning in the env's own world uses that world's inner knowledge of the patient: in the virtual patient, the truth.
    For everything that was seen since the start of the episode, see :class:`planners.belief.Belief`.
    """
    if world is env.world:
        return state
    now = float(state.hours[0])
    doses = tuple(Administration(a.hours - now, a.dose) for a in state.doses[0])
    return world.observe(ECG(state.ecg[0], MODEL_RATE_HZ), state.patients[0], doses)
