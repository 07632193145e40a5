"""The mask, settled once per person, is what ``violations`` says of every treatment, whatever is measured or given."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import WATCH, Administration, Patient, Treatment
from ecg_gym.pharmacology import CONDITIONS, FORMULARY, action_mask, violations
from ecg_gym.risk import FINDINGS

EVERYTHING = FORMULARY.menu(list(FORMULARY.names))


def plainly(menu: tuple[Treatment, ...], *situation: object) -> np.ndarray:
    """Treatment by treatment, through all that speaks against it."""
    return np.array([not t or not any(v.hard for v in violations(t, *situation)) for t in menu])  # type: ignore[arg-type]


def anybody(rng: np.random.Generator) -> Patient:
    def maybe(low: float, high: float) -> float | None:
        return None if rng.random() < 0.2 else float(rng.uniform(low, high))

    return Patient(
        age_years=maybe(20, 95), sex=[None, "F", "M"][rng.integers(3)], weight_kg=maybe(40, 130),
        potassium=maybe(2.5, 7), magnesium=maybe(0.4, 1.4), calcium=maybe(1.8, 3.0),
        creatinine_clearance=maybe(5, 130),
        conditions=frozenset(rng.choice(CONDITIONS, rng.integers(4), replace=False)),
        medication=frozenset(rng.choice(FORMULARY.names, rng.integers(3), replace=False)),
    )  # fmt: skip


def situation(rng: np.random.Generator, hours: float) -> tuple[dict[str, float], tuple[Administration, ...], frozenset]:
    intervals = {
        "hr_bpm": rng.uniform(25, 190), "pr_ms": rng.uniform(100, 350), "qrs_ms": rng.uniform(70, 190),
        "qtcf_ms": rng.uniform(350, 560),
    }  # fmt: skip
    for name in intervals:
        if rng.random() < 0.2:
            intervals[name] = float("nan")
    doses = [t.doses[0] for t in EVERYTHING if t]
    given = [
        Administration(float(rng.uniform(hours - 30, hours + 1)), doses[rng.integers(len(doses))])
        for _ in range(rng.integers(6))
    ]
    return intervals, tuple(sorted(given)), frozenset(rng.choice(FINDINGS, rng.integers(4), replace=False))


@pytest.mark.parametrize("seed", range(6))
def test_any_person_in_any_situation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [
        Treatment((EVERYTHING[i].doses[0], EVERYTHING[j].doses[0]))
        for i, j in rng.choice(np.arange(1, len(EVERYTHING)), (25, 2))
    ]
    menu = (*EVERYTHING, *pairs)
    patient = anybody(rng)
    for hours in (0.0, 1.0, 7.5):
        intervals, given, findings = situation(rng, hours)
        expected = plainly(menu, patient, intervals, given, hours, findings)
        assert np.array_equal(action_mask(menu, patient, intervals, given, hours, findings), expected)
        assert expected.any()
        assert not expected.all()


def test_it_raises_what_violations_raises_every_time() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="astma"):
            action_mask((WATCH, *EVERYTHING[1:3]), Patient(conditions=frozenset({"astma"})), {}, (), 0.0)


def test_watching_alone_is_always_allowed() -> None:
    assert action_mask((WATCH,), Patient(), {}, (), 0.0).tolist() == [True]
