"""Races and sureness on decisions whose right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.evaluation.planning import confidence
from training.evaluation.planning.ranking import Decision


def decision(means: list[float], noise: float, seed: int, futures: int = 32) -> Decision:
    """Candidates of known mean risk, the first of them watching; what judges has no noise."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.array(means)[:, None], 4, axis=1)
    risks = np.array(means)[:, None] + rng.normal(0, noise, (len(means), futures))
    nobody: Any = None
    return Decision("svt", (nobody,) * len(means), risks, 0.5, true, true, 0.5, nobody)


def test_a_race_ends_early_where_the_best_is_far_ahead() -> None:
    rows = confidence.races([decision([0.6, 0.2, 0.5, 0.7], 0.01, seed) for seed in range(6)], share=16)
    equal, race = rows
    assert (equal["how"], race["how"]) == ("equal shares", "race")
    assert equal["agrees"]["value"] == race["agrees"]["value"] == 1
    assert equal["regret"]["value"] == race["regret"]["value"] == 0
    assert equal["spent_per_arm"] == 16
    assert race["spent_per_arm"] < 8


def test_regret_is_the_true_risk_above_the_best() -> None:
    misled = decision([0.6, 0.2, 0.5], 0.0, 0)
    misled.risks[2] = 0.1  # looks best and is not
    rows = confidence.races([misled], share=4)
    assert [row["regret"]["value"] for row in rows] == pytest.approx([0.3, 0.3])


def test_sure_decisions_are_the_better_ones() -> None:
    easy = [decision([0.6, 0.1], 0.05, seed) for seed in range(12)]
    hard = [decision([0.31, 0.3], 0.4, 100 + seed) for seed in range(12)]
    curves, regret = confidence.sureness(easy + hard)
    assert len(regret) == 24 * 32 // confidence.FEW
    assert regret.max() == pytest.approx(0.01)
    assert curves["gap to the second"].gained > 0.3
    assert set(curves) == set(confidence.SURENESS)


def test_a_race_finds_the_best_of_known_arms_as_often_as_equal_shares_do() -> None:
    (row,) = confidence.synthetic((320,), repeats=30)
    assert row["spent"] <= 320
    assert row["race"] >= row["equal shares of what the race spent"]
    assert row["race"] > 0.6
