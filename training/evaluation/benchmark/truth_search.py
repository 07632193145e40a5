"""The closed-loop search in the truth as a policy: it knows the hidden hearts of its patients, and not the dice.

All patients of a block are searched as one batch, so that a thousand of them can be played.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.task.search import Search


@dataclass
class TruthSearch:
    """The policy at work on the rows of a vector env of the virtual patient."""

    envs: Any
    search: Search
    rng: np.random.Generator

    @classmethod
    def of(cls, envs: Any, seed: int) -> TruthSearch:
        """For a vector env; ``seed`` is of the futures that it imagines."""
        return cls(envs.unwrapped, Search(), np.random.default_rng(seed))

    def actions(self, rows: Sequence[int], observations: Any) -> tuple[list[Any], list[int]]:
        """The first treatments of the best plans, and the steps of the truth that were imagined for each."""
        episode = self.envs.episode[np.asarray(rows, int)]
        entries, steps = self.search.decide(self.envs.setup.task, episode, self.rng)
        return [self.envs.action(self.envs.menu[entry]) for entry in entries], steps.tolist()
