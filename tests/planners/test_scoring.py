"""Scores of few futures: the sample SD of a normal sample is too small on average, and c4 says by how much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from planners.scoring import c4, mean_and_sd, score


@pytest.mark.parametrize(("k", "value"), [(2, math.sqrt(2 / math.pi)), (3, math.sqrt(math.pi) / 2), (16, 0.98348)])
def test_c4_is_that_of_the_tables(k, value) -> None:
    assert c4(k) == pytest.approx(value, abs=1e-5)
    assert math.isnan(c4(1))


def test_the_sd_of_two_and_of_three_by_hand() -> None:
    mean, sd = mean_and_sd(np.array([0.2, 0.6]))
    assert (mean, sd) == (pytest.approx(0.4), pytest.approx(0.4 / math.sqrt(2) / math.sqrt(2 / math.pi)))
    assert score(np.array([0.0, 0.3, 0.6]), 0.5) == pytest.approx(0.3 + 0.5 * 0.3 * 2 / math.sqrt(math.pi))


@pytest.mark.parametrize("k", [2, 4])
def test_on_average_it_is_the_sd_of_what_the_futures_are_drawn_from(k) -> None:
    _, sd = mean_and_sd(np.random.default_rng(0).standard_normal((200_000, k)))
    assert sd.mean() == pytest.approx(1.0, abs=0.01)


def test_one_future_has_no_sd_and_is_scored_by_itself() -> None:
    assert np.isnan(mean_and_sd(np.array([[0.4]]))[1]).all()
    assert score(np.array([0.4]), 2.0) == 0.4
