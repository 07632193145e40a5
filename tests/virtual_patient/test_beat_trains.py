"""Trains beside those of the slow maker: the same distributions, rhythm by rhythm; and streams that keep apart."""

from __future__ import annotations

import numpy as np
import pytest
from slow_strips.rhythm import beat_train
from slow_strips.strip import _this_minute

from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import draw_heart
from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.beat_trains import Trains, beat_trains
from ecg_gym.virtual_patient.heart_arrays import HeartArrays
from ecg_gym.virtual_patient.rhythm_table import rhythms

SECONDS, STRIPS = 14.2, 240
CHANGE = Modulation(sinus_rate=1.1, av_rate=0.9, ectopy=1.3, pr_ms=10.0)


def made(rhythm: str, change: Modulation = CHANGE, seed: int = 0) -> tuple[list, Trains]:
    rng = np.random.default_rng(seed)
    hearts = [draw_heart(rng, rhythm=rhythm) for _ in range(STRIPS)]
    keys = rng.integers(0, 2**63, STRIPS).astype(np.uint64)
    return hearts, beat_trains(HeartArrays.of(hearts), change, keys, SECONDS)


@pytest.mark.parametrize("rhythm", sorted(set(rhythms()) - {"asystole", "vf"}))
def test_trains_are_distributed_as_the_slow_ones(rhythm: str) -> None:
    hearts, trains = made(rhythm)
    rng = np.random.default_rng(1)
    slow = []
    for heart in hearts:
        minute = _this_minute(heart, rng)
        slow.append(beat_train(heart, CHANGE, minute["rate"], minute["pr_ms"], rng, SECONDS))

    def close(own: np.ndarray, other: np.ndarray, name: str) -> None:
        spread = np.hypot(own.std(), other.std()) / np.sqrt(STRIPS)
        assert abs(own.mean() - other.mean()) < 4 * spread + 1e-9, name

    close(trains.beats.astype(float), np.array([len(t.qrs_s) for t in slow], float), "beats")
    close(trains.p_waves.astype(float), np.array([len(t.p_s) for t in slow], float), "P waves")
    close(trains.cycles.astype(float), np.array([len(t.cycles_s) for t in slow], float), "cycles")
    for name in KINDS:
        own = np.array([(trains.kind[i, : trains.beats[i]] == KINDS.index(name)).mean() for i in range(STRIPS)])
        close(own, np.array([np.mean([k == name for k in t.kind]) for t in slow]), name)
    delays = np.array([np.nanmean(trains.pr_s[i, : trains.beats[i]]) for i in range(STRIPS)
                       if np.isfinite(trains.pr_s[i, : trains.beats[i]]).any()])  # fmt: skip
    others = np.array([np.nanmean(t.pr_s) for t in slow if np.isfinite(t.pr_s).any()])
    if len(others):
        close(delays, others, "PR")


def test_beats_are_in_order_and_within_the_train() -> None:
    for rhythm in rhythms():
        _, trains = made(rhythm)
        for i in range(STRIPS):
            qrs = trains.qrs_s[i, : trains.beats[i]]
            assert (np.diff(qrs) > 0).all()
            assert not len(qrs) or (qrs[0] > -0.1 and qrs[-1] < SECONDS + 1)


def test_a_drug_moves_only_what_it_acts_on() -> None:
    """Common random numbers: the sinus node's beats are the same whatever the AV node does, and at its own pace."""
    _, rest = made("sinus", REST)
    _, slower = made("sinus", Modulation(pr_ms=30.0))
    for i in range(STRIPS):
        np.testing.assert_array_equal(rest.p_s[i, : rest.p_waves[i]], slower.p_s[i, : slower.p_waves[i]])
    same = (rest.beats == slower.beats) & np.isfinite(rest.pr_s[:, 1]) & np.isfinite(slower.pr_s[:, 1])
    same &= rest.kind[:, 1] != KINDS.index("preexcited")
    np.testing.assert_allclose(slower.pr_s[same, 1] - rest.pr_s[same, 1], 0.03, atol=1e-9)


def test_a_row_depends_on_its_key_only() -> None:
    hearts, trains = made("af")
    rng = np.random.default_rng(0)
    [draw_heart(rng, rhythm="af") for _ in range(STRIPS)]
    keys = rng.integers(0, 2**63, STRIPS).astype(np.uint64)
    alone = beat_trains(HeartArrays.of(hearts[5:6]), CHANGE, keys[5:6], SECONDS)
    np.testing.assert_array_equal(alone.qrs_s[0], trains.qrs_s[5])
