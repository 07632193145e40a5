"""Interactions that come slowly: the steps of a turnover stand for its exponential approach."""

from __future__ import annotations

import numpy as np

from ecg_gym.pharmacology.interactions import Interaction, steps_of


def test_an_interaction_without_turnover_is_whole_at_once() -> None:
    assert steps_of(Interaction("ketoconazole", "midazolam", 4.0, 1.0, 24.0, 0.0, "")) == [(0.0, 4.0)]


def test_the_steps_of_a_turnover_follow_its_approach() -> None:
    """Each step lies between the exponential at its own hour and that at the next step's."""
    turnover_h, exposure = 20.0, 3.0
    hours, factor = np.array(steps_of(Interaction("a", "b", exposure, 1.0, 24.0, turnover_h, ""))).T
    approach = 1 + (exposure - 1) * (1 - 2 ** (-hours / turnover_h))
    assert (np.diff(hours) > 0).all()
    assert (factor[:-1] >= approach[:-1]).all()
    assert (factor[:-1] <= approach[1:]).all()
    assert (hours[-1], factor[-1]) == (5 * turnover_h, exposure)
