"""The cell against its published durations, and what blocks do to it."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.ord_cell import CELLS, PERIOD_MS, pace

BEATS = 40


def test_durations_at_60_per_minute_are_the_published_ones() -> None:
    """APD90 after 150 beats at 60/min, by an independent solver of the same model: endo 263, epi 213, mid 324 ms."""
    apd = [pace(cell, beats=150)[0][2] for cell in CELLS]
    assert apd == pytest.approx([263, 213, 324], abs=4)


def test_a_shorter_cycle_is_a_shorter_action_potential_and_a_state_goes_on() -> None:
    first, state = pace("endo", beats=BEATS)
    again, _ = pace("endo", beats=5, start=state)
    fast, _ = pace("endo", beats=BEATS, start=state, period_ms=PERIOD_MS / 2)
    assert again == pytest.approx(first, abs=2)
    assert fast[2] < first[2] - 20


def test_blocks_move_it_the_way_they_must() -> None:
    _, state = pace("endo", beats=BEATS)
    rest, ikr, inal, ical = (
        pace("endo", blocks, beats=BEATS, start=state)[0]
        for blocks in ({}, {"IKr": 0.35}, {"INaL": 0.6}, {"ICaL": 0.4})
    )
    assert ikr[2] - rest[2] == pytest.approx(65, abs=6)
    assert rest[2] - inal[2] == pytest.approx(30, abs=5)
    assert rest[2] - ical[2] == pytest.approx(21, abs=5)
    assert rest[0] < rest[1] < rest[2]


def test_half_the_step_is_the_same_cell() -> None:
    _, state = pace("epi", beats=BEATS)
    coarse, fine = (pace("epi", beats=3, start=state, dt=dt)[0] for dt in (0.01, 0.005))
    assert np.abs(coarse - fine).max() < 0.5
