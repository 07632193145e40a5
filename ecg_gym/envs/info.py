"""``info``: what a step tells beside the observation. The same keys at reset and at every step, one column per key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecg_gym.columns import Choice, once_per_object
from ecg_gym.core import Treatment
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import Episode, Outcome
from ecg_gym.envs.observations import MEASURED
from ecg_gym.envs.reward import terms_of
from ecg_gym.powers import Truthful, weights_hash
from ecg_gym.risk import LIMITS

HAZARDS = tuple(limit.name for limit in LIMITS if limit.cost)
Columns = dict[str, Any]  # key -> (B,) array, (B, n) for masks, or a mapping of the same


def columns(
    task: Task, episode: Episode, outcome: Outcome | None, masks: np.ndarray, privileged: bool = False
) -> Columns:
    """The infos of all rows ``(B,)``; ``outcome`` is None at reset, ``masks (B, A)`` are those of the actions.

    Risk and cost are those of the true strip, intervals those that are seen. An interval that could not be measured is
    0.0 and its ``<name>_known`` is False (NaN would make two equal infos differ). ``costs`` are the hazards that count
    into ``cost``; ``costs["lethal"]`` is 1 when the episode ended badly.
    """
    n, state, true, seen = len(episode), episode.state, episode.judged, episode.now
    none = np.zeros(n)
    value: Columns = {
        "action_mask": masks.astype(np.int8),
        "hours": state.hours.astype(float),
        "dt_hours": np.full(n, float(task.world.dt_hours)) if state.dt_hours is None else state.dt_hours.astype(float),
        "steps": episode.steps.astype(np.int64),
        "alive": state.alive.copy(),
        "treatment": words([""] * n) if outcome is None else _names(outcome.given),
        "invalid_action": np.zeros(n, bool) if outcome is None else outcome.refused.copy(),
        "finite": true["finite"].astype(bool),
        "risk": true["risk"].copy(),
        "cost": true["cost"].copy(),
        "model_sha256": np.full(n, weights_hash(task.world), object),
        "risk_sha256": np.full(n, str(getattr(task.risk, "sha256", "")), object),
    }
    value["costs"] = {name: true[f"risk_{name}"].copy() for name in HAZARDS if f"risk_{name}" in true}
    value["costs"]["lethal"] = none.copy() if outcome is None else outcome.terminated.astype(float)
    value["reward_terms"] = {
        name: none.copy() if outcome is None else outcome.terms[name].copy() for name in terms_of(task.reward)
    }
    value |= {name: values.copy() for name, values in true.items() if name.startswith("risk_")}
    for feature in MEASURED:
        value[feature.name] = np.nan_to_num(seen[feature.name])
        value[f"{feature.name}_known"] = np.isfinite(seen[feature.name])
    return value | (truth(task, episode) if privileged else {})


def truth(task: Task, episode: Episode) -> Columns:
    """What the world knows and no observer can, as ``truth_*``; nothing where the world does not say."""
    if not isinstance(task.world, Truthful):
        return {}
    known = task.world.truth(episode.state)
    numbers = [{**row.intervals, **{f"{k}_per_hour": rate for k, rate in row.hazard_per_hour.items()}} for row in known]
    return {"truth_rhythm": words([str(row.rhythm) for row in known])} | {
        f"truth_{name}": np.nan_to_num(np.array([row[name] for row in numbers], dtype=float))
        for name in sorted(numbers[0])
    }


def _names(given: Sequence[Treatment]) -> np.ndarray:
    """What was given, in words ``(B,)``."""
    if isinstance(given, Choice):
        return _menu_names(given.menu)[given.entry]
    return words([str(treatment) for treatment in given])


@once_per_object
def _menu_names(menu: tuple[Treatment, ...]) -> np.ndarray:
    return words([str(treatment) for treatment in menu])


def words(texts: list[str]) -> np.ndarray:
    """Texts as an object array ``(B,)``."""
    out = np.empty(len(texts), object)
    out[:] = texts
    return out


def one(inputs: Mapping[str, Any], row: int = 0) -> dict[str, Any]:
    """One row's info: fresh plain scalars; arrays where a row has several numbers."""
    return {key: one(value, row) if isinstance(value, Mapping) else _plain(value[row]) for key, value in inputs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.item() if isinstance(value, np.generic) else value


def spread(row: Mapping[str, Any], rows: np.ndarray, n: int, into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Infos of some ``rows`` as a vector env tells them: each key for all ``n`` rows, and ``_key`` saying for which."""
    out: dict[str, Any] = {} if into is None else into
    for key, value in row.items():
        if isinstance(value, Mapping):
            out[key] = spread(value, rows, n, out.get(key))
        else:
            column = out.get(key)
            if column is None:
                empty = None if value.dtype == object else 0
                column = np.full((n, *value.shape[1:]), empty, dtype=value.dtype)
            column[rows] = value
            out[key] = column
        mask = out.get(f"_{key}", np.zeros(n, bool))
        mask[rows] = True
        out[f"_{key}"] = mask
    return out


def taken(row: Mapping[str, Any], rows: np.ndarray) -> Columns:
    """The infos of some rows."""
    return {key: taken(value, rows) if isinstance(value, Mapping) else value[rows] for key, value in row.items()}
