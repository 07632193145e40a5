"""How a heart drifts over an ordinary day without any drug: meals, sleep and the circadian rhythm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ecg_gym.pharmacology.constants import Block, read_table

_PERIOD_HOURS = 24.0
_PARTS = ("meal", "turn", "lean", "sleep")
_UNITS = {"sinus_rate": "1", "conduction": "1", "pr_ms": "ms", "jtpeak_ms": "ms", "tpeak_tend_ms": "ms"}


@dataclass(frozen=True)
class _Day:
    meals: np.ndarray  # (m,) [h] after the morning's zero
    meal_time: float  # [h]
    sleep: tuple[float, float, float]  # [h] from, until, time constant
    coefficients: dict[str, np.ndarray]  # name -> (4,): _PARTS


@cache
def _day() -> _Day:
    block = Block.of("laws", read_table("laws.yaml")).block("day")
    block.expect({"meals", "meal_time", "sleep_from", "sleep_until", "sleep_time", *_UNITS})
    meals = [block.parse(m, "h", f"{block.path}.meals[{i}]").value for i, m in enumerate(block.data["meals"])]
    return _Day(
        meals=np.array(meals),
        meal_time=block.number("meal_time", "h"),
        sleep=(block.number("sleep_from", "h"), block.number("sleep_until", "h"), block.number("sleep_time", "h")),
        coefficients={
            name: np.array([block.block(name).number(part, unit) for part in _PARTS]) for name, unit in _UNITS.items()
        },
    )


def drift(clock_hours: float) -> dict[str, float]:
    """Changes since the morning: ``sinus_rate`` and ``conduction`` as shares, PR, J-Tpeak and Tpeak-Tend in ms.

    ``clock_hours`` counts from a fasting morning at rest (about 8 o'clock), where all are zero; the next day repeats.
    """
    return {name: float(change[0]) for name, change in drifts(np.array([clock_hours])).items()}


def drifts(clock_hours: np.ndarray) -> dict[str, np.ndarray]:
    """``drift`` at each of ``clock_hours (N,)``: arrays ``(N,)``."""
    day, hour = _day(), clock_hours % _PERIOD_HOURS
    meals = np.zeros(len(hour))
    for meal in day.meals:
        since = np.maximum(hour - meal, 0.0) / day.meal_time
        meals = meals + since * np.exp(1 - since)
    angle = 2 * np.pi * hour / _PERIOD_HOURS
    asleep = _asleep(hour, *day.sleep) - _asleep(np.zeros(1), *day.sleep)
    parts = (meals, (1 - np.cos(angle)) / 2, np.sin(angle), asleep)
    return {name: sum(w * part for w, part in zip(weights, parts)) for name, weights in day.coefficients.items()}


def _asleep(hour: np.ndarray, begin: float, end: float, time: float) -> np.ndarray:
    """How far the heart is in its sleeping state, 0 to 1: a first-order response to falling asleep and waking up."""
    inside = (begin <= hour) & (hour < end)
    whole = 1 - np.exp(-(end - begin) / time)
    since = np.where(inside, hour - begin, (hour - end) % _PERIOD_HOURS)
    rest = np.exp(-since / time)
    return np.where(inside, 1 - rest, whole * rest)
