"""``Streams``: one counter-based random stream per row, so that what it draws depends on it alone.

A stream is a Philox key and two counters: Salmon 2011, doi:10.1145/2063384.2063405. Episode ``e``, step ``s`` of a row
is the stream at counter ``(0, s, e, purpose)``; nothing is kept between draws, so a step can be replayed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

STEP, PATIENT, FIRST, NOISE, LEAD_SET, SCENARIO, WHICH_SCENARIO, BLOOD = range(8)  # purposes: they must not overlap


@dataclass(frozen=True, eq=False)
class Streams(Sequence[np.random.Generator]):
    """B random streams; ``streams[i]`` is row i's as a ``numpy.random.Generator``."""

    key: np.ndarray  # (B, 2) uint64
    step: np.ndarray  # (B,) uint64
    episode: np.ndarray  # (B,) uint64
    purpose: int = STEP

    @classmethod
    def of(cls, generators: Sequence[np.random.Generator]) -> Streams:
        """One stream per generator; each is drawn from once."""
        keys = [generator.integers(0, 2**64, 2, dtype=np.uint64) for generator in generators]
        return cls.start(np.array(keys, np.uint64).reshape(-1, 2))

    @classmethod
    def start(cls, key: np.ndarray) -> Streams:
        """The streams of keys ``(B, 2)`` at their beginning."""
        zero = np.zeros(len(key), np.uint64)
        return cls(key, zero, zero)

    def at(self, purpose: int) -> Streams:
        """The same rows' streams for another purpose."""
        return Streams(self.key, self.step, self.episode, purpose)

    @property
    def counter(self) -> np.ndarray:
        """Words 1 to 3 of the counter, ``(B, 3)`` uint64."""
        words = np.empty((len(self), 3), np.uint64)
        words[:, 0], words[:, 1], words[:, 2] = self.step, self.episode, self.purpose
        return words

    def after(self, steps: np.ndarray) -> Streams:
        """The same episodes' streams at their steps ``(B,)``."""
        return Streams(self.key, steps.astype(np.uint64), self.episode, self.purpose)

    def next_episode(self) -> Streams:
        """The streams of the episode that follows each."""
        return Streams(self.key, np.zeros_like(self.step), self.episode + np.uint64(1), self.purpose)

    def take(self, rows: np.ndarray | slice) -> Streams:
        """Some of the rows."""
        return Streams(self.key[rows], self.step[rows], self.episode[rows], self.purpose)

    def repeat(self, k: int) -> Streams:
        """Each row ``k`` times, all different: copy j draws at step + j 2^32."""
        many = self.take(np.repeat(np.arange(len(self)), k))
        copy = np.tile(np.arange(k, dtype=np.uint64), len(self))
        return replace(many, step=many.step + (copy << np.uint64(32)))

    def __len__(self) -> int:
        return len(self.key)

    @overload
    def __getitem__(self, index: int) -> np.random.Generator: ...
    @overload
    def __getitem__(self, index: slice) -> Streams: ...
    def __getitem__(self, index: int | slice) -> np.random.Generator | Streams:
        if isinstance(index, slice):
            return self.take(index)
        counter = [0, int(self.step[index]), int(self.episode[index]), self.purpose]
        return np.random.Generator(np.random.Philox(counter=counter, key=self.key[index]))

    def __iter__(self) -> Iterator[np.random.Generator]:
        return (self[i] for i in range(len(self)))
