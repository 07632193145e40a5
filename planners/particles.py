"""``ParticleFilter``: hearts that may be this one, stepped with what was given and weighted by every strip since.

Sequential importance resampling (Gordon, Salmond & Smith 1993, IEE Proc F 140:107), resampled systematically (Kitagawa
1996, J Comput Graph Stat 5:1) when the effective number of particles falls below half. It knows what its world's
``observe`` leaves open only through what ``step`` draws: a world that is sure of a person's hidden traits stays sure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import logsumexp
from scipy.stats import t as student

from ecg_gym.core import ECG, MODEL_RATE_HZ, State, World
from ecg_gym.waveform import measure
from ecg_gym.yaml_files import read_yaml
from planners.history import SOON, Chart, Sight, before, carry, observe_look, shifted

TABLE = Path(__file__).with_name("measurement.yaml")
LATE, RESAMPLE, DRAW, STEP = 1_000_001, 1_000_002, 1_000_003, 1_000_004  # streams of randomness that must not meet


class ParticleFilter:
    """``n`` hearts of one patient in one world, as good as the looks taken in so far."""

    def __init__(self, world: World, chart: Chart, n: int, seed: int) -> None:
        self.world, self.n, self.seed = world, n, seed
        self.baseline: Sight = chart.looks[0]
        self.last, self.n_looks = self.baseline, 1
        state, self.first = observe_look(world, chart, self.baseline)
        self.particles = state.repeat(n)
        self.log_weights = np.zeros(n)
        self.ess = float(n)  # effective number of particles at the last look, before resampling
        self.calls = 0  # row-steps asked of the world
        self.restarts = 0  # looks at which no particle was left alive and finite

    def continues(self, chart: Chart) -> bool:
        """Whether these looks go on where this filter stands."""
        baseline = chart.looks[0]
        same = baseline.hours == self.baseline.hours and np.array_equal(baseline.ecg, self.baseline.ecg)
        return same and len(chart.looks) >= self.n_looks

    def see(self, chart: Chart) -> None:
        """Take in the looks that are new."""
        for look in chart.looks[self.n_looks :]:
            at = [self.seed, STEP, self.n_looks]
            self.particles, calls = carry(self.world, self.particles, chart, self.last, look.hours, at)
            self.calls += calls
            self.log_weights = self.log_weights + log_likelihood(look.ecg, self.particles)
            if not np.isfinite(self.log_weights).any():  # none is left, and yet a strip was seen: begin anew from it
                self.particles, self.log_weights = self._again(chart, look), np.zeros(self.n)
                self.restarts += 1
            weights = self.weights
            self.ess = float(1 / np.sum(weights**2))
            if self.ess < self.n / 2:
                rows = systematic(weights, self.n, np.random.default_rng([self.seed, RESAMPLE, self.n_looks]))
                self.particles, self.log_weights = self.particles[rows], np.zeros(self.n)
            self.last, self.n_looks = look, self.n_looks + 1

    @property
    def weights(self) -> np.ndarray:
        """(n,) that sum to 1."""
        return np.exp(self.log_weights - logsumexp(self.log_weights))

    def at(self, chart: Chart) -> tuple[State, State]:
        """The likeliest heart, and equally likely ones, at the hour of the chart; the filter stays where it is."""
        weights = self.weights
        samples = self.particles[systematic(weights, self.n, np.random.default_rng([self.seed, DRAW, self.n_looks]))]
        if chart.hours <= self.last.hours + SOON:
            return self.particles[int(np.argmax(weights))], samples
        later, calls = carry(self.world, samples, chart, self.last, chart.hours, [self.seed, LATE])
        self.calls += calls
        living = later[np.flatnonzero(later.alive)] if later.alive.any() else samples
        return living[0], living

    def _again(self, chart: Chart, look: Sight) -> State:
        state, _ = observe_look(self.world, chart, look)
        doses = shifted(before(chart, look), self.baseline.hours)
        return replace(state, hours=state.hours + look.hours - self.baseline.hours, doses=(doses,)).repeat(self.n)


def log_likelihood(strip: np.ndarray, crowd: State) -> np.ndarray:
    """Log likelihood ``(B,)`` of what is measured on a strip ``(12, 1024)`` [mV], were each row the patient.

    Student's t around each imagined interval. One that cannot be measured on the real strip says nothing; one that
    cannot be measured on the imagined strip alone counts as far away. -inf for the dead and the non-finite.
    """
    table = measurement()
    sound = crowd.alive & np.isfinite(crowd.ecg).all(axis=(1, 2))
    real = measure(ECG(strip, MODEL_RATE_HZ)).as_array(table.names)[0]
    imagined = measure(ECG(crowd.ecg, MODEL_RATE_HZ)).as_array(table.names)
    away = np.abs(imagined - real) / table.sd
    away = np.where(np.isnan(imagined), table.unmeasured_sds, away)
    value = student.logpdf(away[:, np.isfinite(real)], table.degrees_of_freedom).sum(axis=1)
    return np.where(sound, value, -np.inf)


@dataclass(frozen=True)
class Measurement:
    """``measurement.yaml``, read."""

    names: tuple[str, ...]
    sd: np.ndarray  # (N,) in each interval's unit
    degrees_of_freedom: float
    unmeasured_sds: float


@cache
def measurement() -> Measurement:
    """The SDs of the likelihood."""
    table = read_yaml(TABLE)
    rows = table["intervals"]
    sd = np.array([np.hypot(row["reading"], row["within"]) for row in rows.values()])
    return Measurement(tuple(rows), sd, float(table["degrees_of_freedom"]), float(table["unmeasured_sds"]))


def systematic(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` row numbers, each row about ``n x weight`` times: one uniform draw for all."""
    edges = (rng.random() + np.arange(n)) / n
    return np.minimum(np.searchsorted(np.cumsum(weights), edges), len(weights) - 1)
