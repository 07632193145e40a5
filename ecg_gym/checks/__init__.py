"""Checks for parts of your own: ``check_world``, ``check_vector_env``; planners have ``planners.check_planner``."""

from ecg_gym.checks.vector import check_vector_env
from ecg_gym.checks.world import check_state, check_world, close, equal, same, untouched_global_randomness

__all__ = [
    "check_state",
    "check_vector_env",
    "check_world",
    "close",
    "equal",
    "same",
    "untouched_global_randomness",
]
