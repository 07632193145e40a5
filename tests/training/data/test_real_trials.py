"""Pairs of real shards for the interval model: within a trajectory, weighted by the replicates of the later hour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg_gym.core import Patient
from ecg_gym.datasets.transitions import Trials
from ecg_gym.real_trials.manifest import RealTrial
from ecg_gym.world_model.conditioning import OBSERVED
from training.data.real_trials import RESAMPLED, real_pairs, resample
from training.train_interval_model import Pairs

HOURS = (-1.0, -0.5, 2.0, 6.0)


def shard() -> tuple[Trials, dict[int, RealTrial]]:
    """Two trajectories of four strips, the first two of them baselines; the second trajectory weighs a third."""
    n = 2 * len(HOURS)
    table, hours = np.ones((n, 1), np.float32), np.tile(HOURS, 2)
    trials = Trials(
        table[:, :, None], np.ones((n, len(OBSERVED)), np.float32), table, table, table, table, table, np.ones(n, bool),
        np.full((n, 17), np.nan, np.float32), np.full(n, np.nan, np.float32), np.full(n, ""), np.zeros(n, bool),
        np.full(n, ""), np.repeat([3, 7], len(HOURS)), hours, ("x",),
    )  # fmt: skip
    flags = (True, True, False, False)
    known = {
        number: RealTrial(number, "t", f"s{number}", "train", "a", 1, 1, False, Patient(), (), HOURS, (w,) * 4, flags)
        for number, w in ((3, 1.0), (7, 1 / 3))
    }
    return trials, known


def test_baselines_pair_with_everything_later_and_neighbours_with_each_other() -> None:
    pairs, weights = real_pairs(*shard())
    own = [(b, a) for b, a in zip(pairs.before.tolist(), pairs.after.tolist()) if b < 4]
    assert own == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert len(pairs) == 2 * len(own), "and none leaves its trajectory"
    assert set(pairs.baseline.tolist()) == {0, 4}
    np.testing.assert_allclose(weights, [1.0] * 6 + [1 / 3] * 6)


def test_strips_without_a_heart_rate_are_no_pairs() -> None:
    trials, known = shard()
    observed = trials.observed.copy()
    observed[2, OBSERVED.index("hr_bpm")] = np.nan
    observed[4, OBSERVED.index("hr_bpm")] = np.nan  # the baseline of the second trajectory
    pairs, _ = real_pairs(replace(trials, observed=observed), known)
    assert list(zip(pairs.before.tolist(), pairs.after.tolist())) == [(0, 1), (0, 3), (1, 3)]


def test_draws_follow_the_weights() -> None:
    pairs, weights = real_pairs(*shard())
    draws = resample(pairs, weights, np.random.default_rng(0))
    assert len(draws) == RESAMPLED * len(pairs)
    assert np.mean(draws.before < 4) == pytest.approx(0.75, abs=0.05)


def test_no_weight_is_refused() -> None:
    nothing = Pairs(*(np.zeros(0, int),) * 3)
    with pytest.raises(ValueError, match=r"0 pairs have the weight 0; expected some; trials\.json says"):
        resample(nothing, np.zeros(0), np.random.default_rng(0))
