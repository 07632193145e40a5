"""Worlds and risks by name, loaded once per process and shared by every env: what makes an env's arguments JSON.

``"model"`` is the packaged world model, ``"oracle"`` the virtual patient, a path the weights of another world model,
and ``"package.module:Name"`` something of yours that can be called without arguments.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecg_gym.core import World
from ecg_gym.risk import RiskModel


@lru_cache(maxsize=8)
def load_world(name: str, dt_hours: float | None = None) -> World:
    """The world called ``name``, with steps of ``dt_hours`` (default: its own)."""
    if name == "oracle":
        from ecg_gym.virtual_patient import VirtualPatient

        return VirtualPatient() if dt_hours is None else VirtualPatient(dt_hours=dt_hours)
    if dt_hours is not None:
        return _with_dt(load_world(name), name, dt_hours)  # the weights are shared between time steps
    if ":" in name and not Path(name).exists():
        return _imported(name)
    path = None if name == "model" else Path(name)
    if path is not None and not path.exists():
        raise ValueError(
            f"world is {name!r}; expected 'model', 'oracle', a path to weights or 'package.module:Name'; "
            "check the spelling and the folder you are in"
        )
    from ecg_gym.world_model import WorldModel  # loads torch, so only when it is needed

    return WorldModel.load(path)


@lru_cache(maxsize=8)
def load_risk(name: str) -> RiskModel:
    """The risk called ``name``: "limits" (needs no weights), an aggregate such as "adverse" or "max", or your own."""
    if name == "limits":
        return RiskModel.limits_only()
    if ":" in name:
        return _imported(name)
    return RiskModel.load(aggregation=name)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{name!r} cannot be imported ({error}); expected 'package.module:Name'; check that Python finds it"
        ) from error


def _with_dt(world: Any, name: str, dt_hours: float) -> World:
    if dt_hours == world.dt_hours:
        return world
    try:
        return replace(world, dt_hours=dt_hours)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"dt_hours is {dt_hours} and the world {name!r} steps {world.dt_hours} h ({error}); "
            "expected its own step; leave dt_hours out"
        ) from error
