"""90 % intervals of a fit's reaction parameters, from the curvature of its error and a factor measured on other hearts.

The Laplace approximation knows the noise but not that a model is a little wrong everywhere (steps of 0.5 ms, a smooth
field for a patch), so its intervals are too narrow. They are widened by one factor per reaction, the 90 % quantile of
|error| / (1.645 standard deviations) over synthetic hearts that judge nothing else; see ``intervals.yaml``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import yaml

from ecg_gym.tissue.model import Model
from ecg_gym.tissue.reactions import reaction

Z90 = 1.6448536  # standard normal quantile of a two-sided 90 % interval


@cache
def factors() -> dict[str, float]:
    """The factor of every reaction, measured by ``ecg-gym study leads``; 1 where none was measured."""
    text = Path(__file__).with_name("intervals.yaml").read_text(encoding="utf-8")
    return {name: float(row["factor"]) for name, row in (yaml.safe_load(text) or {}).items()}


def intervals(model: Model, s: int, covariance: np.ndarray) -> dict[str, tuple[float, float]]:
    """Low and high ends of the 90 % interval of every reaction parameter of model ``s``, in its unit."""
    spread = np.sqrt(np.clip(np.diagonal(covariance), 0, None)) * Z90 * factors().get(model.spec.reaction, 1.0)
    values = model.values()
    out = {}
    for k, row in enumerate(
        reaction(model.spec.reaction).parameters
    ):  # "reaction" is the first part of the flat vector
        value, widen = float(values[row.name][s]), float(np.exp(min(spread[k], 5.0)))
        out[row.name] = (value / widen, value * widen)
    return out
