"""What a planner believes about the patient: from the last strip alone, or from all that was seen since the first.

    truth      the env's own state, for planning in the env's own world: an oracle's privilege
    last       the last strip, observed as if the patient had just come in
    history    a world with ``assimilate(state, ecg)`` starts from the first strip and takes in every later one;
               any other world gets particles
    particles  the first strip observed, stepped through what was given, weighted by what each later strip measured

Only the chart is read (``planners.history``): strips as they were seen, and the doses that were given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, State, World
from ecg_gym.powers import Assimilates
from planners.history import SOON, Chart, before, carry, observe_look, shifted
from planners.particles import LATE, ParticleFilter

HOWS = ("truth", "last", "history", "particles")


@dataclass(frozen=True)
class Believed:
    """What is believed now."""

    state: State  # a batch of one: the likeliest
    particles: State | None  # rows that are equally likely; None where there is no doubt that the world can express
    first: np.ndarray  # (1, 12, 1024) [mV] the first strip as this world sees it: what risk is judged against
    ess: float = np.nan  # effective number of particles at the last strip, before resampling; NaN without any
    model_calls: int = 0  # row-steps asked of the world to get here from the decision before

    def rows(self, k: int) -> State:
        """``k`` rows to start ``k`` futures from."""
        return self.state.repeat(k) if self.particles is None else self.particles[np.arange(k) % len(self.particles)]


class Belief:
    """A belief about one patient, kept up to date strip by strip; ``now`` may be asked at every decision."""

    def __init__(self, world: World, how: str = "history", n: int = 16, seed: int = 0) -> None:
        if how not in HOWS[1:]:
            raise ValueError(f"belief is {how!r}; expected one of {HOWS[1:]}; pass belief='history'")
        if n < 1:
            raise ValueError(f"n is {n}; expected at least one particle; pass n=16")
        self.world, self.how, self.n, self.seed = world, how, n, seed
        self.filter: ParticleFilter | None = None
        self._chain: tuple[list[int], State, np.ndarray] | None = None  # looks taken in, and what came of them

    def now(self, chart: Chart) -> Believed:
        """What is believed at the hour of the chart."""
        last = chart.looks[-1]
        if self.how == "last":
            return self._later(chart, *observe_look(self.world, chart, last))
        if self.how == "history" and isinstance(self.world, Assimilates):
            return self._later(chart, *self._assimilated(chart))
        if self.filter is None or not self.filter.continues(chart):
            self.filter = ParticleFilter(self.world, chart, self.n, self.seed)
        calls_before = self.filter.calls
        self.filter.see(chart)
        state, particles = self.filter.at(chart)
        return Believed(state, particles, self.filter.first, self.filter.ess, self.filter.calls - calls_before)

    def _assimilated(self, chart: Chart) -> tuple[State, np.ndarray]:
        """The first strip observed, and every later one taken in at its hour; and the first as it is seen."""
        origin = chart.looks[0].hours
        if self._chain is None or self._chain[0] != [id(look) for look in chart.looks[: len(self._chain[0])]]:
            state, first = observe_look(self.world, chart, chart.looks[0])
            self._chain = [id(chart.looks[0])], state, first
        looks, state, first = self._chain
        for look in chart.looks[len(looks) :]:
            then = state.replaced(
                hours=np.array([look.hours - origin]), doses=(shifted(before(chart, look), origin),), dt_hours=None
            )
            state = self.world.assimilate(then, ECG(look.ecg, MODEL_RATE_HZ, tuple(look.missing)))  # type: ignore[attr-defined]
        self._chain = [id(look) for look in chart.looks], state, first
        return state, first

    def _later(self, chart: Chart, state: State, first: np.ndarray) -> Believed:
        """The belief of the last look carried on to now, where that look is late."""
        last = chart.looks[-1]
        if chart.hours <= last.hours + SOON:
            return Believed(state, None, first)
        crowd, calls = carry(self.world, state.repeat(self.n), chart, last, chart.hours, [self.seed, LATE])
        living = crowd[np.flatnonzero(crowd.alive)] if crowd.alive.any() else state.repeat(self.n)
        return Believed(living[0], living, first, model_calls=calls)  # somebody is being treated, so they live
