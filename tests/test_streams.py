"""Streams: the numbers of NumPy's own Philox, one stream per row whatever the batch."""

from __future__ import annotations

import numpy as np

from ecg_gym.philox import fill_uniform, normal
from ecg_gym.streams import NOISE, Streams


def test_numba_draws_what_numpy_draws() -> None:
    key = np.random.default_rng(0).integers(0, 2**64, (5, 2), dtype=np.uint64)
    step, episode = np.arange(5, dtype=np.uint64), np.arange(5, 10, dtype=np.uint64)
    streams = Streams(key, step, episode, NOISE)
    numbers = np.empty((5, 11))
    fill_uniform(streams.key, streams.counter, numbers)
    for row, generator in enumerate(streams):
        np.testing.assert_array_equal(numbers[row], generator.random(11))


def test_a_row_is_itself_in_every_batch() -> None:
    streams = Streams.of([np.random.default_rng(i) for i in range(4)])
    alone = Streams.of([np.random.default_rng(2)])
    assert streams[2].random() == alone[0].random() == streams[1:][1].random()
    assert streams.take(np.array([3, 2]))[1].random() == alone[0].random()


def test_steps_episodes_purposes_and_copies_differ() -> None:
    key = np.array([[1, 2]], np.uint64)
    zero, one = np.zeros(1, np.uint64), np.ones(1, np.uint64)
    several = [
        Streams(key, zero, zero),
        Streams(key, one, zero),
        Streams(key, zero, one),
        Streams(key, zero, zero, NOISE),
    ]
    firsts = [s[0].random() for s in several] + [s.random() for s in Streams(key, zero, zero).repeat(3)][1:]
    assert len(set(firsts)) == len(firsts)


def test_normal_numbers_are_normal() -> None:
    streams, out = Streams.start(np.array([[3, 4]], np.uint64)), np.empty((1, 20_000))
    fill_uniform(streams.key, streams.counter, out)
    numbers = np.array([normal(u, v) for u, v in out.reshape(-1, 2)])
    assert abs(numbers.mean()) < 0.03
    assert abs(numbers.std() - 1) < 0.03
    assert abs(np.mean(np.abs(numbers) > 1.96) - 0.05) < 0.007
