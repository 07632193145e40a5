"""``Chart``: what may be known about the patient of an env: the strips as seen, the person, the doses, the hour.

And what any world can make of it: ``observed`` starts from one look, ``carry`` steps to a later hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, Administration, Patient, State, Treatment, World
from ecg_gym.powers import RunsAtAnyPace
from ecg_gym.rollout import advance, step_noise

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv

SOON = 1e-6  # [h]


class Sight(Protocol):
    """One look at the patient, as the ``sights`` of an episode are."""

    @property
    def hours(self) -> float:
        """When [h], on the env's clock."""
        ...

    @property
    def ecg(self) -> np.ndarray:
        """(12, 1024) [mV] as it was seen."""
        ...

    @property
    def missing(self) -> Sequence[str]:
        """Names of the leads that were off."""
        ...

    @property
    def treatment(self) -> Treatment | None:
        """What was given right after it, if that is known yet."""
        ...


@dataclass(frozen=True)
class Look:
    """A look of our own making, where there is no env that keeps them."""

    hours: float
    ecg: np.ndarray
    missing: tuple[str, ...] = ()
    treatment: Treatment | None = None


@dataclass(frozen=True)
class Chart:
    """Everything a planner may know."""

    looks: tuple[Sight, ...]  # oldest first, at least one
    patient: Patient
    doses: tuple[Administration, ...]  # all doses so far, on the env's clock
    hours: float  # now [h]; later than the last look where strips come late
    dt_hours: float | None = None  # [h] of a step of the env; None where its world has a pace of its own

    def __post_init__(self) -> None:
        if not self.looks:
            raise ValueError("looks is empty; expected at least one strip; ask after the env's reset")


def chart_of(env: ECGInterventionEnv, state: State | None = None) -> Chart:
    """The chart of the env's patient; a ``state`` that stands in for the env's own has its strip as the only look."""
    now, pace = env.state if state is None else state, env.state.dt_hours
    looks: tuple[Sight, ...] = (Look(float(now.hours[0]), now.ecg[0]),)
    patient = now.patients[0]
    if stands_for(now, env):
        looks, patient = tuple(env.episode.sights[0]), env.episode.patients[0]
    dt_hours = None if pace is None else float(pace[0])
    return Chart(looks, patient, tuple(now.doses[0]), float(now.hours[0]), dt_hours)


def stands_for(state: State, env: ECGInterventionEnv) -> bool:
    """Whether a state is the env's own (rows of a vector env hand out a new object each time)."""
    own = env.state
    return state is own or (np.array_equal(state.hours, own.hours) and np.array_equal(state.ecg, own.ecg))


def observe_look(world: World, chart: Chart, look: Sight) -> tuple[State, np.ndarray]:
    """What a world makes of one look (its clock begins there), and the strip as it sees it ``(1, 12, 1024)`` [mV]."""
    ecg = ECG(look.ecg, MODEL_RATE_HZ, tuple(look.missing))
    state = world.observe(ecg, chart.patient, shifted(before(chart, look), look.hours))
    if chart.dt_hours is not None and isinstance(world, RunsAtAnyPace):
        state = state.replaced(dt_hours=np.full(len(state), max(chart.dt_hours, world.shortest_step_hours)))
    return state, state.ecg


def carry(
    world: World, crowd: State, chart: Chart, look: Sight, hours: float, seed: Sequence[int]
) -> tuple[State, int]:
    """Hearts of the hour of ``look`` stepped to ``hours`` with what was given in between; and the row-steps it took."""
    dt = pace_of(world, crowd)
    steps = max(1, round((hours - look.hours) / dt))
    after = _without(chart.doses, before(chart, look))
    for step in range(steps):
        start = look.hours + step * dt
        treatment = Treatment(tuple(a.dose for a in after if start - SOON <= a.hours < start + dt - SOON))
        rngs = step_noise([(*seed, row) for row in range(len(crowd))], step)
        crowd = advance(world, crowd, [treatment] * len(crowd), rngs, batch_rows=len(crowd))
    return crowd, steps * len(crowd)


def pace_of(world: World, state: State) -> float:
    """Hours of the next step of the first row."""
    return float(world.dt_hours if state.dt_hours is None else state.dt_hours[0])


def before(chart: Chart, look: Sight) -> tuple[Administration, ...]:
    """The doses taken before a look: what was given right after it, at the same hour, is not among them."""
    until = tuple(a for a in chart.doses if a.hours <= look.hours + SOON)
    doses = look.treatment.doses if look.treatment else ()
    return _without(until, [Administration(look.hours, dose) for dose in doses])


def shifted(doses: Sequence[Administration], origin: float) -> tuple[Administration, ...]:
    """Doses on a clock that begins at ``baseline`` [h]."""
    return tuple(Administration(a.hours - origin, a.dose) for a in doses)


def _without(doses: Sequence[Administration], others: Sequence[Administration]) -> tuple[Administration, ...]:
    """Doses less others, each as often as it is named, the last ones first."""
    left = list(doses)
    for each in others:
        places = [i for i, a in enumerate(left) if a.dose == each.dose and abs(a.hours - each.hours) <= SOON]
        if places:
            left.pop(places[-1])
    return tuple(left)
