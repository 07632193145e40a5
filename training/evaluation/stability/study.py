"""Does anybody's world hold over many steps? Seven questions to anything that passes ``check_world``.

The world is told one strip of each held-out virtual patient (``World.observe``, or ``start_from`` where it has one) and
is rolled out. Beside every number stand *copy* (the first strip, for ever) and *virtual patient* (the same hearts with
their hidden truth, another seed: what a perfect forecaster who knows the person would score).

1. *Horizon*: CRPS and mean absolute error of rate, PR, QRS and QTcF after 1 .. H steps that feed on themselves (open
   loop), and told the true strip again after every 1, 2 and 4 steps.
2. *Drift* of the untreated beyond the truth's own, at H and per hour.
3. *Washout*: one dose of a drug that fades, then watching: half-way time of the effect beside that of the plasma level.
4. *Order*: drug A then B against B then A, same doses, after H steps.
5. *Twins*: the first strip moved by 1 and 10 microvolt, noise in common: gain of their distance d in the first step,
   its growth per hour afterwards (a Lyapunov-like slope of ln d over the steps), and whether identical twins stay so.
6. *Violations* of physiology, by the table ``training/stability_bounds.yaml``, and whether the dead stay dead.
7. *Spread against error*: ratio of the samples' SD to the RMSE of their mean, and coverage of 90 % bands.

Bands are mean +- t(0.95, K-1) SD sqrt(1 + 1/K): exact for Gaussian samples of any number K. Intervals are 95 %
bootstrap intervals over patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ecg_gym.core import State, World
from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.questions import held_out_patients
from training.evaluation.result import Size, document
from training.evaluation.stability import arms, measures
from training.evaluation.stability.outcomes import Outcomes, together
from training.evaluation.trajectories import Progress, follow
from training.evaluation.world_model.rollout_arms import population_forecast

USUAL, SMALL = Size(patients=24, samples=8), Size(patients=4, samples=3)
STEPS = 8


def rows_of(size: Size, steps: int = STEPS) -> int:
    """How many rows the study asks of the world, for the progress bar."""
    plan = 5 + len(arms.RESYNCED) + 1 + len(arms.NUDGES_MV)
    return (plan * steps * size.samples + 1) * size.patients * len(size.seeds)


def study(
    world: World,
    size: Size = USUAL,
    truth: World | None = None,
    steps: int = STEPS,
    progress: Progress = lambda rows: None,
) -> dict[str, Any]:
    """The study's document; ``truth`` is where the patients live, by default the virtual patient.

    Patients whose first strip the world refuses are left out and counted in ``settings["refused"]``.
    """
    truth = truth or VirtualPatient(dt_hours=world.dt_hours)
    result = together([_one(world, truth, size, seed, steps, progress) for seed in size.seeds])
    return document(
        "stability", world, result.real.shape[0], size.seeds, measures.metrics(result, steps, float(world.dt_hours)),
        measures.rows(result, steps, float(world.dt_hours)), samples=size.samples, steps=steps,
        dt_hours=float(world.dt_hours), world_name=_name(world), refused=result.refused, resynced=list(arms.RESYNCED),
        nudges_uv=[1000 * nudge for nudge in arms.NUDGES_MV], dead_rows=result.dead.rows,
        died={"world": result.deaths("world"), "virtual patient": result.deaths("truth")},
    )  # fmt: skip


def _one(world: World, truth: World, size: Size, seed: int, steps: int, progress: Progress) -> Outcomes:
    people = held_out_patients(truth, size.patients, seed)
    view, visible = arms.sight(world, people)
    people, view = people[np.flatnonzero(visible)], view[np.flatnonzero(visible)]
    dt = float(world.dt_hours)
    schedules = arms.schedules(people, seed, steps, dt)
    happened = {
        name: follow(truth, people, schedules[name], 1, ("true", seed), keep=range(steps + 1))
        for name in ("treated", "placebo", "once")
    }
    treated = happened["treated"].states

    def start(course: arms.Course) -> State:
        if not course.nudge_mv:
            return view
        twin, visible = arms.sight(world, arms.nudged(people, course.nudge_mv, seed))
        return twin.where(visible, view)  # a twin who is refused is no twin: it stands where the other stands

    samples, dead = arms.run(
        world, start, lambda step: arms.sight(world, treated[step])[0], arms.courses(schedules), size.samples,
        ("model", seed), progress,
    )  # fmt: skip
    could, _ = arms.run(
        truth, lambda _: people, lambda step: treated[step], arms.courses(schedules, row=False), size.samples,
        ("again", seed),
    )  # fmt: skip
    return Outcomes(
        real=happened["treated"].intervals[0],
        real_placebo=happened["placebo"].intervals[0],
        real_once=happened["once"].intervals[0],
        world=samples,
        truth=could,
        pharmacology=population_forecast(people, [happened["once"].states[step] for step in range(steps + 1)]),
        untreated=population_forecast(people, [happened["placebo"].states[step] for step in range(steps + 1)]),
        plasma=arms.plasma(people, schedules["once"][0], steps, dt),
        dead=dead,
        refused=size.patients - len(people),
    )


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: one line per step, mean over the four intervals in units of the copy's error at the end."""
    return measures.summary(result)


def _name(world: World) -> str:
    return f"{type(world).__module__}:{type(world).__name__}"
