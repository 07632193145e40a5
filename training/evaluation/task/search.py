"""A first closed-loop search in the truth: every allowed treatment imagined in the virtual patient, the best one given.

It knows the hidden heart and not the dice: futures are drawn with random numbers that the episode does not use. Each
candidate is given once, then watched; what lies beyond the steps that are looked ahead is priced as if the last risk
stayed. The best few meet again in fresh futures. It is a strong policy and no proven optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg_gym.columns import Choice
from ecg_gym.envs.dynamics import Task, read_vitals
from ecg_gym.envs.episode import Episode
from ecg_gym.streams import Streams

ROWS = 4096  # imagined at once


@dataclass(frozen=True)
class Search:
    """How far and how often it looks."""

    ahead: int = 4  # steps
    futures: int = 2  # of every allowed treatment
    again: int = 4  # more futures of the best ones
    kept: int = 3  # treatments that meet again, watching among them

    def __call__(self, task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """The entries ``(B,)`` with the highest mean return over the futures."""
        row, entry = np.nonzero(episode.allowed)
        value = np.full(episode.allowed.shape, -np.inf)
        seeds = rng.integers(0, 2**64, (2, len(episode), 2), dtype=np.uint64)
        value[row, entry] = self._values(task, episode, row, entry, seeds[0], self.futures)
        best = np.argsort(-value, axis=1, kind="stable")[:, : self.kept]
        keep = np.zeros_like(episode.allowed)
        np.put_along_axis(keep, best, True, axis=1)
        keep[:, 0] = True
        row, entry = np.nonzero(keep & np.isfinite(value))
        fresh = self._values(task, episode, row, entry, seeds[1], self.again)
        final = np.full(value.shape, -np.inf)
        weight = self.futures + self.again
        final[row, entry] = (self.futures * value[row, entry] + self.again * fresh) / weight
        return final.argmax(axis=1)

    def _values(
        self, task: Task, episode: Episode, row: np.ndarray, entry: np.ndarray, seeds: np.ndarray, futures: int
    ) -> np.ndarray:
        """The mean return ``(C,)`` of giving ``entry`` to ``row``, common random numbers for the entries of a row."""
        rows, entries = np.repeat(row, futures), np.repeat(entry, futures)
        copy = np.tile(np.arange(futures), len(row))
        parts = [
            self._returns(task, episode, rows[at : at + ROWS], entries[at : at + ROWS], copy[at : at + ROWS], seeds)
            for at in range(0, len(rows), ROWS)
        ]
        return np.concatenate(parts).reshape(-1, futures).mean(axis=1)

    def _returns(
        self, task: Task, episode: Episode, rows: np.ndarray, entries: np.ndarray, copy: np.ndarray, seeds: np.ndarray
    ) -> np.ndarray:
        state, baseline = episode.state[rows], episode.home.take(rows)
        streams = Streams.start(seeds[rows] + copy[:, None].astype(np.uint64))
        horizon, left = episode.horizon[rows], (episode.horizon - episode.steps)[rows]
        total, given = np.zeros(len(rows)), entries
        living = np.ones(len(rows), bool)
        for step in range(self.ahead):
            counts = living & (step < left)
            if not counts.any():
                break
            state = task.world.step(state, Choice(task.menu, given), streams.after(np.full(len(rows), step + 1)))
            risk = read_vitals(task, state, baseline, None)["risk"]
            died = counts & ~state.alive
            total[died] -= (horizon + left - step)[died]
            living &= state.alive
            total -= np.where(counts & living, risk, 0.0)
            given = np.zeros(len(rows), int)
        rest = np.maximum(left - self.ahead, 0)
        return total - np.where(living, rest * risk, 0.0)
