"""The per-kind constant: the treatment that does best for patients of a kind when given whenever it is allowed.

It is told the kind, which an agent has to see for itself, and chosen on patients of the validation stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

from ecg_gym.envs.patient_sets import kinds, stream
from ecg_gym.envs.scenarios import scenario_named
from ecg_gym.registration import SCENARIOS

START, PATIENTS = 700_000_000, 40  # of the validation stream, per scenario


@lru_cache(maxsize=32)
def constants(scenario: str, patients: int = PATIENTS, risk: str = "adverse") -> dict[str, int]:
    """The best menu entry of each kind of the scenario by mean return, and under "" the best of all patients."""
    seeds = stream("validation", START, patients)
    kind_of = np.array(kinds(scenario_named(scenario), seeds))
    row = {"risk": risk, "fidelity": "vitals", "autoreset_mode": "SameStep"}
    menu = len(gym.make(f"ECGOracle/{SCENARIOS[scenario]}-v0", risk="limits", fidelity="vitals").unwrapped.menu)  # type: ignore[attr-defined]
    envs = gym.make_vec(f"ECGOracle/{SCENARIOS[scenario]}-v0", num_envs=menu * patients, **row)  # type: ignore[arg-type]
    each: Any = list(seeds) * menu
    envs.reset(seed=each)
    entries = np.repeat(np.arange(menu), patients)
    total, going = np.zeros(len(entries)), np.ones(len(entries), bool)
    while going.any():
        _, rewards, terminated, truncated, _ = envs.step(entries)
        total += np.where(going, rewards, 0.0)
        going &= ~(terminated | truncated)
    envs.close()
    returns = total.reshape(menu, patients)
    parts = {"": np.ones(patients, bool)} | {kind: kind_of == kind for kind in set(kind_of)}
    return {kind: int(returns[:, mine].mean(axis=1).argmax()) for kind, mine in parts.items()}


@dataclass
class KindConstant:
    """The policy at work: what is best for each patient's kind, and watching where it is not allowed."""

    envs: Any
    entries: list[int]

    @classmethod
    def of(cls, envs: Any, kinds_of_rows: Sequence[str]) -> KindConstant:
        """For the rows of a vector env whose patients are of these kinds."""
        inner = envs.unwrapped
        best = constants(
            inner.setup.config.scenario, risk="adverse" if getattr(inner.risk, "classifier", None) else "limits"
        )
        return cls(inner, [best.get(kind, best[""]) for kind in kinds_of_rows])

    def actions(self, rows: Sequence[int], observations: Any) -> tuple[list[Any], list[int]]:
        """The constant of each row's kind."""
        allowed = self.envs.episode.allowed
        entries = [self.entries[row] if allowed[row, self.entries[row]] else 0 for row in rows]
        return [self.envs.action(self.envs.menu[entry]) for entry in entries], [0] * len(rows)
