"""A first closed-loop search in the truth: every allowed treatment imagined in the virtual patient, the best one given.

It knows the hidden heart and not the dice: futures are drawn with random numbers that the episode does not use. A plan
is a treatment and then watching, or a treatment and then one that it makes possible: anticoagulation and then a shock,
a drug and then a wire. What lies beyond the steps that are looked ahead is priced as if the last risk stayed. The best
few plans meet again in fresh futures. It is a strong policy and no proven optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ecg_gym.columns import Choice
from ecg_gym.envs import dynamics
from ecg_gym.envs.dynamics import Task, read_vitals
from ecg_gym.envs.episode import Episode
from ecg_gym.streams import Streams

ROWS = 4096  # imagined at once


@dataclass(frozen=True)
class Plans:
    """Plans ``(C,)`` of the rows of a batch: a menu entry now, another one step later, then watching."""

    row: np.ndarray
    now: np.ndarray
    later: np.ndarray

    def take(self, which: np.ndarray) -> Plans:
        """Some of them."""
        return Plans(self.row[which], self.now[which], self.later[which])


@dataclass(frozen=True)
class Search:
    """How far and how often it looks."""

    ahead: int = 4  # steps
    futures: int = 2  # of every plan
    again: int = 8  # more futures of the best ones
    kept: int = 3  # plans that meet again, and watching

    def __call__(self, task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """The entries ``(B,)`` that the plans with the highest mean return begin with."""
        return self.decide(task, episode, rng)[0]

    def decide(self, task: Task, episode: Episode, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same entries ``(B,)``, and how many steps of the world were imagined for each row ``(B,)``."""
        seeds = rng.integers(0, 2**64, (2, len(episode), 2), dtype=np.uint64)
        plans = self._plans(task, episode, seeds[0])
        value = self._values(task, episode, plans, seeds[0], self.futures)
        order = np.lexsort((-value, plans.row))
        place = np.arange(len(order)) - np.searchsorted(plans.row[order], plans.row[order])
        best = np.sort(order[(place < self.kept) | (plans.now[order] == 0)])
        few, first = plans.take(best), value[best]
        fresh = self._values(task, episode, few, seeds[1], self.again)
        final = (self.futures * first + self.again * fresh) / (self.futures + self.again)
        order = np.lexsort((-final, few.row))
        choice = few.now[order[np.searchsorted(few.row[order], np.arange(len(episode)))]]
        size = len(episode)
        ahead = np.minimum(self.ahead, episode.horizon - episode.steps)
        first_plans, second_plans = (np.bincount(some.row, minlength=size) for some in (plans, few))
        return choice, episode.allowed.sum(axis=1) + ahead * (self.futures * first_plans + self.again * second_plans)

    def _plans(self, task: Task, episode: Episode, seeds: np.ndarray) -> Plans:
        """Every allowed treatment alone, and before each one that is allowed after it and not after watching."""
        row, entry = np.nonzero(episode.allowed)
        alone = Plans(row, entry, np.zeros(len(row), int))
        if not (episode.horizon - episode.steps > 1).any():
            return alone
        after = np.concatenate([
            self._allowed_after(task, episode, alone.take(slice(at, at + ROWS)), seeds)  # type: ignore[arg-type]
            for at in range(0, len(row), ROWS)
        ])  # fmt: skip
        watching = after[entry == 0][row]  # watching is always allowed, and the first of its row
        which, second = np.nonzero(after & ~watching)
        return Plans(*(np.concatenate(pair) for pair in (
            (row, row[which]), (entry, entry[which]), (alone.later, second),
        )))  # fmt: skip

    def _allowed_after(self, task: Task, episode: Episode, plans: Plans, seeds: np.ndarray) -> np.ndarray:
        """What is allowed ``(C, menu)`` one step later, in one future."""
        before = episode[plans.row]
        streams = Streams.start(seeds[plans.row])
        state = task.world.step(before.state, Choice(task.menu, plans.now), streams.after(np.ones(len(plans.row), int)))
        now = read_vitals(task, state, before.baseline, None)
        return dynamics.allowed_mask(task, replace(before, state=state, now=now))

    def _values(self, task: Task, episode: Episode, plans: Plans, seeds: np.ndarray, futures: int) -> np.ndarray:
        """The mean return ``(C,)`` of plans, common random numbers for those of a row."""
        copy = np.tile(np.arange(futures), len(plans.row))
        every = plans.take(np.repeat(np.arange(len(plans.row)), futures))
        parts = [
            self._returns(task, episode, every.take(slice(at, at + ROWS)), copy[at : at + ROWS], seeds)  # type: ignore[arg-type]
            for at in range(0, len(copy), ROWS)
        ]
        return np.concatenate(parts).reshape(-1, futures).mean(axis=1)

    def _returns(self, task: Task, episode: Episode, plans: Plans, copy: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        rows, nothing = plans.row, np.zeros(len(plans.row), int)
        state, baseline = episode.state[rows], episode.baseline.take(rows)
        streams = Streams.start(seeds[rows] + copy[:, None].astype(np.uint64))
        horizon, left = episode.horizon[rows], (episode.horizon - episode.steps)[rows]
        total, living = np.zeros(len(rows)), np.ones(len(rows), bool)
        for step, entries in enumerate((plans.now, plans.later, *[nothing] * self.ahead)[: self.ahead]):
            counts = living & (step < left)
            if not counts.any():
                break
            state = task.world.step(state, Choice(task.menu, entries), streams.after(np.full(len(rows), step + 1)))
            risk = read_vitals(task, state, baseline, None)["risk"]
            died = counts & ~state.alive
            total[died] -= (horizon + left - step)[died]
            living &= state.alive
            total -= np.where(counts & living, risk, 0.0)
        rest = np.maximum(left - self.ahead, 0)
        return total - np.where(living, rest * risk, 0.0)
