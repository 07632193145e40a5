"""``ConstantSearchPlanner``: the best single treatment of each patient, chosen by imagining every one to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, State, Treatment
from ecg_gym.envs import dynamics
from ecg_gym.streams import Streams
from planners.base import PlanInfo, allowed_treatments, at_hand
from planners.tree_search import TreeSearchPlanner, root_of, task_of

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


class ConstantSearchPlanner(TreeSearchPlanner):
    """One treatment whenever it is allowed, and watching otherwise: which one, ``k`` imagined courses of each tell.

    The choice is made at the first decision of an episode and kept. In the env's own world it is the best constant that
    could be prescribed to this patient by who knows the truth, without the luck of hindsight: the steps that then
    really come are drawn anew.
    """

    def __init__(self, env: Any, *, k: int = 4, **how: Any) -> None:
        super().__init__(env, **how)
        if k < 1:
            raise ValueError(f"k is {k}; expected at least one imagined course; pass k=4")
        self.k = k
        self._constants: dict[int, Treatment] = {}

    def reset(self, seed: int | None = None) -> None:
        """Forget every episode; with a seed, imagine with that one from now on."""
        super().reset(seed)
        self._constants.clear()

    def forget(self, env: ECGInterventionEnv) -> None:
        """Forget what was chosen in this env."""
        super().forget(env)
        self._constants.pop(id(env), None)

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The treatment that was chosen for this patient, if it is allowed now."""
        calls = 0
        if id(env) not in self._constants or not int(env.episode.steps[0]):
            self._constants[id(env)], calls = self._best(env, state)
        constant = self._constants[id(env)]
        return PlanInfo(constant if constant in allowed_treatments(env) else WATCH, model_calls=calls)

    def choose_rows(self, rows: Any) -> list[PlanInfo]:
        """The treatments of several patients, one after the other."""
        return [self.choose(self.envs[row], self.envs[row].state) for row in rows]

    def _best(self, env: ECGInterventionEnv, state: State) -> tuple[Treatment, int]:
        """The entry with the highest mean return, and the steps that were imagined; of equal ones the first."""
        task, root = task_of(self, env, self.fidelity), root_of(self, env, state, self.fidelity)
        here = at_hand(env)
        rows = np.repeat(here, self.k)
        copies = np.tile(np.arange(self.k), len(here))
        episode = root.episode[copies % len(root.episode)]
        keys = np.stack([np.full(len(rows), self.seed, np.uint64), copies.astype(np.uint64)], axis=1)
        streams, total, going = Streams.start(keys), np.zeros(len(rows)), np.ones(len(rows), bool)
        left = int(episode.horizon[0] - episode.steps[0])
        for _ in range(left):
            episode, outcome = dynamics.advance(task, episode, rows, streams.after(episode.steps + 1))
            total += np.where(going, outcome.reward, 0.0)
            going &= ~outcome.terminated
        means = total.reshape(-1, self.k).mean(axis=1)
        return env.menu[int(here[means.argmax()])], len(rows) * left + root.model_calls
