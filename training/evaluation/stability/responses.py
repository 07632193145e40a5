"""What a world does to doses, twins and the laws of physiology: washout, order, divergence, violations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from training.evaluation.questions import SHORT, mean_known
from training.evaluation.result import estimate, estimate_mean, estimate_ratio, metric
from training.evaluation.stability.arms import NUDGES_MV, ArmSamples
from training.evaluation.stability.flaws import FLAWS
from training.evaluation.stability.outcomes import UNITS, Metrics, Outcomes, S
from training.evaluation.world_model.rollout_arms import SCORED, between_people

# --- 3. washout -------------------------------------------------------------------------------------------------------


def effects(document: Outcomes) -> dict[str, np.ndarray]:
    """What the fading dose does ``(N, H + 1)``: in SDs between people, mean of the intervals by their true direction.

    Weighted by how large each patient's true effect is, so that intervals that a drug does not touch say nothing.
    """
    spread = between_people(document.real_placebo[:, 0, S])
    courses = {
        "world": mean_known(document.world["once"].intervals[..., S] - document.world["placebo"].intervals[..., S]),
        "virtual patient": mean_known(
            document.truth["once"].intervals[..., S] - document.truth["placebo"].intervals[..., S]
        ),
        "pharmacology": (document.pharmacology - document.untreated)[..., S],
    }
    true = np.nan_to_num(courses["virtual patient"] / spread)
    peak = np.take_along_axis(true, np.abs(true).argmax(axis=1)[:, None], axis=1)  # (N, 1, 4)
    weight = peak / np.maximum(np.abs(peak).sum(axis=-1, keepdims=True), 1e-12)
    return {of: (np.nan_to_num(course / spread) * weight).sum(axis=-1) for of, course in courses.items()}


def halfway(course: np.ndarray, hours: np.ndarray) -> float:
    """Hours from the peak of a course ``(H + 1,)`` until half of it is gone; NaN if that is not seen."""
    top = int(np.argmax(course))
    below = np.flatnonzero(course[top:] <= course[top] / 2)
    if course[top] <= 0 or not len(below):
        return float("nan")
    after = top + int(below[0])
    high, low = course[after - 1], course[after]
    part = (high - course[top] / 2) / (high - low)
    return float(hours[after - 1] + part * (hours[after] - hours[after - 1]) - hours[top])


def washout(document: Outcomes, steps: int, dt_hours: float) -> Metrics:
    """Metrics of an effect that ends after one dose: half-time [h], share left at the end, distance from the truth."""
    hours = dt_hours * np.arange(steps + 1)
    courses = {**effects(document), "plasma level": document.plasma}

    def half_of(course: np.ndarray) -> dict[str, Any]:
        return estimate(lambda rows: halfway(course[rows].mean(axis=0), hours), document.patient)

    def left_of(course: np.ndarray) -> dict[str, Any]:
        peak = int(np.argmax(course.mean(axis=0)))
        return estimate_ratio(course[:, steps], course[:, peak], document.patient)

    half = {of: half_of(course) for of, course in courses.items()}
    left = {of: left_of(course) for of, course in courses.items()}
    wrong = {
        of: estimate_mean(np.abs(course - courses["virtual patient"])[:, 1:].mean(axis=1), document.patient)
        for of, course in {**courses, "copy": np.zeros_like(document.plasma)}.items()
    }
    beside = ("virtual patient", "pharmacology", "plasma level")
    return {
        "washout_halfway_hours": metric(half["world"], baselines={of: half[of] for of in beside}),
        f"washout_left_{steps}": metric(left["world"], baselines={of: left[of] for of in beside}),
        "washout_error_sd": metric(wrong["world"], baselines={of: wrong[of] for of in ("copy", "pharmacology")}),
    }


# --- 4. order ---------------------------------------------------------------------------------------------------------


def order(document: Outcomes) -> dict[str, np.ndarray]:
    """What it matters who was first ``(N, H + 1, 4)``: A then B less B then A, in the world, in truth and in halves."""

    def apart(of: Mapping[str, ArmSamples], samples: slice = slice(None)) -> np.ndarray:
        first, second = (of[name].intervals[samples, ..., S] for name in ("a then b", "b then a"))
        return mean_known(first - second)

    k = len(document.truth["a then b"].intervals)
    return {
        "world": apart(document.world),
        "virtual patient": apart(document.truth),
        "one half": apart(document.truth, slice(0, k // 2)),
        "other half": apart(document.truth, slice(k // 2, None)),
    }


def order_matters(document: Outcomes, steps: int) -> Metrics:
    """Metrics of two drugs given in either order: size of the difference, and its distance from the true one."""
    course, out = order(document), {}
    for i, name in enumerate(SCORED):
        at = {of: values[:, steps, i] for of, values in course.items()}
        wrong = np.abs(at["world"] - at["virtual patient"])
        finite = np.isfinite(wrong)
        beside = {
            "copy": estimate_mean(np.where(finite, np.abs(at["virtual patient"]), np.nan), document.patient),
            "virtual patient": estimate_mean(np.abs(at["one half"] - at["other half"]), document.patient),
        }
        out[f"order_error_{steps}_{SHORT[name]}_{UNITS[name]}"] = metric(
            estimate_mean(wrong, document.patient), baselines=beside
        )
    spread = between_people(document.real_placebo[:, 0, S])
    one = np.ones(len(document.real))
    squares = {of: _mean_square(course[of][:, 1:] / spread) for of in ("world", "virtual patient")}
    size = {of: estimate_ratio(square, one, document.patient, root=True) for of, square in squares.items()}
    out["order_size_sd"] = metric(size["world"], baselines={"virtual patient": size["virtual patient"], "copy": 0.0})
    return out


def _mean_square(values: np.ndarray) -> np.ndarray:
    """Mean square ``(N,)`` of the finite ``values (N, ...)``; NaN where there are none."""
    flat = values.reshape(len(values), -1)
    finite = np.isfinite(flat)
    total = np.where(finite, flat, 0.0)
    return np.where(finite.any(axis=1), (total**2).sum(axis=1) / np.maximum(finite.sum(axis=1), 1), np.nan)


# --- 5. twins ---------------------------------------------------------------------------------------------------------


def twin_courses(document: Outcomes) -> dict[str, np.ndarray]:
    """Mean squared distance ``(N, H + 1)`` [mV^2] of each twin's strip from the one it was made of, noise in common."""
    names = [name for name in document.world if name.startswith("twin ")]
    return {name: mean_known(document.world[name].apart_mv ** 2, least=0.0) for name in names}


def growth(hours: np.ndarray, squares: np.ndarray) -> Callable[[np.ndarray], float]:
    """Slope per hour of ln d over the steps, d the root of the mean of ``squares (N, H + 1)``; -inf .. inf, 0 keeps.

    The first strip is left out: a world may see twins as one (d = 0 for ever is no growth: 0).
    """

    def statistic(rows: np.ndarray) -> float:
        sample = squares[rows][:, 1:]
        mean = np.where(np.isfinite(sample), sample, 0.0).sum(axis=0) / np.maximum(np.isfinite(sample).sum(axis=0), 1)
        if not (mean > 0).any():
            return 0.0
        above = mean > 0
        return float(np.polyfit(hours[1:][above], 0.5 * np.log(mean[above]), 1)[0]) if above.sum() > 1 else np.nan

    return statistic


def twins(document: Outcomes, steps: int, dt_hours: float) -> Metrics:
    """Metrics of starts that differ by microvolts: gain of the distance per step and per hour, distance at the end."""
    hours = dt_hours * np.arange(steps + 1)
    same = document.world["identical twin"].apart_mv
    out: Metrics = {
        "identical_twins_mv": metric(
            float(np.nanmax(same, initial=0.0)), baselines={"copy": 0.0, "virtual patient": 0.0}
        ),
    }
    # samples of one patient with noise of their own: where twins who have forgotten each other end up
    other_patients = _other_patients(document)
    for (name, squares), nudge in zip(twin_courses(document).items(), NUDGES_MV):
        label = f"{1000 * nudge:g}uv"
        gain = estimate_ratio(squares[:, 1], np.full(len(squares), nudge**2), document.patient, root=True)
        out[f"twin_gain_{label}_first_step"] = metric(gain, baselines={"copy": 1.0})
        slope = estimate(growth(hours, squares), document.patient)
        out[f"twin_growth_{label}_per_hour"] = metric(slope, baselines={"copy": 0.0})
        end = estimate_ratio(squares[:, steps], np.ones(len(squares)), document.patient, root=True)
        out[f"twin_distance_{label}_{steps}_mv"] = metric(end, baselines={"copy": nudge, **other_patients})
        apart = _apart_in_sd(document, name, steps)
        out[f"twin_distance_{label}_{steps}_sd"] = metric(apart, baselines={"copy": 0.0})
    return out


def _other_patients(document: Outcomes) -> dict[str, Any]:
    """How far the placebo's strips are from the treated's, noise in common [mV]: a yardstick for distances."""
    squares = mean_known(document.world["treated"].apart_mv[:, :, -1] ** 2, least=0.0)
    return {"treated twin": estimate_ratio(squares, np.ones(len(squares)), document.patient, root=True)}


def _apart_in_sd(document: Outcomes, name: str, steps: int) -> dict[str, Any]:
    """Root mean square distance of the twins' intervals at the end, in SDs between people."""
    spread = between_people(document.real_placebo[:, 0, S])
    apart = document.world[name].intervals[:, :, steps, S] - document.world["placebo"].intervals[:, :, steps, S]
    squares = _mean_square(np.moveaxis(apart / spread, 0, 1))
    return estimate_ratio(squares, np.ones(len(squares)), document.patient, root=True)


# --- 6. violations ----------------------------------------------------------------------------------------------------


def violations(document: Outcomes) -> Metrics:
    """Share of drawn strips [%] that break each bound, over all open courses."""
    out: Metrics = {}
    samples = {of: _every(getattr(document, of)) for of in ("world", "truth")}  # (N, many, flaws)
    first = document.truth["placebo"].flaws[0, :, :1]
    for i, name in enumerate((*FLAWS, "any")):
        shares = {
            of: _share(_any(values) if name == "any" else values[..., i], document.patient)
            for of, values in {**samples, "copy": first}.items()
        }
        out[f"violation_{name}_percent"] = metric(
            shares["world"], baselines={"copy": shares["copy"], "virtual patient": shares["truth"]}
        )
    rate = 100 * document.dead.changed / max(1, document.dead.rows)
    out["violation_dead_percent"] = metric(rate, baselines={"copy": 0.0, "virtual patient": 0.0})
    return out


def _every(samples: Mapping[str, ArmSamples]) -> np.ndarray:
    """Flaws ``(N, samples x steps x courses, V)`` of everything drawn but the twins, who are the placebo again."""
    parts = [one.flaws[:, :, 1:] for name, one in samples.items() if "twin" not in name]
    rows = [np.moveaxis(part, 1, 0).reshape(part.shape[1], -1, part.shape[-1]) for part in parts]
    return np.concatenate(rows, axis=1)


def _any(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values).any(axis=-1)
    return np.where(finite, np.nan_to_num(values).max(axis=-1), np.nan)


def _share(values: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    """Per cent of the finite ``values (N, many)`` that are one, patients drawn whole."""
    finite = np.isfinite(values)
    return estimate_ratio(100 * np.where(finite, values, 0.0).sum(axis=1), finite.sum(axis=1).astype(float), patient)
