"""Hearts with a rate and a QTcF that follow one linear equation, for tests of studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.core import ECG, MODEL_SAMPLES, Administration, Patient, Randomness, State, Treatment, row_generators
from training.evaluation.questions import INTERVALS

HR, QTCF = 70.0, 410.0


def labelled(x: np.ndarray) -> np.ndarray:
    """Strips ``(B, 12, 1024)`` that say rate and QTcF ``x (B, 2)``; PR and QRS never change."""
    ecg = np.zeros((len(x), 12, MODEL_SAMPLES), np.float32)
    ecg[:, 0, : len(INTERVALS)] = np.nan
    ecg[:, 0, 0], ecg[:, 0, 1], ecg[:, 0, 2], ecg[:, 0, 3] = x[:, 0], 160.0, 90.0, x[:, 1]
    return ecg


@dataclass(frozen=True)
class Linear:
    """Hearts with a rate and a QTcF: x' = home + keep (x - home) + drift + noise; a dose adds ``effect`` ms of QTcF."""

    keep: float = 0.0
    noise: float = 6.0  # SD of QTcF [ms]; a fifth of it in rate [1/min]
    drift: float = 0.0  # [ms] per step
    effect: float = 0.0  # [ms] at the step of a dose
    home: float = 1.0  # 0: x' does not return
    dt_hours: float = 1.0

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        size = np.array([0.2 * self.noise, self.noise])
        x = np.array([[HR, QTCF] + size * g.normal(size=2) for g in row_generators(rng, n)])
        return self._state(x, np.zeros(n), ((),) * n)

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        raise NotImplementedError

    def start_from(self, state: State) -> State:
        return state

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        noise = np.array([g.normal(size=2) for g in row_generators(rng, len(state))])
        x, home = state.inner["x"], np.array([HR, QTCF])
        later = home * self.home + self.keep * (x - home * self.home) + noise * [0.2 * self.noise, self.noise]
        later[:, 1] += self.drift + self.effect * np.array([bool(t) for t in treatments])
        taken = tuple(
            (*past, *(Administration(float(hours), dose) for dose in t.doses))
            for past, hours, t in zip(state.doses, state.hours, treatments)
        )
        return self._state(later, state.hours + self.dt_hours, taken)

    def _state(self, x: np.ndarray, hours: np.ndarray, taken: tuple[tuple[Administration, ...], ...]) -> State:
        return State(
            ecg=labelled(x),
            patients=(Patient(age_years=50.0, sex="F", weight_kg=70.0),) * len(x),
            doses=taken,
            hours=hours,
            alive=np.ones(len(x), bool),
            inner={"x": x, "latent": (x - [HR, QTCF])[:, None]},
        )
