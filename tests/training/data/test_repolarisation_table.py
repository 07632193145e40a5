"""How the shipped table is made of solved durations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecg_gym.pharmacology.repolarisation import table
from training.data.repolarisation_table import BLOCKS, coefficients, filled, write


def test_what_is_missing_or_alternates_is_carried_on() -> None:
    apd = np.tile(np.linspace(200.0, 360.0, 9)[None, :, None], (3, 1, 2))
    apd[0, 7, 0], apd[1, 8, 1] = np.nan, 60.0
    whole, count = filled(apd)
    assert count == 2
    assert whole[0, 7, 0] == 340.0
    assert whole[1, 8, 1] == 360.0


def test_the_table_of_the_package_is_that_of_the_script(tmp_path: Path) -> None:
    known = table()
    polynomial, iks = coefficients(known.apd_ms, known.apd_iks_ms)
    assert [tuple(grid) for grid in known.blocks] == [BLOCKS[name] for name in BLOCKS]
    assert np.allclose(polynomial, known.coefficients, atol=1e-4)
    assert np.allclose(iks, known.iks_coefficients, atol=1e-4)
    write(tmp_path / "again.npz", (known.apd_ms, known.apd_iks_ms))
    with np.load(tmp_path / "again.npz", allow_pickle=False) as again:
        assert np.array_equal(again["apd_ms"], known.apd_ms.astype(np.float32))
