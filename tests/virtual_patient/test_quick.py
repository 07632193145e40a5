"""The quick ways to a strip beside the plain ones they stand for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ecg_gym.core import MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S
from ecg_gym.pharmacology.modulation import REST
from ecg_gym.virtual_patient import draw_heart, synthesise
from ecg_gym.virtual_patient.fibrillation import _harmonics, _sines
from ecg_gym.virtual_patient.lead_field import _lead_field, _torso
from ecg_gym.virtual_patient.strip import RATE_HZ, Marks
from ecg_gym.virtual_patient.world import _SECONDS, _SPARE_S, _decimated, _first_r, model_strip


def decimated_plainly(signal: np.ndarray) -> np.ndarray:
    """The whole strip ``(12, T)`` without anything above 0.5 of the model rate, at its own rate."""
    spectrum = np.fft.rfft(signal, axis=1)
    hz = np.fft.rfftfreq(signal.shape[1], 1 / RATE_HZ)
    low, high = 0.42 * MODEL_RATE_HZ, 0.5 * MODEL_RATE_HZ
    keep = 0.5 * (1 + np.cos(np.pi * np.clip((hz - low) / (high - low), 0, 1)))
    return np.fft.irfft(spectrum * keep, signal.shape[1], axis=1)


@pytest.mark.parametrize("rhythm", ["sinus", "af_rapid", "vt", "paced", "vf"])
def test_a_model_strip_is_every_fifth_sample_of_the_filtered_strip(rhythm: str) -> None:
    for seed in range(2):
        heart = draw_heart(np.random.default_rng(seed), rhythm=rhythm)
        signal, truth = synthesise(heart, REST, np.random.default_rng(seed), RATE_HZ, _SECONDS + _SPARE_S)
        start = _first_r(signal, truth) - round(R_PEAK_OFFSET_S * RATE_HZ)
        plainly = decimated_plainly(signal.astype(float))[:, start + 5 * np.arange(MODEL_SAMPLES)]
        quickly, _ = model_strip(heart, REST, np.random.default_rng(seed))
        np.testing.assert_allclose(quickly, plainly, atol=1e-6)


def test_decimation_wraps_around_both_ends_like_the_transform() -> None:
    signal = np.sin(2 * np.pi * 7 * np.arange(6758) / 6758 + np.arange(8)[:, None]).astype(np.float32)  # 7 whole waves
    for start in (0, 26, 1638):
        at = start + 5 * np.arange(MODEL_SAMPLES)
        expected = np.sin(2 * np.pi * 7 * at / 6758 + np.arange(8)[:, None])
        np.testing.assert_allclose(_decimated(signal, start), expected, atol=2e-6)


def test_decimation_leaves_nothing_above_half_the_model_rate() -> None:
    t = np.arange(6758) / RATE_HZ
    fast = np.tile(np.sin(2 * np.pi * 60.0 * t), (8, 1)).astype(np.float32)
    assert np.abs(_decimated(fast, 1000)).max() < 2e-3  # the jump at the ends rings a little
    assert np.abs(_decimated(fast, 1000)[:, 300:700]).max() < 1e-5


def test_harmonics_and_sines_by_powers_and_angles() -> None:
    rng = np.random.default_rng(0)
    phase = rng.uniform(-300, 300, (3, 500))
    for heights in ([1.0], [1, 0.35, 0.15], [0.4, 0, 0.2, 0.1]):
        plainly = sum(h * np.sin(k * phase) for k, h in enumerate(heights, 1))
        np.testing.assert_allclose(_harmonics(phase, heights), plainly, atol=1e-12)
    step, start = rng.uniform(1e-4, 0.3, 3), rng.uniform(0, 7, 3)
    for samples in (1, 127, 128, 1000):
        plainly = np.sin(start[:, None] + step[:, None] * np.arange(samples))
        np.testing.assert_allclose(_sines(step, start, samples), plainly, atol=1e-12)


def test_the_lead_field_is_the_sum_over_elements() -> None:
    position = np.random.default_rng(0).normal([20, 10, 30], 25, (70, 3))
    centres, transfer = _torso()
    away = centres[None] - position[:, None]
    away /= np.sum(away**2, axis=-1, keepdims=True) ** 1.5
    plainly = np.einsum("ef,nfk->enk", transfer, away)
    np.testing.assert_allclose(_lead_field(position), plainly, rtol=0, atol=1e-12 * np.abs(plainly).max())


@pytest.mark.parametrize("rhythm", ["sinus", "af_rapid", "vf"])
def test_marks_are_worked_out_when_looked_at_and_survive_a_pickle(rhythm: str) -> None:
    heart = draw_heart(np.random.default_rng(1), rhythm=rhythm)
    _, truth = model_strip(heart, REST, np.random.default_rng(1))
    marks = truth.fiducials
    assert isinstance(marks, Marks)
    again = pickle.loads(pickle.dumps(marks))
    later = marks.moved(2.5)
    assert list(again) == list(marks)
    assert ("qrs_onset" in marks) == (rhythm != "vf")
    assert ("p_onset" in marks) == (rhythm == "sinus")
    for name, times in marks.items():
        assert np.array_equal(again[name], times, equal_nan=True)
        np.testing.assert_allclose(later[name], times + 2.5)
    if rhythm == "sinus":
        assert marks["qrs_onset"].shape == truth.qrs_s.shape
        assert (np.abs(marks["qrs_onset"] - truth.qrs_s) < 0.03).all()
        assert (np.diff([marks[name][1] for name in ("qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end")]) > 0).all()
    with pytest.raises(KeyError):
        marks["u_wave"]
