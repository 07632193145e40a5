"""What the study of stability draws: many courses of the same people at once, in any world and in the virtual patient.

A *course* is a schedule of treatments, and how a world is told about it: the first strip only (open loop), or the strip
that happened again after every k steps. All courses share their noise: sample j of patient i draws step h from the same
random numbers in each of them, so two courses differ by what was asked and not by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecg_gym.core import (
    ECG,
    MODEL_RATE_HZ,
    WATCH,
    Administration,
    Patient,
    State,
    Treatment,
    World,
    concatenate,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.datasets.transitions import TrialDesign, draw_treatment
from ecg_gym.pharmacology import FORMULARY, population_exposure
from ecg_gym.powers import StartsFrom
from ecg_gym.rollout import advance
from training.evaluation.questions import HELD_OUT, PURPOSES
from training.evaluation.stability import flaws as stability_flaws
from training.evaluation.trajectories import Progress, Schedule, crowd_of, draws

AGAIN = 4  # the treated are given the same again after so many steps
RESYNCED = (1, 2, 4)  # steps after which a told course is told the true strip again
NUDGES_MV = (0.001, 0.01)  # noise on the first strip of a twin: 1 and 10 microvolt
SECOND = 2  # steps between the two drugs of the study of order
SEEN_PEAK, FADED = 8.0, 0.3  # a dose of the washout moves PR + QT [ms] + rate [%] by that; this share may be left


@dataclass(frozen=True)
class Course:
    """One schedule, and what the world is told of the people in it."""

    name: str
    schedule: Schedule  # per step, one treatment per patient
    every: int = 0  # [steps] after which it is told the true strip again; 0 is never (open loop)
    nudge_mv: float | None = None  # noise on its first strip; 0.0 is an identical twin of the placebo


@dataclass(frozen=True)
class ArmSamples:
    """K samples of N patients over H steps of one course. NaN: not measurable, or the patient has died."""

    intervals: np.ndarray  # (K, N, H + 1, 8), columns stability_flaws.MEASURED; step 0 is the start
    flaws: np.ndarray  # (K, N, H + 1, 12), columns stability_flaws.FLAWS
    apart_mv: np.ndarray  # (K, N, H + 1) root mean square distance of the strip from the placebo's [mV]
    alive: np.ndarray  # (K, N, H + 1) bool


@dataclass(frozen=True)
class Dead:
    """How the dead fare: rows that should have stayed as they were, and those that did not."""

    rows: int
    changed: int


def schedules(people: State, seed: int, steps: int, dt_hours: float) -> dict[str, Schedule]:
    """What is given to whom: treated, placebo, one fading dose, and two drugs in either order."""
    rng = np.random.default_rng([HELD_OUT, PURPOSES["test"], seed, 3])
    design = TrialDesign(watch=(0.0,), pair=0.0)

    def samples(patient: Patient, other: Treatment = WATCH) -> Treatment:
        """A treatment that is not a placebo and shares no drug with ``other``."""
        drugs = {"placebo", *(dose.drug for dose in other.doses)}
        while True:
            treatment = draw_treatment(patient, rng, design, "test")[0]
            if not drugs & {dose.drug for dose in treatment.doses}:
                return treatment

    watch = [WATCH] * len(people)
    usual = [samples(patient) for patient in people.patients]
    first = [samples(patient) for patient in people.patients]
    second = [samples(patient, other) for patient, other in zip(people.patients, first)]
    short = fading(steps, dt_hours)
    once = [short[i] for i in rng.permutation(np.arange(len(people)) % len(short))]
    later = min(SECOND, steps - 1)

    def two(early: Sequence[Treatment], late: Sequence[Treatment]) -> Schedule:
        return [early if step == 0 else late if step == later else watch for step in range(steps)]

    return {
        "treated": [usual if step % AGAIN == 0 else watch for step in range(steps)],
        "placebo": [watch] * steps,
        "once": [once if step == 0 else watch for step in range(steps)],
        "a then b": two(first, second),
        "b then a": two(second, first),
    }


def fading(steps: int, dt_hours: float) -> list[Treatment]:
    """Doses of the menu that act visibly on a typical adult and are nearly gone before the study ends."""
    from ecg_gym.world_model.conditioning import modulations

    typical, hours = Patient(age_years=50.0, sex="F", weight_kg=70.0), dt_hours * np.arange(1, steps + 1)
    menu = [treatment for treatment in FORMULARY.menu() if treatment]
    course = np.zeros((len(menu), steps))
    for step, hour in enumerate(hours):
        histories = [tuple(Administration(0.0, dose) for dose in treatment.doses) for treatment in [WATCH, *menu]]
        acting = modulations(histories, [typical] * len(histories), np.full(len(histories), hour))
        size = np.array([[m.pr_ms, m.jtpeak_ms + m.tpeak_tend_ms, 100 * np.log(m.sinus_rate)] for m in acting])
        course[:, step] = np.abs(size[1:] - size[0]).sum(axis=1)
    peak = course.max(axis=1)
    left = np.where(peak >= SEEN_PEAK, course[:, -1] / np.maximum(peak, 1e-9), np.inf)
    picks = np.flatnonzero(left <= FADED) if (left <= FADED).any() else np.argsort(left)[:4]
    return [menu[i] for i in picks]


def plasma(people: State, treatments: Sequence[Treatment], steps: int, dt_hours: float) -> np.ndarray:
    """Plasma concentration of the dose at each step ``(N, H + 1)``, over its largest; 0 at the start."""
    course = np.zeros((len(people), steps + 1))
    for row, (patient, treatment) in enumerate(zip(people.patients, treatments)):
        dose = treatment.doses[0]
        history = (Administration(float(people.hours[row]), dose),)
        for step in range(1, steps + 1):
            level = population_exposure(history, patient, float(people.hours[row]) + step * dt_hours).plasma
            course[row, step] = level[FORMULARY.index[dose.drug]]
    return course / np.maximum(course.max(axis=1, keepdims=True), 1e-12)


def courses(plans: Mapping[str, Schedule], row: bool = True) -> list[Course]:
    """All courses of the study; without ``told`` only those that do not hang on what is seen of the first strip."""
    listed = [Course(name, schedule) for name, schedule in plans.items()]
    listed += [Course(f"treated, told every {k}", plans["treated"], every=k) for k in RESYNCED]
    if row:
        twins = {"identical twin": 0.0, **{f"twin {1000 * nudge:g} uV": nudge for nudge in NUDGES_MV}}
        listed += [Course(name, plans["placebo"], nudge_mv=nudge) for name, nudge in twins.items()]
    return listed


def nudged(people: State, size_mv: float, seed: int) -> State:
    """The same people with white noise of ``size_mv`` (root mean square over all leads) on their strips.

    The same noise for every size.
    """
    rng = np.random.default_rng([HELD_OUT, PURPOSES["test"], seed, 4])
    noise = limb_from_independent(rng.normal(size=independent_from_leads(people.ecg).shape))
    noise *= size_mv / np.sqrt((noise**2).mean(axis=(1, 2), keepdims=True))
    return replace(people, ecg=(people.ecg + noise).astype(np.float32))


def sight(world: World, state: State) -> tuple[State, np.ndarray]:
    """The same people as ``world`` knows them by their strips, and which of them it could see ``(N,)`` bool.

    By ``world.start_from`` where there is one, else ``observe``, strip by strip, at hour 0 of the world's clock with
    the doses taken before it. The dead are not shown; a strip that ``observe`` refuses stands as dead, and is not seen.
    """
    if isinstance(world, StartsFrom):
        return world.start_from(state), state.alive.copy()
    views: list[State | None] = []
    for row in range(len(state)):
        shift = float(state.hours[row])
        history = tuple(Administration(a.hours - shift, a.dose) for a in state.doses[row])
        try:
            rows = world.observe(ECG(state.ecg[row], MODEL_RATE_HZ), state.patients[row], history)
        except ValueError:
            rows = None
        views.append(rows if state.alive[row] else None)
    visible = [view for view in views if view is not None]
    if not visible:
        raise ValueError(
            f"{type(world).__name__} refused all {len(state)} strips; expected observe(ecg, patient, given) to return "
            "a state; try ecg_gym.checks.check_world on it"
        )
    blank = replace(visible[0], alive=np.zeros(1, bool))
    mask = np.array([view is not None for view in views])
    return concatenate([blank if view is None else view for view in views]), mask


def run(
    world: World,
    start: Callable[[Course], State],
    row: Callable[[int], State],
    plan: Sequence[Course],
    k: int,
    noise: tuple[str, int],
    progress: Progress = lambda rows: None,
) -> tuple[dict[str, ArmSamples], Dead]:
    """``k`` samples of every course, side by side in one batch, and how the dead fared.

    ``start`` gives the N people of a course as this world knows them, ``told`` those of the treated after a step.
    """
    crowd = concatenate([crowd_of(start(course), k) for course in plan])
    n = len(crowd) // (k * len(plan))
    block = {course.name: slice(i * k * n, (i + 1) * k * n) for i, course in enumerate(plan)}
    like = np.tile(np.arange(k * n) + block["placebo"].start, len(plan))  # each row's placebo
    looks = [_look(crowd, like)]
    dead = rows = 0
    for step in range(1, len(plan[0].schedule) + 1):
        treatments = [treatment for course in plan for treatment in [*course.schedule[step - 1]] * k]
        later = advance(world, crowd, treatments, [g for _ in plan for g in draws(noise, n, k, step)], progress)
        dead_rows = np.flatnonzero(~crowd.alive)
        rows, dead = rows + len(dead_rows), dead + int(_changes(crowd, later)[dead_rows].sum())
        crowd = later
        looks.append(_look(crowd, like))
        for course in plan:
            if course.every and step % course.every == 0 and step < len(course.schedule):
                crowd = _replaced(crowd, block[course.name], crowd_of(row(step), k))
    killed = replace(crowd[:n], alive=np.zeros(n, bool))
    after = advance(world, killed, plan[0].schedule[0][:n], draws(noise, n, 1, len(plan[0].schedule) + 1), progress)
    parts = [np.stack(part, axis=1) for part in zip(*looks)]  # (rows, H + 1, ...)

    def samples(values: np.ndarray, course: Course) -> np.ndarray:
        mine = values[block[course.name]]
        return mine.reshape(k, n, *mine.shape[1:])

    sample = {course.name: ArmSamples(*(samples(part, course) for part in parts)) for course in plan}
    return sample, Dead(rows + n, dead + int(_changes(killed, after).sum()))


def _look(crowd: State, like: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Intervals, flaws, distance from the placebo [mV] and who is alive, of every row."""
    intervals = np.where(crowd.alive[:, None], stability_flaws.readings_of(crowd.ecg), np.nan)
    apart = np.sqrt(((crowd.ecg - crowd.ecg[like]) ** 2).mean(axis=(1, 2), dtype=float))
    both = crowd.alive & crowd.alive[like]
    flaws = stability_flaws.flaws(crowd, intervals)
    return intervals, flaws, np.where(both, apart, np.nan), crowd.alive


def _changes(before: State, after: State) -> np.ndarray:
    """Rows ``(B,)`` whose strip, clock, doses or life have changed."""
    row = np.array([was != now for was, now in zip(before.doses, after.doses)])
    strips = (before.ecg != after.ecg).any(axis=(1, 2)) & np.isfinite(before.ecg).all(axis=(1, 2))
    return strips | row | (before.hours != after.hours) | (before.alive != after.alive)


def _replaced(crowd: State, rows: slice, others: State) -> State:
    parts = [part for part in (crowd[: rows.start], others, crowd[rows.stop :]) if len(part)]
    return concatenate(parts)


def together(parts: Sequence[Mapping[str, ArmSamples]]) -> dict[str, ArmSamples]:
    """The patients of several runs in one."""
    fields = ("intervals", "flaws", "apart_mv", "alive")
    return {
        name: ArmSamples(*(np.concatenate([getattr(part[name], field) for part in parts], axis=1) for field in fields))
        for name in parts[0]
    }
