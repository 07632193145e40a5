"""Boards and endings of many people, worked out together and kept, are those of each person alone."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology import FORMULARY, exposure, modulate, termination
from ecg_gym.pharmacology.hazards import HAZARDS
from ecg_gym.world_model import conditioning
from ecg_gym.world_model.conditioning import BOARD, ELECTROLYTES, MODULATION, boards, endings, modulations

PATIENTS = (Patient(weight_kg=60.0, potassium=3.1), Patient(creatinine_clearance=30.0), Patient(), Patient())


def histories(seed: int) -> tuple[tuple[Administration, ...], ...]:
    rng = np.random.default_rng(seed)
    doses = [t.doses[0] for t in FORMULARY.menu(list(FORMULARY.names)) if t]
    rows = [tuple(Administration(float(h), doses[rng.integers(len(doses))]) for h in sorted(rng.uniform(-5, 1, n)))
            for n in (2, 4, 0, 1)]  # fmt: skip
    return tuple(rows)


@pytest.mark.parametrize("seed", range(3))
def test_boards_are_each_persons_own(seed: int) -> None:
    taken, hours = histories(seed), np.array([1.0, 2.0, 3.0, 1.5])
    table, words = boards(taken, PATIENTS, hours), modulations(taken, PATIENTS, hours)
    assert table.shape == (4, len(BOARD))
    for row, word, given, patient, hour in zip(table, words, taken, PATIENTS, map(float, hours)):
        now = exposure(given, patient, hour)
        change = modulate(now, patient, clock_hours=hour)
        assert word == change
        numbers = [*[getattr(now, ion) for ion in ELECTROLYTES], *[getattr(change, name) for name in MODULATION]]
        assert np.array_equal(row, np.array(numbers, np.float32))


def test_endings_are_each_persons_own() -> None:
    adenosine = FORMULARY.menu(["adenosine"])[-1].doses[0]
    taken = (*histories(1)[:3], (Administration(1.0, adenosine),))
    start, end = np.array([1.0, 1.0, 0.0, 1.0]), np.array([2.0, 5.0, 1.0, 2.0])
    table = endings(taken, PATIENTS, start, end)
    for row, given, patient, begin, stop in zip(table, taken, PATIENTS, map(float, start), map(float, end)):
        result = termination(given, patient, begin, stop)
        assert np.array_equal(row, np.array([result[name] for name in HAZARDS], np.float32))
    assert table[3, 0] > 1
    assert not table[2].any()


def test_what_is_kept_is_not_worked_out_again_and_does_not_grow() -> None:
    kept: conditioning._Kept[int, int] = conditioning._Kept(most=3)
    request: list[list[int]] = []

    def squared(numbers: list[int]) -> list[int]:
        request.append(numbers)
        return [n * n for n in numbers]

    assert kept([1, 2, 1], squared) == [1, 4, 1]
    assert kept([2, 3], squared) == [4, 9]
    assert kept([4, 2], squared) == [16, 4]  # 1 is forgotten
    assert kept([1, 2, 4], squared) == [1, 4, 16]
    assert request == [[1, 2], [3], [4], [1]]
    assert kept(list(range(9)), squared) == [n * n for n in range(9)]
    assert len(kept._answers) == 3
