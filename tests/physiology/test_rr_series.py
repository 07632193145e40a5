"""RR series: exactly the rate and spread that were asked for, and the ones a recorded strip has."""

from __future__ import annotations

import numpy as np
import pytest
from strips import strip

from ecg_gym.core import MODEL_RATE_HZ, R_PEAK_OFFSET_S
from ecg_gym.physiology import beats_of, draw_beats, recorded_beats, recorded_rhythm, usual_sd_ms
from ecg_gym.physiology.rr_series import SPAN_S


def inside(beats: np.ndarray) -> np.ndarray:
    """The intervals of one row that end within the strip."""
    return beats[np.cumsum(beats) < SPAN_S]


@pytest.mark.parametrize("regular", [True, False])
def test_mean_and_spread_are_those_asked_for(regular: bool) -> None:
    hr, sd = np.array([45.0, 60.0, 72.3, 110.0]), np.array([60.0, 35.0, 20.0, 10.0])
    beats = draw_beats(np.random.default_rng(0), hr, sd, regular=np.full(4, regular))
    for row, rate, spread in zip(beats, hr, sd):
        assert 60 / inside(row).mean() == pytest.approx(rate)
        assert 1e3 * inside(row).std() == pytest.approx(spread)
        assert row.sum() > SPAN_S


def test_breaths_are_seen_and_fibrillation_has_no_memory() -> None:
    n = 300
    lag = {}
    for regular in (True, False):
        beats = draw_beats(np.random.default_rng(0), np.full(n, 90.0), 30.0, regular=np.full(n, regular))
        rows = np.stack([inside(row)[:13] for row in beats]) - 60 / 90
        lag[regular] = np.mean(rows[:, 1:] * rows[:, :-1]) / np.mean(rows**2)
    assert lag[True] > 0.3
    assert abs(lag[False]) < 0.15


def test_rows_depend_on_their_own_generator() -> None:
    def rngs() -> list[np.random.Generator]:
        return [np.random.default_rng(seed) for seed in (1, 2)]

    both = draw_beats(rngs(), np.array([50.0, 130.0]))
    alone = draw_beats(rngs()[1:], np.array([130.0]))
    k = min(both.shape[1], alone.shape[1])
    np.testing.assert_allclose(inside(both[1]), inside(alone[0]))
    assert k > 20


def test_unusual_is_what_faster_hearts_vary() -> None:
    assert usual_sd_ms(np.array([60.0]))[0] > usual_sd_ms(np.array([90.0]))[0]
    np.testing.assert_allclose(usual_sd_ms(np.array([75.0]), np.array([22.0]), np.array([75.0])), 22.0)


def test_a_recorded_series_is_read_back() -> None:
    request = draw_beats(np.random.default_rng(3), np.array([65.0, 80.0]), 50.0)
    result = recorded_beats(strip(request))
    for row, own in zip(result, request):
        n = len(inside(own)) - 1
        np.testing.assert_allclose(row[:n], own[:n], atol=0.002)


def test_series_begin_at_the_first_r_peak_and_reach_the_end() -> None:
    first = R_PEAK_OFFSET_S * MODEL_RATE_HZ
    peaks = [np.array([5.0, first, first + 60, first + 130]), np.array([first]), np.array([])]
    beats = beats_of(peaks)
    np.testing.assert_allclose(beats[0, :3] * MODEL_RATE_HZ, [60, 70, 70])
    assert beats[0].sum() > SPAN_S
    assert np.isnan(beats[1:]).all()


def test_a_beat_before_the_first_is_part_of_the_rhythm() -> None:
    ecg = strip(np.array([[0.30, *[0.8] * 14]]))  # as long as the one before it, which begins at 0.1 s
    beats_s, first_s = recorded_rhythm(ecg)
    assert first_s[0] == pytest.approx(R_PEAK_OFFSET_S - 0.30, abs=0.002)
    np.testing.assert_allclose(beats_s[0, :8], [0.30, 0.30, *[0.8] * 6], atol=0.005)  # a T wave under R moves its peak
    np.testing.assert_allclose(recorded_beats(ecg)[0, :8], beats_s[0, 1:9])
    assert first_s[0] + beats_s[0].sum() > SPAN_S + R_PEAK_OFFSET_S


def test_a_rate_that_is_none_is_answered_with_a_letter() -> None:
    with pytest.raises(ValueError, match="rows with beats only"):
        draw_beats(np.random.default_rng(0), np.array([60.0, np.nan]))
