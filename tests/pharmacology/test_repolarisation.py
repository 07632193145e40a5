"""The cell's table: against the published durations, its own polynomials, and what reserve means."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.pharmacology.repolarisation import repolarisation, table


def factors(ikr: float = 0.0, inal: float = 0.0, ical: float = 0.0, iks: float = 0.0) -> tuple[float, float]:
    apd, dispersion = repolarisation(*(np.array([b]) for b in (ikr, inal, ical, iks)))
    return float(apd[0]), float(dispersion[0])


def test_nothing_blocked_is_exactly_one() -> None:
    assert factors() == (1.0, 1.0)


def test_durations_are_those_of_an_independent_solution() -> None:
    """APD90 at 60/min of the same model solved by Myokit: endo 263, epi 210 to 213, mid 312 to 324 ms."""
    known = table()
    rest = [float(known.apd_ms[cell, 3, 0, 0, 2]) for cell in range(3)]
    assert rest == pytest.approx([263, 211, 313], abs=3)


def test_interaction_is_that_of_the_independent_solution() -> None:
    """Endo, change of APD90 [ms]: IKr block 0.35 and 0.5 make +65 and +103, INaL block 0.6 takes 30 off rest."""
    known = table()
    endo, grid = known.apd_ms[0, :, :, 0, 2], known.blocks[0]
    longer = np.interp([0.35, 0.5], grid, endo[:, 0]) - endo[3, 0]
    assert longer == pytest.approx([65, 103], abs=3)
    assert endo[3, 0] - endo[3, 2] == pytest.approx(30, abs=1)
    assert endo[3, 0] - endo[3, 2] < endo[6, 0] - endo[6, 2]  # more off a long one
    assert (endo[6, 0] - known.apd_ms[1, 6, 0, 0, 2]) > (endo[6, 2] - known.apd_ms[1, 6, 2, 0, 2]) + 10  # and unevenly


def test_polynomials_stand_for_the_table() -> None:
    known = table()
    blocks = np.meshgrid(*known.blocks, indexing="ij")
    apd, dispersion = repolarisation(*blocks, np.zeros(blocks[0].shape))
    mid, epi = known.apd_ms[2, ..., 2], known.apd_ms[1, ..., 2] - known.apd_ms[1, ..., 1]
    assert np.abs(apd * mid[3, 0, 0] - mid).max() < 2.0  # [ms] of 560
    assert np.abs(dispersion * epi[3, 0, 0] - epi).max() < 0.5


@pytest.mark.parametrize("blocks", [{}, {"inal": 0.5}, {"ical": 0.3}, {"iks": 0.4}])
def test_more_block_of_ikr_is_longer_and_more_than_proportionally(blocks: dict[str, float]) -> None:
    apd = np.array([factors(ikr, **blocks)[0] for ikr in np.arange(-0.5, 0.71, 0.05)])
    steps = np.diff(apd)
    assert (steps > 0).all()
    assert (np.diff(steps) > 0).all()


def test_edges_hold_and_nothing_is_made_up_beyond_them() -> None:
    assert factors(0.95) == factors(0.75)
    assert factors(0.0, 0.0, 0.9) == factors(0.0, 0.0, 0.5)
