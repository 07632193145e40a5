"""What the population's pharmacology expects of each treatment, and how far two expectations lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_gym.columns import FEMALE, Patients
from ecg_gym.core import Administration, State, Treatment
from ecg_gym.risk import limits
from ecg_gym.world_model.conditioning import OBSERVED, population_forecast

EFFECTS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms")


def expected(
    state: State, observed: np.ndarray, treatments: Sequence[Treatment], hours: float
) -> dict[str, np.ndarray]:
    """Intervals ``(T,)`` by name that an average heart of this patient's readings has ``hours`` [h] after each.

    ``state`` holds one patient, ``observed (len(OBSERVED),)`` what was measured on the strip; NaN where not known.
    Pharmacology alone, nothing learned: :func:`ecg_gym.world_model.conditioning.population_forecast`.
    """
    n, now = len(treatments), float(state.hours[0])
    many = state.repeat(n)
    then = [(*state.doses[0], *(Administration(now, dose) for dose in treatment.doses)) for treatment in treatments]
    rows = np.repeat(observed[None], n, axis=0)
    return population_forecast(rows, many.patients, many.doses, then, many.hours, many.hours + hours)


def effects(after: dict[str, np.ndarray], observed: np.ndarray) -> np.ndarray:
    """Changes ``(T, len(EFFECTS))`` from what was measured; 0 where one of the two is not known."""
    before = {name: observed[OBSERVED.index(name)] for name in EFFECTS}
    changes = np.stack([np.asarray(after[name], float) - before[name] for name in EFFECTS], axis=1)
    return np.nan_to_num(changes, nan=0.0)


def limit_risk(state: State, observed: np.ndarray, after: dict[str, np.ndarray]) -> np.ndarray:
    """Risk ``(T,)`` in [0, 1] of the expected intervals by the interval limits alone."""
    n = len(after["hr_bpm"])
    baseline = {name: np.full(n, observed[i], float) for i, name in enumerate(OBSERVED)}
    look = {**baseline, **{name: np.asarray(value, float) for name, value in after.items()}}
    for readings in (baseline, look):
        readings["n_beats"] = np.full(n, float(limits.FEWEST_BEATS))
    terms, *_ = limits.judge(baseline, look, Patients.of(state.repeat(n).patients).numbers[:, FEMALE])
    return 1 - np.prod([1 - term for term in terms.values()], axis=0)


def mahalanobis(points: np.ndarray, goal: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Distances ``(T,)`` of ``points (T, E)`` to ``goal (E,)`` by a covariance ``(E, E)`` (Mahalanobis 1936)."""
    difference = points - goal
    return np.sqrt(np.maximum(np.einsum("te,te->t", difference, np.linalg.solve(covariance, difference.T).T), 0))


def project(
    treatment: Treatment, menu: Sequence[Treatment], changes: np.ndarray, covariance: np.ndarray
) -> list[Treatment]:
    """Treatments of ``menu`` by the distance of what they do to what ``treatment``, one of them, does; itself first.

    ``changes (T, E)`` are the effects of the menu. Equals are ordered as in the menu.
    """
    here = list(menu).index(treatment)
    distances = mahalanobis(changes, changes[here], covariance)
    distances[here] = -1.0
    return [menu[i] for i in np.argsort(distances, kind="stable")]
