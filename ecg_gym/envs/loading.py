"""Worlds, risks and rewards by name, loaded once per process and shared: what makes an env's arguments JSON.

``"model"`` is the packaged world model, ``"oracle"`` the virtual patient, ``"tissue"`` the virtual patient
with a fitted reaction-diffusion tissue, a path the weights of another world model,
and ``"package.module:Name"`` or ``"folder/file.py:Name"`` something of yours that can be called without arguments (a
reward may be a function).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ecg_gym.core import World
from ecg_gym.envs.episode import Reward
from ecg_gym.envs.reward import RiskReward
from ecg_gym.risk import RiskModel

Knobs = tuple[tuple[str, Any], ...]  # fields of a world and what to set them to


@lru_cache(maxsize=32)
def load_world(name: str, dt_hours: float | None = None, knobs: Knobs = ()) -> World:
    """The world called ``name``, with steps of ``dt_hours`` (default: its own) and its ``knobs`` turned."""
    if knobs:
        return with_fields(load_world(name, dt_hours), name, dict(knobs))
    if name == "oracle":
        from ecg_gym.virtual_patient import VirtualPatient

        return VirtualPatient() if dt_hours is None else VirtualPatient(dt_hours=dt_hours)
    if name == "tissue":
        from ecg_gym.tissue.world import HybridTissue

        return HybridTissue() if dt_hours is None else HybridTissue(dt_hours=dt_hours)
    if dt_hours is not None:
        return with_fields(load_world(name), name, {"dt_hours": dt_hours})  # the weights are shared between time steps
    if ":" in name and not Path(name).exists():
        return _imported(name)
    path = None if name == "model" else Path(name)
    if path is not None and not path.exists():
        raise ValueError(
            f"world is {name!r}; expected 'model', 'oracle', 'tissue', a path to weights or 'package.module:Name'; "
            "check the spelling and the folder you are in"
        )
    from ecg_gym.world_model import WorldModel  # loads torch, so only when it is needed

    return WorldModel.load(path)


@lru_cache(maxsize=8)
def load_risk(name: str, deterministic: str | None = None) -> RiskModel:
    """The risk called ``name``: "limits" (needs no weights), an aggregate such as "adverse" or "max", or your own.

    ``deterministic="batch"`` makes the bits of a row's findings independent of its batch.
    """
    if name == "limits":
        return RiskModel.limits_only()
    if ":" in name:
        return _imported(name)
    return RiskModel.load(aggregation=name, deterministic=deterministic)


def load_reward(reward: str | Reward, burden: float = 0.0) -> Reward:
    """The reward called ``reward``: "risk" with a ``burden`` per dose, or a function or class by import path."""
    if reward == "risk":
        return RiskReward(burden)
    if burden:
        raise ValueError(
            f"burden is {burden} with the reward {reward!r}; expected 0: a reward of your own knows its burden itself; "
            "leave one of them out"
        )
    if isinstance(reward, str) and ":" not in reward:
        raise ValueError(f"reward is {reward!r}; expected 'risk' or 'package.module:name'; check the spelling")
    result = attribute_named(reward) if isinstance(reward, str) else reward
    value = result() if inspect.isclass(result) else result
    if not callable(value):
        raise ValueError(
            f"reward {reward!r} is a {type(value).__name__}; expected a function of a Transition, or a class of them; "
            "see ecg_gym.envs.reward"
        )
    return value


def _imported(name: str) -> Any:
    return attribute_named(name)()


def attribute_named(name: str) -> Any:
    """What ``package.module:name`` or ``file.py:name`` names; ``ValueError`` where there is no such thing."""
    module, _, attribute = name.rpartition(":")
    try:
        return getattr(_file(Path(module)) if module.endswith(".py") else importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{name!r} cannot be imported ({error}); expected 'package.module:Name' or 'file.py:Name'; check that "
            "Python finds it"
        ) from error


def _file(path: Path) -> ModuleType:
    """The module in a file, under its own name so that what it makes can be pickled in this process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def with_fields(world: Any, name: str, values: Mapping[str, Any]) -> World:
    """The world with these fields set, a copy that shares the rest; ValueError for fields that it does not have."""
    if all(getattr(world, field, None) == value for field, value in values.items()):
        return world
    unknown = [field for field in values if not hasattr(world, field)]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} would be set in the world {name!r}, which has no such fields; expected fields of "
            "the world, such as those of WorldModel (sampler, steps, epk_scale); leave knobs out"
        )
    if is_dataclass(world):
        return replace(world, **values)  # type: ignore[return-value, type-var]
    other = copy.copy(world)
    try:
        for field, value in values.items():
            setattr(other, field, value)
    except AttributeError as error:
        raise ValueError(
            f"{dict(values)} would be set in the world {name!r} ({error}); expected its own values; leave them out"
        ) from error
    return other
