"""Pairs out of shards of real ECGs, as the interval model learns from them: within a period, weighted by replicate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg_gym.datasets.transitions import Trials
from ecg_gym.real_trials.manifest import RealTrial, read_real, row_weights
from ecg_gym.world_model.conditioning import OBSERVED
from training.train_interval_model import Pairs

RESAMPLED = 20  # times the number of pairs: how many are drawn by weight


def read_side(folder: Path, side: str) -> tuple[Trials, dict[int, RealTrial]]:
    """The strips of a side without their waveforms, and the trajectories; ValueError where the side is empty."""
    try:
        trials, trajectories = read_real(folder, side)
    except ValueError as error:
        raise ValueError(
            f"{folder} holds nobody for {side} ({error}); expected at least one person on each side; make shards of "
            "more people, or name sides in the split column of a pairs.csv"
        ) from error
    return replace(trials, strips=np.zeros((len(trials), 0), np.float16)), trajectories


def real_pairs(trials: Trials, trajectories: Mapping[int, RealTrial]) -> tuple[Pairs, np.ndarray]:
    """Every baseline with every later strip, and every strip with the next; and the weight ``(N,)`` of each pair.

    The first strip of the trajectory is what the model calls baseline. Pairs of which either strip has no measurable
    heart rate are left out. The weight is that of the later strip: one over the replicates of its hour.
    """
    first = trials.first()
    before, after = trials.pairs()
    baseline = {(n, hours): flag for n, t in trajectories.items() for hours, flag in zip(t.hours, t.baseline)}
    is_baseline = np.array([baseline[int(n), float(h)] for n, h in zip(trials.patient, trials.hours)])
    chosen_kind = (is_baseline[before] & ~is_baseline[after]) | (after == before + 1)
    measurable = np.isfinite(trials.observed[:, OBSERVED.index("hr_bpm")])
    usable = chosen_kind & measurable[before] & measurable[after] & measurable[first[before]]
    pairs = Pairs(before[usable], after[usable], first[before[usable]])
    return pairs, row_weights(trials, trajectories)[pairs.after]


def resample(pairs: Pairs, weights: np.ndarray, rng: np.random.Generator) -> Pairs:
    """Pairs drawn in proportion to their weights, ``RESAMPLED`` times as many: uniform draws of them are weighted."""
    if not len(pairs) or not weights.sum() > 0:
        raise ValueError(
            f"{len(pairs)} pairs have the weight {weights.sum():g}; expected some; trials.json says what was left out"
        )
    return pairs[rng.choice(len(pairs), size=RESAMPLED * len(pairs), p=weights / weights.sum())]
