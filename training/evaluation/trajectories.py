"""Many steps of any World: rollouts that feed on themselves, and single steps that are told the truth before each.

Sample j of patient i draws step h from the same random numbers whatever is given and whatever it starts from, so two
treatments, or a rollout and a single step, differ by what was asked and not by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import State, Treatment, World
from ecg_gym.powers import Latent
from ecg_gym.rollout import advance
from ecg_gym.rollout import noise as noise_of
from training.evaluation.questions import CHUNK, HELD_OUT, INTERVALS, STREAMS, read_in

Schedule = Sequence[Sequence[Treatment]]  # per step, one treatment per patient
Progress = Callable[[int], None]  # hears how many rows were drawn


@dataclass(frozen=True)
class Trajectories:
    """K samples of N patients over H steps. NaN: not measurable, not asked for, or the patient has died."""

    intervals: np.ndarray  # (K, N, H + 1, 6), columns harness.INTERVALS; step 0 is the start
    states: dict[int, State]  # step -> K x N rows, all patients of sample 0 first; the steps that were asked for


def follow(
    world: World,
    start: State,
    schedule: Schedule,
    k: int,
    noise: tuple[str, int],
    keep: Collection[int] = (),
    progress: Progress = lambda rows: None,
    crowd: State | None = None,
) -> Trajectories:
    """``k`` rollouts of each patient of ``start``, each step beginning at what the step before has drawn.

    ``noise`` is a stream of ``harness.STREAMS`` and a seed. ``crowd`` begins in place of all patients ``k`` times over.
    """
    crowd = crowd_of(start, k) if crowd is None else crowd
    intervals = [np.tile(measured_of(start, world), (k, 1))]
    states = {0: crowd} if 0 in keep else {}
    for step, treatments in enumerate(schedule, start=1):
        crowd = advance(world, crowd, [*treatments] * k, draws(noise, len(start), k, step), progress, CHUNK)
        intervals.append(measured_of(crowd, world))
        if step in keep:
            states[step] = crowd
    return Trajectories(_table(intervals, k), states)


def single_steps(
    world: World,
    observed: Sequence[State],
    schedule: Schedule,
    k: int,
    noise: tuple[str, int],
    steps: Collection[int],
    progress: Progress = lambda rows: None,
) -> Trajectories:
    """``k`` draws of each step in ``steps``, begun at ``told[step - 1]``; the other steps are NaN."""
    crowd = crowd_of(observed[0], k)
    intervals = [np.full((len(crowd), len(INTERVALS)), np.nan) for _ in range(len(schedule) + 1)]
    for step in sorted(steps):
        before, treatments = crowd_of(observed[step - 1], k), [*schedule[step - 1]] * k
        after = advance(world, before, treatments, draws(noise, len(observed[0]), k, step), progress, CHUNK)
        intervals[step] = measured_of(after, world)
    return Trajectories(_table(intervals, k), {})


def crowd_of(start: State, k: int) -> State:
    """All patients ``k`` times over."""
    return start[np.tile(np.arange(len(start)), k)]


def draws(noise: tuple[str, int], n: int, k: int, step: int, shared: int = 1) -> list[np.random.Generator]:
    """The noise of one step: a generator for each row of ``crowd_of(state, k)``; ``shared`` samples have the same."""
    stream, seed = noise
    return [
        noise_of(HELD_OUT, STREAMS[stream], seed, patient, sample // shared, step)
        for sample in range(k)
        for patient in range(n)
    ]


def measured_of(state: State, world: World) -> np.ndarray:
    """The intervals of each look ``(B, 6)``, said or measured; NaN where unknown or the patient is dead."""
    return np.where(state.alive[:, None], read_in(world)(state, state)["intervals"], np.nan)


def latent_of(state: State, world: World) -> np.ndarray | None:
    """The latent that each strip is drawn from ``(B, D)``, where the world has one."""
    return world.latents(state).reshape(len(state), -1) if isinstance(world, Latent) else None


def _table(parts: Sequence[np.ndarray], k: int) -> np.ndarray:
    rows = np.stack(parts, axis=1)  # (K N, H + 1, ...)
    return rows.reshape(k, -1, *rows.shape[1:])
