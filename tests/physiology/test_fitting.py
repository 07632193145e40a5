"""The fit finds waves whose parameters are known, says how well it did, and admits when there was nothing to find."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.physiology import fitting, mcsharry
from ecg_gym.physiology.mcsharry import P, R, T

RATE_HZ = 250.0
TIME = np.arange(-75, 150) / RATE_HZ
R_INDEX = 75


def people(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres [s], widths [s] and heights [mV] ``(n, 5)`` of adults who differ."""
    rng = np.random.default_rng(seed)
    centre = np.array([-0.16, -0.03, 0, 0.032, 0.27]) + rng.normal(size=(n, 5)) * [0.02, 0.003, 0.001, 0.004, 0.03]
    width = np.array([0.02, 0.007, 0.010, 0.007, 0.04]) * np.exp(0.15 * rng.normal(size=(n, 5)))
    height = np.array([0.12, -0.08, 1, -0.2, 0.3]) * np.exp(0.3 * rng.normal(size=(n, 5)))
    return centre, width, height


def beats(centre: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The Gaussian sum ``(n, 225)`` [mV], written out here once more."""
    return (height[..., None] * np.exp(-0.5 * ((TIME - centre[..., None]) / width[..., None]) ** 2)).sum(axis=1)


def test_clean_waves_are_found_but_for_the_weak_expectation() -> None:
    """Every one of 64 people: P, Q, S within 1.2 ms, R 0.5 ms and T 0.1 ms of where they are."""
    centre, width, height = people(64)
    fit = fitting.fit(beats(centre, width, height) + 0.05, RATE_HZ, R_INDEX)
    assert (fit.r2 > 0.9999).all()
    error_ms = 1e3 * np.abs(fit.centre_s - centre).max(axis=0)
    assert (error_ms < [1.2, 1.2, 0.5, 1.2, 0.1]).all()
    np.testing.assert_allclose(fit.width_s, width, atol=1.5e-3)
    np.testing.assert_allclose(fit.amplitude_mv[:, [P, T]], height[:, [P, T]], atol=5e-3)
    np.testing.assert_allclose(fit.offset_mv, 0.05, atol=2e-3)


def test_noise_of_ten_microvolts_moves_p_and_t_by_milliseconds() -> None:
    centre, width, height = people(64)
    noisy = beats(centre, width, height) + 0.01 * np.random.default_rng(1).normal(size=(64, len(TIME)))
    fit = fitting.fit(noisy, RATE_HZ, R_INDEX)
    error_ms = 1e3 * np.abs(fit.centre_s - centre)
    assert np.quantile(error_ms[:, [P, R, T]], 0.9) < 2
    assert (fit.r2 > 0.98).all()


def test_the_fitted_trajectory_returns_to_the_beat() -> None:
    centre, width, height = people(8)
    rr = np.full(8, 1.0)
    fit = fitting.fit(beats(centre, width, height), RATE_HZ, R_INDEX)
    y = mcsharry.solve_exact(
        fit.waves(rr), rr[:, None], samples=225, rate_hz=RATE_HZ, theta_start=np.full(8, -2 * np.pi * 0.3),
        relaxation_per_s=0.0,
    )  # fmt: skip
    assert np.sqrt(np.mean((y - beats(centre, width, height)) ** 2)) < 2e-3


def test_height_and_rows_scale_as_they_must() -> None:
    centre, width, height = people(6, seed=3)
    beat = beats(centre, width, height)
    together = fitting.fit(beat, RATE_HZ, R_INDEX)
    for row in range(6):
        alone = fitting.fit(beat[row : row + 1], RATE_HZ, R_INDEX)
        np.testing.assert_allclose(alone.centre_s[0], together.centre_s[row], atol=1e-6)
    order = [3, 1, 5, 0, 2, 4]
    np.testing.assert_allclose(fitting.fit(beat[order], RATE_HZ, R_INDEX).r2, together.r2[order])


def test_samples_of_the_next_beat_are_left_out() -> None:
    """A window longer than RR holds the next P wave; marked as not valid it changes nothing."""
    centre, width, height = people(4, seed=5)
    beat = beats(centre, width, height)
    next_p = beat + 0.15 * np.exp(-0.5 * ((TIME - 0.56) / 0.02) ** 2)
    valid = np.tile(TIME < 0.48, (4, 1))
    with_mask = fitting.fit(next_p, RATE_HZ, R_INDEX, valid=valid)
    np.testing.assert_allclose(with_mask.r2, fitting.fit(beat, RATE_HZ, R_INDEX, valid=valid).r2, atol=1e-4)
    assert (with_mask.r2 > fitting.fit(next_p, RATE_HZ, R_INDEX).r2 + 1e-3).all()


def test_noise_explains_nothing_and_nan_is_admitted() -> None:
    noise = 0.2 * np.random.default_rng(2).normal(size=(16, len(TIME)))
    assert (fitting.fit(noise, RATE_HZ, R_INDEX).r2 < 0.5).all()
    noise[3, 7] = np.nan
    fit = fitting.fit(noise, RATE_HZ, R_INDEX)
    assert np.isnan(fit.r2[3])
    assert np.isfinite(fit.centre_s).all()
    flat = fitting.fit(np.zeros((1, len(TIME))), RATE_HZ, R_INDEX)
    assert np.isnan(flat.r2[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_an_inverted_t_stays_inverted(sign: int) -> None:
    centre, width, height = people(8, seed=7)
    height[:, T] *= sign
    fit = fitting.fit(beats(centre, width, height), RATE_HZ, R_INDEX)
    assert (np.sign(fit.amplitude_mv[:, T]) == sign).all()
