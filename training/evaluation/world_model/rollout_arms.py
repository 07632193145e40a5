"""What the study of rollouts draws: three arms of one trial, seen from the truth and from the world under study.

Same people, same noise, three schedules: *treated* (a treatment at the first step and again at the fifth), *washout*
(once, then watching), *placebo*. Each arm has one future that happened, others that could have, the world's rollouts,
and the world's single steps from what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ecg_gym.core import WATCH, State, World
from ecg_gym.datasets.transitions import TrialDesign, draw_treatment
from ecg_gym.rollout import advance
from training.evaluation.questions import (
    HELD_OUT,
    INTERVALS,
    PURPOSES,
    STREAMS,
    held_out_patients,
    seen_by,
    strangers,
)
from training.evaluation.result import Size
from training.evaluation.trajectories import (
    Progress,
    Schedule,
    Trajectories,
    crowd_of,
    draws,
    follow,
    measured_of,
    single_steps,
)

AGAIN = 4  # the treated are given the same again after so many steps
ARMS = ("treated", "washout", "placebo")
JUDGED = ("treated", "placebo")  # arms in which single steps are told what happened
SCORED = INTERVALS[:4]  # rate, PR, QRS, QTcF
PAIRED = 1000  # added to the step in the noise of pairs
REMEMBERED = (
    "baseline",
    "baseline_observed",
    "baseline_exposure",
    "baseline_hours",
    "baseline_findings",
    "baseline_pressure",
)  # of the first strip
S = slice(0, len(SCORED))


@dataclass(frozen=True)
class Arm:
    """One arm of one trial, seen from everywhere; patients along axis 1 of samples, axis 0 of single values."""

    real: np.ndarray  # (N, H + 1, 6) what happened in the virtual patient
    truth: np.ndarray  # (K, N, H + 1, 6) what else could have happened there
    truth_one_step: np.ndarray  # (K, N, H + 1, 6) the same, each step begun at what happened
    others: np.ndarray  # (K, N, H + 1, 6) what could have happened to other people with the same heart; NaN if unknown
    rollout: np.ndarray  # (K, N, H + 1, 6) the world's rollouts
    one_step: (
        np.ndarray
    )  # (K, N, H + 1, 6) the world, each step begun at the strip that happened, as if it were the first
    remembering: np.ndarray  # (K, N, H + 1, 6) the last step, still knowing the first strip too; NaN before
    pharmacology: np.ndarray  # (N, H + 1, 6) the first strip, moved by what the population would do


@dataclass(frozen=True)
class Pairs:
    """Squared distances in intervals of pairs of hearts before and after a step with common noise."""

    patient: np.ndarray  # (P,)
    before: np.ndarray  # (P,)
    after: np.ndarray  # (P,)


def run_trial(
    world: World, baseline: World, size: Size, seed: int, steps: int, progress: Progress
) -> tuple[dict[str, Arm], Pairs, Pairs]:
    """The arms of one seed by name, and pairs of samples one step apart, in the world and in the virtual patient."""
    people = held_out_patients(baseline, size.patients, seed)
    view = seen_by(world, people)
    rng = np.random.default_rng([HELD_OUT, PURPOSES["test"], seed, 2])
    treatments = [draw_treatment(person, rng, TrialDesign(watch=(0.0,)), "test")[0] for person in people.patients]
    watch = [WATCH] * len(people)
    schedules: dict[str, Schedule] = {
        "treated": [treatments if step % AGAIN == 0 else watch for step in range(steps)],
        "washout": [treatments if step == 0 else watch for step in range(steps)],
        "placebo": [watch] * steps,
    }
    spread = between_people(measured_of(people, baseline))
    arms: dict[str, Arm] = {}
    pairs = []
    for name, schedule in schedules.items():
        keep = pair_steps(steps) if name == "treated" else ()
        every = range(1, steps + 1)
        happened = follow(baseline, people, schedule, 1, ("true", seed), keep=range(steps + 1))
        before = [happened.states[step] for step in range(steps)]
        could = follow(baseline, people, schedule, size.samples, ("again", seed), keep)
        samples = follow(world, view, schedule, size.samples, ("model", seed), keep, progress)
        if name in JUDGED:
            sights = [view, *(seen_by(world, state) for state in before[1:])]
            row = single_steps(world, sights, schedule, size.samples, ("model", seed), every, progress)
            sights_of_two = [remembering(view, sight) for sight in sights]
            both = single_steps(world, sights_of_two, schedule, size.samples, ("model", seed), (steps,), progress)
            one_step_true = single_steps(baseline, before, schedule, size.samples, ("again", seed), every)
            others = _of_others(baseline, people, schedule, size.samples, seed)
            arms[name] = _arm(happened, could, one_step_true, samples, row, both, people, others)
        else:
            arms[name] = _arm(happened, could, could, samples, samples, samples, people)
        for place, followed in ((world, samples), (baseline, could)):
            if keep:
                pairs.append(_pairs(place, followed, schedule, size.samples, len(people), spread, seed, progress))
    return arms, pairs[0], pairs[1]


def _of_others(baseline: World, people: State, schedule: Schedule, k: int, seed: int) -> Trajectories | None:
    """The futures of people with the same hearts who answer to drugs in their own ways."""
    rng = np.random.default_rng([HELD_OUT, STREAMS["stranger"], seed])
    crowd = strangers(baseline, crowd_of(people, k), rng)
    return None if crowd is None else follow(baseline, people, schedule, k, ("stranger", seed), crowd=crowd)


def remembering(first: State, now: State) -> State:
    """``now``, knowing still what its world kept of the ``first`` strip."""
    memory = {name: value for name, value in first.inner.items() if name in REMEMBERED}
    return now.replaced(inner={**now.inner, **memory})


def _arm(
    happened: Trajectories,
    could: Trajectories,
    one_step_true: Trajectories,
    samples: Trajectories,
    observed: Trajectories,
    both: Trajectories,
    people: State,
    others: Trajectories | None = None,
) -> Arm:
    real = happened.intervals[0]
    return Arm(
        real,
        could.intervals,
        one_step_true.intervals,
        np.full_like(could.intervals, np.nan) if others is None else others.intervals,
        samples.intervals,
        observed.intervals,
        both.intervals,
        population_forecast(people, [happened.states[step] for step in range(real.shape[1])]),
    )


def population_forecast(people: State, states: Sequence[State]) -> np.ndarray:
    """The first strip's intervals ``(N, H + 1, 6)``, moved by what doses and clock do to an average heart."""
    from ecg_gym.world_model import conditioning

    intervals = conditioning.observe_strips(people.ecg)
    tables = []
    for state in states:
        expected = conditioning.population_forecast(
            intervals, people.patients, people.doses, state.doses, people.hours, state.hours
        )
        tables.append(np.stack([expected[name] for name in INTERVALS], axis=1))
    return np.stack(tables, axis=1)


def pair_steps(steps: int) -> tuple[int, ...]:
    """After which steps pairs of hearts are sent on together: early, before the second treatment, late."""
    return tuple(sorted({1, min(AGAIN, steps - 1), steps - 1} - {0}))


def _pairs(
    world: World,
    followed: Trajectories,
    schedule: Schedule,
    k: int,
    n: int,
    spread: np.ndarray,
    seed: int,
    progress: Progress = lambda rows: None,
) -> Pairs:
    """Samples 0 and 1, 2 and 3, ... of each patient, sent one step on with the noise of the pair."""
    half = k // 2
    result: dict[str, list[np.ndarray]] = {"before": [], "after": []}
    for step, crowd in followed.states.items():
        now = crowd[: 2 * half * n]
        noise = draws(("model", seed), n, 2 * half, PAIRED + step, shared=2)
        later = advance(world, now, [*schedule[step]] * (2 * half), noise, progress)
        apart = [_apart(measured_of(state, world)[:, S] / spread[S], half, n) for state in (now, later)]
        finite = np.isfinite(apart[0]) & np.isfinite(apart[1])
        for name, squares in zip(result, apart):
            result[name].append(np.where(finite, squares, 0).sum(axis=-1).ravel())
    patient = np.tile(np.arange(n), half * len(followed.states))
    return Pairs(patient, np.concatenate(result["before"]), np.concatenate(result["after"]))


def between_people(values: np.ndarray) -> np.ndarray:
    """SD ``(I,)`` of each interval over people ``(N, I)``; NaN where fewer than two are known or all are alike."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    mean = np.where(finite, values, 0).sum(axis=0) / np.maximum(count, 1)
    variance = (np.where(finite, values - mean, 0) ** 2).sum(axis=0) / np.maximum(count, 1)
    return np.where((count > 1) & (variance > 0), np.sqrt(variance), np.nan)


def _apart(values: np.ndarray, half: int, n: int) -> np.ndarray:
    """Squared differences ``(pairs, N, ...)`` of rows that stand sample by sample."""
    rows = values.reshape(half, 2, n, -1)
    return (rows[:, 0] - rows[:, 1]) ** 2


def together(parts: Sequence[Arm]) -> Arm:
    """The patients of several trials in one."""
    joined = {}
    for f in fields(Arm):
        values = [getattr(part, f.name) for part in parts]
        joined[f.name] = np.concatenate(values, axis=1 if values[0].ndim == 4 else 0)
    return Arm(**joined)


def paired(parts: Sequence[Pairs], patients: int) -> Pairs:
    """One set of pairs out of several seeds'; patients are numbered through, ``patients`` to a seed."""
    return Pairs(
        np.concatenate([part.patient + patients * i for i, part in enumerate(parts)]),
        np.concatenate([part.before for part in parts]),
        np.concatenate([part.after for part in parts]),
    )
