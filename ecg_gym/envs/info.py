"""``info``: what a step tells beside the observation. The same keys at reset and at every step, one column per key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.columns import Choice, once_per_object
from ecg_gym.core import Treatment, World
from ecg_gym.envs.consequences import COST, costs_of, names_of
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import Episode, Outcome
from ecg_gym.envs.observations import MEASURED, MONITORED
from ecg_gym.envs.reward import terms_of
from ecg_gym.envs.scenarios import load_scenarios
from ecg_gym.powers import Truthful, weights_hash
from ecg_gym.risk import RiskModel

Columns = dict[str, Any]  # key -> (B,) array, (B, n) for masks, or a mapping of the same


_READ = tuple(feature.name for feature in (*MEASURED, *MONITORED))
_KNOWN = tuple(f"{name}_known" for name in _READ)
DECIMALS, DECIMALS_PER_HOUR = 3, 6  # of what is true [ms, mV, ...], and of its hazards


def columns(
    task: Task, episode: Episode, outcome: Outcome | None, masks: np.ndarray, privileged: bool = False,
    fresh: np.ndarray | None = None,
) -> Columns:  # fmt: skip
    """The infos of all rows ``(B,)``; ``outcome`` is None at reset, ``masks (B, A)`` are those of the actions.

    Rows that are ``fresh (B,)`` have just been reset: nothing was given to them. Risk and intervals are those of the
    newest strip that was seen. An interval that could not be measured is 0.0 and its ``<name>_known`` is False (NaN
    would make two equal infos differ). ``cost`` is the harm that treatment did, as it arrives (see ``consequences``),
    ``costs`` are its hazards and what a death cost; neither is there with ``cost=False``.
    """
    n, state, place = len(episode), episode.state, episode.now.place
    none, table, readings = np.zeros(n), episode.now.table.copy(), episode.now.table[: len(_READ)]
    finite = np.isfinite(readings)
    readings = np.where(finite, readings, 0.0)
    hashes = _hashes(task.world, task.risk, n)
    value: Columns = {
        "action_mask": masks.astype(np.int8),
        "hours": state.hours.astype(float),
        "dt_hours": np.full(n, float(task.world.dt_hours)) if state.dt_hours is None else state.dt_hours.astype(float),
        "steps": episode.steps.astype(np.int64),
        "alive": state.alive.copy(),
        "treatment": words([""] * n) if outcome is None else _names(outcome.treatments, fresh),
        "invalid_action": np.zeros(n, bool) if outcome is None else outcome.refused.copy(),
        "lost": np.zeros(n, bool) if outcome is None else outcome.lost.copy(),
        "scenario": _scenario_names()[episode.scenario],
        "finite": episode.truth["finite"] != 0,
        "risk": table[place["risk"]],
        "model_sha256": hashes[0].copy(),
        "risk_sha256": hashes[1].copy(),
    }
    if task.cost:
        names = costs_of(names_of(task, episode.now))
        costs = {name: none.copy() if outcome is None else outcome.costs[name].copy() for name in names}
        value["cost"] = costs.pop(COST)
        value["costs"] = costs
    value["reward_terms"] = {
        name: none.copy() if outcome is None else outcome.terms[name].copy() for name in terms_of(task.reward)
    }
    first, last = _risk_rows(place)
    value |= zip(list(place)[first:last], table[first:last])
    value |= zip(_READ, readings)
    value |= zip(_KNOWN, finite)
    return value | (truth(task, episode) if privileged else {})


@once_per_object
def _risk_rows(place: Mapping[str, int]) -> tuple[int, int]:
    """From where to where the terms of the risk stand in a table of readings."""
    rows = [row for name, row in place.items() if name.startswith("risk_")]
    return rows[0], rows[-1] + 1


@once_per_object
def _hashes(world: World, risk: RiskModel, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of the weights of a world and a risk for each of ``n`` rows, empty where there are none."""
    return np.full(n, weights_hash(world), object), np.full(n, str(getattr(risk, "sha256", "")), object)


def truth(task: Task, episode: Episode) -> Columns:
    """What the world knows and no observer can, as ``truth_*``; nothing where the world does not say.

    Rounded to ``DECIMALS``: the last bits depend on the batch in which a heart's beats were first measured; finer
    rounding would let more of them through.
    """
    if not isinstance(task.world, Truthful):
        return {}
    facts = task.world.truth(episode.state)
    numbers = [{**row.intervals, **{f"{k}_per_hour": rate for k, rate in row.hazard_per_hour.items()}} for row in facts]
    return {"truth_rhythm": words([str(row.rhythm) for row in facts])} | {
        f"truth_{name}": np.nan_to_num(np.array([row[name] for row in numbers], dtype=float)).round(
            DECIMALS_PER_HOUR if name.endswith("_per_hour") else DECIMALS
        )
        for name in sorted(numbers[0])
    }


@cache
def _scenario_names() -> np.ndarray:
    return words(list(load_scenarios()))


def _names(treatments: Sequence[Treatment], fresh: np.ndarray | None) -> np.ndarray:
    """What was given, in words ``(B,)``; nothing to fresh rows."""
    if isinstance(treatments, Choice):
        names = _menu_names(treatments.menu)[treatments.entry]
    else:
        names = words([str(treatment) for treatment in treatments])
    if fresh is not None:
        names[fresh] = ""
    return names


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
    return {
        key: one(value, row) if isinstance(value, dict) else value.item(row) if value.ndim == 1 else value[row].copy()
        for key, value in inputs.items()
    }


def spread(value: Mapping[str, Any], rows: np.ndarray, n: int) -> dict[str, Any]:
    """Infos of some ``rows`` as a vector env tells them: each key for all ``n`` rows, and ``_key`` saying for which."""
    there = np.zeros(n, bool)
    there[rows] = True
    return _spread(value, rows, there, len(rows) == n)


def _spread(value: Mapping[str, Any], rows: np.ndarray, there: np.ndarray, whole: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, column in value.items():
        if isinstance(column, dict):
            out[key] = _spread(column, rows, there, whole)
        elif whole:
            out[key] = column
        else:
            out[key] = np.full((len(there), *column.shape[1:]), None if column.dtype == object else 0, column.dtype)
            out[key][rows] = column
        out[f"_{key}"] = there
    return out
