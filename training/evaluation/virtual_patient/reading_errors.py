"""How a measurement of a drawn strip errs: the table that readings without strips are made with.

People of every rhythm are drawn, some with blocked paths, and given two random treatments. Each state is recorded twice
(two strips, each of its own minute), measured and judged; the error is the measurement less what the heart showed. What
the two strips of a person share is the person's, the rest the strip's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, State
from ecg_gym.envs.observability import Tier, as_seen, tier_named
from ecg_gym.io import atomic_write
from ecg_gym.look import READ
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk.aggregate import ROWS
from ecg_gym.risk.classifier import Findings
from ecg_gym.risk.margins import LARGEST, STEEPNESS
from ecg_gym.virtual_patient import VirtualPatient, columns
from ecg_gym.virtual_patient.columns import FIRST_MINUTE, FIRST_SHOWN, FIRST_USUAL, NOISE, R_GAIN
from ecg_gym.virtual_patient.kernel import _ATRIAL, minute_of, rhythm_table
from ecg_gym.virtual_patient.readings import (
    CHANCES,
    N_CLASSES,
    N_FEATURES,
    POOR_NOISE,
    QUANTITIES,
    TABLE,
    VIEWS,
    features_of,
    group_of,
)
from ecg_gym.virtual_patient.vitals import show
from ecg_gym.waveform import measure
from ecg_gym.waveform.intervals import Intervals

PATHS = ("lbbb", "rbbb", "bifascicular")
FEWEST = 12  # strips of a group that has errors of its own; smaller ones share those of their rhythm, or of everybody
TRIM = 0.01  # share of errors at either end that is left out: wild ones
RIDGE = 1.0
LARGEST_LOGIT = 8.0
N_RHYTHMS = 24  # features of the head: one for each rhythm first


@dataclass(frozen=True)
class Size:
    """How much is drawn."""

    people: int = 160  # of each rhythm, as the population has them
    blocked: int = 48  # more with each blocked path in the rhythms that take one
    seed: int = 11


@dataclass(frozen=True)
class Sample:
    """What was shown and measured in N strips of one view."""

    group: np.ndarray  # (N,)
    person: np.ndarray  # (N,) number of the person: two strips each
    truth: np.ndarray  # (N, 8) columns.SHOWN
    gain: np.ndarray  # (N,)
    poor: np.ndarray  # (N,) bool
    features: np.ndarray  # (N, N_FEATURES)
    reading: Intervals
    logits: np.ndarray  # (N, 17)


def states(size: Size) -> list[State]:
    """Hearts of every rhythm after two random treatments, each state twice with another minute."""
    world, menu, out = VirtualPatient(), FORMULARY.menu(), []
    for i, rhythm in enumerate(columns.words()["rhythm"][:-2]):
        for path in (None, *PATHS):
            n = size.people if path is None else size.blocked
            rng = np.random.default_rng([size.seed, i, 0 if path is None else 1 + PATHS.index(path)])
            state = world.initial(n, rng, rhythm=rhythm, conduction=path)
            for _ in range(2):
                half = rng.random(n) < 0.5
                treatments = [menu[rng.integers(len(menu))] if treat else menu[0] for treat in half]
                state = world.step(state, treatments, rng)
            state = state[state.alive]
            out += [state, _another_minute(state, rng)]
    return out


def _another_minute(state: State, rng: np.random.Generator) -> State:
    """The same hearts at the same hour, recorded once more."""
    hearts, now = state.inner["heart"], state.inner["now"].copy()
    strip = rng.integers(0, 2**63, len(state)).astype(np.uint64)
    leader = rhythm_table().leader[hearts[:, columns.RHYTHM].astype(int)]
    for b in range(len(state)):
        minute_of(strip[b], leader[b] == _ATRIAL, now[b, FIRST_MINUTE:FIRST_SHOWN])
    show(hearts, now, np.arange(len(state)))
    return state.undrawn().replaced(inner={"heart": hearts, "now": now, "strip": strip})


def sample(pairs: list[State], view: int, classifier: Findings, seed: int, progress: Callable[[], None]) -> Sample:
    """Every state's strips, seen, measured and judged."""
    tier, missing = tier_of(view)
    rows: dict[str, list[Any]] = {name: [] for name in Sample.__dataclass_fields__}
    readings: list[tuple[dict[str, float], str]] = []
    for k, state in enumerate(pairs):
        hearts = state.inner["heart"].copy()
        if VIEWS[view] == "silent":
            hearts[:, NOISE] = 0.0
        now, strips = state.inner["now"], state.undrawn().replaced(inner={**state.inner, "heart": hearts}).ecg
        rngs = [np.random.default_rng([seed, view, k, b]) for b in range(len(state))]
        strips = as_seen(tier, strips, [missing] * len(state), rngs)
        reading = measure(ECG(strips, MODEL_RATE_HZ))
        readings += [(reading.row(b), reading.reason[b]) for b in range(len(state))]
        odds = np.clip(classifier.probabilities(strips), 1e-6, 1 - 1e-6)
        x = np.empty((len(state), N_FEATURES))
        for b in range(len(state)):
            features_of(hearts[b], now[b], x[b])
            rows["group"].append(group_of(hearts[b], now[b]))
        rows["person"].append(1000 * (k // 2) + np.arange(len(state)))
        rows["truth"].append(now[:, FIRST_SHOWN:FIRST_USUAL])
        rows["gain"].append(hearts[:, R_GAIN])
        rows["poor"].append(hearts[:, NOISE] > POOR_NOISE)
        rows["features"].append(x)
        rows["logits"].append(np.clip(np.log(odds / (1 - odds)), -LARGEST_LOGIT, LARGEST_LOGIT))
        progress()
    table = Intervals.from_rows([row for row, _ in readings], [why for _, why in readings])
    whole = {name: np.concatenate(rows[name]) for name in ("person", "truth", "gain", "poor", "features", "logits")}
    return Sample(group=np.array(rows["group"]), reading=table, **whole)


def tier_of(view: int) -> tuple[Tier, tuple[str, ...]]:
    """The tier that shows strips as this view does, and the leads that are off."""
    from ecg_gym.core import LEADS

    if VIEWS[view] in ("clean", "silent"):
        return tier_named("variation"), ()
    if VIEWS[view] == "noisy":
        return tier_named("noisy"), ()
    there = tier_named("missing").lead_sets[view - 2]
    return tier_named("missing"), tuple(lead for lead in LEADS if lead not in there)


def errors_of(one: Sample) -> np.ndarray:
    """``(N, 7)`` errors of QUANTITIES; NaN where there is nothing shown or measured."""
    m, truth = one.reading, dict(zip(columns.SHOWN, one.truth.T))
    with np.errstate(all="ignore"):
        peak = m.qt_ms - m.tpeak_tend_ms
        rows = [
            m.hr_bpm / truth["hr_bpm"] - 1,
            np.where(m.p_present, m.pr_ms - truth["pr_ms"], np.nan),
            m.qrs_ms - truth["qrs_ms"],
            peak - (truth["qrs_ms"] + truth["jtpeak_ms"]),
            m.qt_ms - truth["qt_ms"],
            np.log(m.r_amplitude_mv / one.gain),
            np.log(m.t_amplitude_mv / truth["t_amplitude_mv"]),
        ]
    errors = np.stack(rows, axis=1)
    return np.where(np.isfinite(errors), errors, np.nan)


def fit(size: Size | None = None, progress: Callable[[], None] = lambda: None) -> dict[str, np.ndarray]:
    """The arrays of ``readings.Errors``."""
    size, classifier = size or Size(), Findings.load()
    groups = len(columns.words()["rhythm"]) * N_CLASSES
    shape = (len(VIEWS), groups, len(QUANTITIES))
    out = {name: np.zeros(shape) for name in ("bias", "person", "strip")}
    out |= {"chance": np.zeros((len(VIEWS), groups, len(CHANCES)))}
    out |= {"head": np.zeros((len(VIEWS), N_FEATURES, 17)), "scatter": np.zeros((len(VIEWS), 17))}
    out["decided"] = defining_rows()
    pairs = states(size)
    for view in range(len(VIEWS)):
        one = sample(pairs, view, classifier, size.seed, progress)
        _fit_errors(one, view, out)
        _fit_head(one, view, out)
    return out


def defining_rows() -> np.ndarray:
    """The findings that an interval alone decides, rows of ``virtual_patient.defining_intervals``."""
    rows = [(i, row.margin) for i, row in enumerate(ROWS) if row.margin is not None and row.margin.defines]
    return np.array([[i, READ.index(m.quantity), 1 if m.side == "high" else -1, m.at, m.per, LARGEST, STEEPNESS]
                     for i, m in rows], float)  # fmt: skip


def _fit_errors(one: Sample, view: int, out: dict[str, np.ndarray]) -> None:
    errors, truth, m = errors_of(one), one.truth, one.reading
    usable = ~one.poor if VIEWS[view] == "clean" else np.ones(len(one.group), bool)
    has_pr = np.isfinite(truth[:, columns.SHOWN.index("pr_ms")])
    has_t = np.isfinite(truth[:, columns.SHOWN.index("qt_ms")])
    few = ~np.isfinite(m.hr_bpm)
    for group in range(out["bias"].shape[1]):
        near = [one.group == group, one.group // N_CLASSES == group // N_CLASSES, np.ones(len(one.group), bool)]

        def nearest(there: np.ndarray, near: list[np.ndarray] = near) -> np.ndarray:
            """The nearest set of strips that is large enough."""
            return next((k & usable & there for k in near if (k & usable & there).sum() >= FEWEST), near[-1] & there)

        for i in range(errors.shape[1]):
            rows = nearest(np.isfinite(errors[:, i]))
            bias, person, strip = components(errors[rows, i], one.person[rows])
            out["bias"][view, group, i], out["person"][view, group, i], out["strip"][view, group, i] = (
                bias,
                person,
                strip,
            )
        read = ~few & np.isfinite(m.qrs_ms)
        for i, (there, event) in enumerate(
            (
                (read & has_t, ~np.isfinite(m.qtcf_ms)),
                (read & has_pr, m.p_present),
                (read & ~has_pr, m.p_present),
                (~few, m.regular),
                (np.ones(len(few), bool), few),
            )
        ):
            rows = nearest(there)
            out["chance"][view, group, i] = event[rows].mean() if rows.any() else 0.0


def components(error: np.ndarray, person: np.ndarray) -> tuple[float, float, float]:
    """Mean, SD between people and SD between strips of a person, without the wildest errors."""
    low, high = np.quantile(error, [TRIM, 1 - TRIM])
    inliers = (error >= low) & (error <= high)
    error, person = error[inliers], person[inliers]
    bias, total = float(error.mean()), float(error.var())
    order = np.argsort(person, kind="stable")
    error, person = error[order] - bias, person[order]
    pair = np.flatnonzero(person[1:] == person[:-1])
    shared = float(np.mean(error[pair] * error[pair + 1])) if len(pair) > 3 else total / 2
    shared = min(max(shared, 0.0), total)
    return bias, float(np.sqrt(shared)), float(np.sqrt(total - shared))


def _fit_head(one: Sample, view: int, out: dict[str, np.ndarray]) -> None:
    x, y = one.features, one.logits
    head = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    scatter = (y - x @ head).std(axis=0)
    for rhythm in range(N_RHYTHMS):  # probabilities of each rhythm are right on average, not only their logits
        rows = np.flatnonzero(x[:, rhythm] > 0)
        if len(rows) >= FEWEST:
            head[rhythm] += _shift(x[rows] @ head, scatter, _sigmoid(y[rows]).mean(axis=0))
    out["head"][view], out["scatter"][view] = head, scatter


def _shift(logits: np.ndarray, scatter: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What to add to ``logits (N, F)`` that scatter by ``(F,)`` so that their probabilities have this mean ``(F,)``."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(11)
    weights = weights / weights.sum()
    low, high = np.full(len(mean), -2 * LARGEST_LOGIT), np.full(len(mean), 2 * LARGEST_LOGIT)
    for _ in range(40):
        middle = (low + high) / 2
        spread = logits[..., None] + middle[:, None] + scatter[:, None] * nodes
        above = (_sigmoid(spread) @ weights).mean(axis=0) > mean
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def save(arrays: dict[str, np.ndarray], path: Path = TABLE) -> None:
    """Write the table."""
    with atomic_write(path) as aside:
        np.savez_compressed(aside, **{name: value.astype(np.float32) for name, value in arrays.items()})  # type: ignore[arg-type]
