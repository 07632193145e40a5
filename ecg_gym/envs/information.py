"""``info``: what a step tells beside the observation. The same keys at reset and at every step, plain scalars only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecg_gym.envs.episode import Episode, Outcome, Task
from ecg_gym.envs.observations import MEASURED
from ecg_gym.risk import LIMITS

HAZARDS = tuple(limit.name for limit in LIMITS if limit.cost)


def information(
    task: Task, episode: Episode, outcome: Outcome | None, mask: np.ndarray, privileged: bool = False, row: int = 0
) -> dict[str, Any]:
    """One row's info: fresh objects at every call; ``outcome`` is None at reset.

    An interval that could not be measured is 0.0 and its ``<name>_known`` is False (NaN would make two equal infos
    differ). ``cost_*`` are the hazards that count into ``cost``; ``cost_lethal`` is 1 when the episode ended badly.
    """
    state, now = episode.state, {name: float(values[row]) for name, values in episode.now.items()}
    told: dict[str, Any] = {
        "action_mask": mask.astype(np.int8),
        "hours": float(state.hours[row]),
        "dt_hours": float(task.world.dt_hours),
        "steps": int(episode.steps[row]),
        "alive": bool(state.alive[row]),
        "treatment": "" if outcome is None else str(outcome.given[row]),
        "invalid_action": False if outcome is None else bool(outcome.refused[row]),
        "finite": bool(now["finite"]),
        "risk": now["risk"],
        "cost": now["cost"],
        "cost_lethal": 0.0 if outcome is None else float(outcome.terminated[row]),
        "model_sha256": str(getattr(task.world, "sha256", "")),
        "risk_sha256": str(getattr(task.risk, "sha256", "")),
    }
    for name, value in now.items():
        if name.startswith("risk_"):
            told[name] = value
            if (hazard := name.removeprefix("risk_")) in HAZARDS:
                told[f"cost_{hazard}"] = value
    for feature in MEASURED:
        told[feature.name] = float(np.nan_to_num(now[feature.name]))
        told[f"{feature.name}_known"] = bool(np.isfinite(now[feature.name]))
    return told | (truth(task, episode, row) if privileged else {})


def truth(task: Task, episode: Episode, row: int = 0) -> dict[str, Any]:
    """What the world knows and no observer can, as ``truth_*``; nothing where the world does not say."""
    if not hasattr(task.world, "truth"):
        return {}
    known = task.world.truth(episode.state[row])[0]
    numbers = {**known.intervals, **{f"{name}_per_hour": rate for name, rate in known.hazard_per_hour.items()}}
    return {"truth_rhythm": str(known.rhythm)} | {
        f"truth_{name}": float(np.nan_to_num(value)) for name, value in sorted(numbers.items())
    }
