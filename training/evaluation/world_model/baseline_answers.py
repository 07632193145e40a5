"""What each row of the baselines answers: futures measured from its strips, and what else is read off them on the way.

Every world gets the same questions, the same noise per patient, and once more the treatments of other patients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.core import LEADS, WATCH, State, World, independent_from_leads, row_streams
from training.evaluation.questions import (
    INTERVALS,
    Questions,
    futures,
    generator,
    held_out_patients,
    intervals_of,
    mean_known,
    observe_first,
    read_in,
    seen_by,
    truth_of,
)
from training.evaluation.world_model.calibration import baselines

STEPS = 8  # of the drift
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Answer:
    """One row's answers to N questions."""

    samples: np.ndarray  # (K, N, 6) intervals after the step; K = 1 is a point forecast
    wrong: np.ndarray | None = None  # (K', N, 6) told the treatments of other patients
    einthoven_uv: float | None = None  # largest error of III = II - I
    nearest_uv: np.ndarray | None = None  # (N,) RMS distance of one strip to the nearest training strip
    drift_ms: np.ndarray | None = None  # (P,) QTcF after 8 untreated steps, less that of the truth
    cpu_ms: float | None = None  # of one strip, drawn


class StripLook:
    """A look at strips: intervals, Einthoven's law, distance to the training strips of every ``k``-th; and the time."""

    def __init__(self, k: int, training: np.ndarray | None) -> None:
        self.k, self.training = k, training
        self.seconds, self.rows, self.einthoven_uv = 0.0, 0, 0.0

    def __call__(self, before: State, after: State) -> Mapping[str, np.ndarray]:
        """Intervals ``(B, 6)`` and distances ``(B,)`` [uV], NaN between."""
        began = time.process_time()
        strips = after.ecg
        self.seconds, self.rows = self.seconds + time.process_time() - began, self.rows + len(strips)
        one, two, three = (strips[:, LEADS.index(lead)] for lead in ("I", "II", "III"))
        self.einthoven_uv = max(self.einthoven_uv, 1e3 * float(np.abs(three - two + one).max()))
        distance = np.full(len(strips), np.nan)
        if self.training is not None:
            distance[:: self.k] = nearest(independent_from_leads(strips[:: self.k]), self.training)
        return {"intervals": intervals_of(strips), "nearest": distance}


def nearest(strips: np.ndarray, training: np.ndarray) -> np.ndarray:
    """RMS distance ``(B,)`` [uV] of strips ``(B, 8, 1024)`` [mV] to the nearest of ``training (S, 8, 1024)``."""
    a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (strips, training))
    squares = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    return 1e3 * np.sqrt(np.maximum(squares.min(axis=1), 0) / a.shape[1])


def of_world(
    world: World, queries: Questions, k: int, drift: tuple[State, np.ndarray], training: np.ndarray | None,
    progress: Progress,
) -> Answer:  # fmt: skip
    """The answers of a world, measured from the strips that it draws."""
    look, start = StripLook(k, training), observe_first(world, queries)
    own = futures(world, start, queries, k, look, progress=progress, keep=False)
    other = futures(world, start, exchanged(queries), max(2, k // 2), StripLook(1, None), progress=progress, keep=False)
    people, true = drift
    return Answer(
        own["intervals"], other["intervals"], look.einthoven_uv, own["nearest"][0], _after_steps(world, people) - true,
        1e3 * look.seconds / max(1, look.rows),
    )  # fmt: skip


def of_words(world: World, queries: Questions, k: int, progress: Progress) -> Answer:
    """The answers of our world by what it says of its futures, nothing drawn."""
    look, start = read_in(world), observe_first(world, queries)
    own = futures(world, start, queries, k, look, progress=progress, keep=False)
    other = futures(world, start, exchanged(queries), max(2, k // 2), look, progress=progress, keep=False)
    return Answer(own["intervals"], other["intervals"])


def exchanged(queries: Questions) -> Questions:
    """The same patients, each given what the patient before is given."""
    return queries.with_treatments([queries.treatments[i - 1] for i in range(len(queries))])


def trivial(truth: World, queries: Questions, other: Questions) -> dict[str, Answer]:
    """Copy of the strip before, and population pharmacology with the errors that it makes on ``other`` patients."""
    before = intervals_of(queries.start.ecg)
    change = baselines(truth, queries, other)
    rows = {"copy": "no change", "population pharmacology": "EPK alone, dressed"}
    samples = {name: [change[rival][interval] for interval in INTERVALS] for name, rival in rows.items()}
    return {name: Answer(before + _same_length(columns)) for name, columns in samples.items()}


def _same_length(columns: list[np.ndarray]) -> np.ndarray:
    """Samples ``(K_i, N)`` of several intervals as ``(K, N, 6)``, NaN below."""
    k = max(len(column) for column in columns)
    return np.stack([np.pad(c, ((0, k - len(c)), (0, 0)), constant_values=np.nan) for c in columns], axis=-1)


def drift_of_truth(truth: World, people: int, seed: int) -> tuple[State, np.ndarray]:
    """People at hour 0, and their mean noise-free QTcF ``(P,)`` [ms] after the untreated steps in the truth."""
    state = held_out_patients(truth, people, seed)
    values = [truth_of(truth, _untreated(truth, state, sample))[:, _QTCF] for sample in range(2)]
    return state, mean_known(np.stack(values))


def _after_steps(world: World, people: State) -> np.ndarray:
    """Measured QTcF ``(P,)`` [ms] after the untreated steps, each from the state that the step before left."""
    return intervals_of(_untreated(world, seen_by(world, people), 0).ecg)[:, _QTCF]


def _untreated(world: World, state: State, sample: int) -> State:
    for step in range(STEPS):
        noise = row_streams([generator("model", step, i, sample) for i in range(len(state))], len(state))
        state = world.step(state, [WATCH] * len(state), noise)
    return state


_QTCF = INTERVALS.index("qtcf_ms")


def settings_of(world: Any) -> dict[str, Any]:
    """What a rival's weights say of their budget, for the document; empty for a world that says nothing."""
    metadata = getattr(world, "metadata", {}) or {}
    training = metadata.get("training") or {}
    return {name: training[name] for name in ("cpu_minutes", "updates") if name in training}
